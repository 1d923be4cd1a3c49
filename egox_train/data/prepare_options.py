"""Define the options of ``prepare``."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from egox_core.choices import (
    HIDDEN_LINES,
    ExoLens,
    FileFrames,
    HiddenLines,
    Motion,
    PriorPreset,
    ScaleSource,
)
from egox_core.errors import EgoXInputError, check_choice
from egox_core.frozen import frozen
from egox_core.sizes import REFERENCE_EXO_SIZE, REFERENCE_SIZE, latent_frames, latent_size

from ..options import EXO_LENSES, argument, parse_scale, size_of_text
from ..parallel import RemoteModels

if TYPE_CHECKING:
    from egox_core.prior import PriorOptions

DepthSource = Literal["files", "plane", "model"]
PARTS_FOLDER = "parts"
"""Of a training set: what each ``--shard`` writes for ``join``."""
MOVING_CLASSES = (
    # The words of ViPE, which made the released depth and masks (configs/pipeline/default.yaml,
    # init.instance.phrases).
    "person",
    "animal",
    "vehicle",
    "ball",
    "balloon",
    "gun",
    "pet",
    "car",
    "bus",
    # The same things by the labels of COCO, ADE20K and Cityscapes.
    "people",
    "rider",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "bicycle",
    "motorcycle",
    "minibike",
    "airplane",
    "train",
    "truck",
    "van",
    "boat",
    "sports ball",
)
"""Labels of a mask model that count as moving."""
DRAW_OPTION_NAMES = ("clips_per_camera", "clips_per_take", "most_clips", "draw", "draw_seed")
"""Options that choose among the clips of a plan."""
CLIP_CHOICE_OPTION_NAMES = (*DRAW_OPTION_NAMES, "stride", "task_s", "cameras", "least_coverage")
"""Options that say which clips are made; all others change what is in them."""
PICTURE_OPTION_NAMES = ("exo_size", "pictures", "undistort", "exo_fov_deg", "exo_lens", "quality")
"""Options that decide how an exo picture looks: ``prepare`` and ``undistort`` are given the
same."""
Draw = Literal["spread", "random"]
PictureChoice = Literal["undistorted", "as filmed"]
EXO_PICTURES: Mapping[str, PictureChoice] = {"undistorted": "undistorted", "as-filmed": "as filmed"}
"""Choices of a user, by the word of the command line."""


@frozen
class PrepareOptions:
    """Options of ``prepare`` for clips, cameras, depth and prior.

    Raises:
        EgoXInputError: frame count not 4n+1, sizes no multiple of 16, ego not as high as exo,
            unknown choices.
    """

    exo_size: tuple[int, int] = argument(
        REFERENCE_EXO_SIZE,
        "exo size; ego is as high, and square",
        flag="size",
        type=size_of_text,
        metavar="SIZE",
    )
    ego_size: int = REFERENCE_SIZE
    pictures: PictureChoice = argument(
        "undistorted",
        "exo pictures of Ego-Exo4D; as-filmed, with the lens as given, is what the released LoRA "
        "was trained on. Takes with a meta.json stay as filmed",
        values=EXO_PICTURES,
    )
    undistort: Literal["inside", "all"] = argument(
        "inside", "no black corner, or everything the lens saw"
    )
    exo_fov_deg: float = argument(
        110.0, "widest view of an undistorted exo, degrees", flag="exo-fov"
    )
    # None: the preset's, else by layout
    exo_lens: ExoLens | None = argument(
        None,
        "default: raw for Ego-Exo4D's own folders, as-given for takes with a meta.json and for "
        "pictures as filmed",
        values=EXO_LENSES,
    )
    quality: int = argument(12, "x264 rate factor of the videos, smaller is better")
    frames: int = argument(49, "frames per clip, 4n+1")
    stride: int = argument(49, "source frames from one clip's start to the next")
    step: int = argument(1, "take every n-th source frame")
    task_s: tuple[float, float] | None = argument(
        None,
        "seconds of the video between which clips are taken, of one take or of those that "
        "takes.json doesn't time",
        flag="task",
        type=float,
        nargs=2,
        metavar=("START", "END"),
    )
    clips_per_camera: int = argument(0, "at most so many, 0: all")
    clips_per_take: int = argument(0, "at most so many of all its cameras, 0: all")
    most_clips: int = argument(
        0, "at most so many of all takes, of each as evenly as can be, 0: all"
    )
    draw: Draw = argument(
        "spread",
        "which clips, where there are more: evenly over the take's time, or by chance",
    )
    draw_seed: int = argument(0, "of --draw random")
    cameras: int = argument(0, "keep the best so many exo cameras of a take, 0: all")
    depth: DepthSource = argument(
        "files",
        "default: model where --depth-model is given, else files; plane: the floor under the "
        "wearer as stand-in depth",
        unset=None,
    )
    depth_root: Path | None = argument(
        None, "depth <take>__<camera> (.npz, .npy, .zip or a folder) of the videos of undistort"
    )
    depth_model: Path | None = argument(
        None,
        "a metric depth model, and optionally a relative one that is aligned to it",
        nargs="+",
        metavar="FOLDER",
    )
    relative_depth_model: Path | None = None
    mask_root: Path | None = argument(
        None, "masks <take>__<camera> (.mkv, .mp4, .npz or a folder of PNG) of what moves there"
    )
    mask_model: Path | None = argument(
        None, "folder of a segmentation model, where there are no masks"
    )
    mask_classes: tuple[str, ...] = argument(
        MOVING_CLASSES,
        (
            "labels of --mask-model that are treated as moving (default: people, animals, "
            "vehicles, balls)"
        ),
        type=str,
        nargs="+",
        metavar="LABEL",
    )
    device: str | RemoteModels | None = argument(
        None,
        (
            "device of the depth, mask and caption models and of drawing; default: a GPU if there "
            "is one"
        ),
        type=str,
    )
    eye_height_m: float = argument(
        1.6, "of the wearer, metres, for --depth plane", flag="eye-height"
    )
    prior: PriorPreset = argument(
        "released",
        "preset of the prior renderer; released_wild also draws what moves, exact takes the raw "
        "lens and the wearer's scale",
    )
    hidden_lines: HiddenLines = argument(
        "draw",
        "points of the prior that are seen through places which no exo frame has seen empty; "
        "released: draw",
    )
    # None: the preset's, else as is
    scale: ScaleSource | float | None = argument(
        None, "of the depth (default: as-is)", type=parse_scale, metavar="as-is|wearer|NUMBER"
    )
    exo_motion: Motion = argument(
        "stands", "motion of the exo cameras, if poses per frame aren't given; auto: detected"
    )
    least_coverage: float = argument(
        0.0,
        "leave out clips whose prior covers a smaller share of the ego picture; 0: those that it "
        "covers nothing of (not with --depth plane)",
        metavar="SHARE",
    )
    file_frames: FileFrames = argument(
        "auto",
        "frames of depth, masks and hands that don't state them; source: the i-th is of frame i, "
        "also where a file ends before its video",
    )
    one_shot: bool = argument(
        False, "take what looks like a cut as none: a lamp, a shadow or a person made the change"
    )
    draw_anyway: bool = argument(
        False,
        "draw priors also where the ego camera can't be, seen from exo; the notes then report it",
    )
    caption_model: Path | None = argument(
        None, "folder of a vision-language model, for clips without a caption of their own"
    )

    def __post_init__(self) -> None:
        latent_frames(self.frames)
        latent_size(*self.exo_size, "exo size")
        latent_size(self.ego_size, self.ego_size, "ego size")
        self.preset()
        if self.ego_size != self.exo_size[1]:
            raise EgoXInputError(
                "ego size",
                got=self.ego_size,
                expected=f"the exo height, {self.exo_size[1]}",
                fix="the two halves share one canvas",
            )
        for name, choices in (
            ("draw", get_args(Draw)),
            ("depth", get_args(DepthSource)),
            ("hidden_lines", HIDDEN_LINES),
            ("exo_motion", get_args(Motion)),
            ("pictures", get_args(PictureChoice)),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in (
            "stride",
            "step",
            "clips_per_camera",
            "clips_per_take",
            "most_clips",
            "cameras",
        ):
            smallest_value = int(name in ("stride", "step"))
            if getattr(self, name) < smallest_value:
                raise EgoXInputError(
                    name,
                    got=getattr(self, name),
                    expected=f"{smallest_value} or more",
                    fix="correct it",
                )
        if not 0 <= self.least_coverage < 1:
            raise EgoXInputError(
                "least coverage",
                got=self.least_coverage,
                expected="a share from 0 to below 1",
                fix="0.05 leaves out clips whose prior covers under 5 % of the picture",
            )
        if self.task_s is not None and not 0 <= self.task_s[0] < self.task_s[1]:
            raise EgoXInputError(
                "task",
                got=f"{self.task_s[0]:g} to {self.task_s[1]:g} s",
                expected="a start from 0 on and a later end",
                fix="give both in seconds of the video",
            )
        if not 20 <= self.exo_fov_deg <= 150:
            raise EgoXInputError(
                "exo field of view",
                got=self.exo_fov_deg,
                expected="20 to 150 degrees",
                fix="110 keeps about the fisheye's own resolution in the middle",
            )
        if self.depth == "model" and self.depth_model is None:
            raise EgoXInputError(
                "depth model",
                got="no weights",
                expected="--depth-model FOLDER",
                fix="give --depth-model FOLDER, or --depth files or plane",
            )
        if self.depth != "model" and (self.depth_model or self.relative_depth_model):
            raise EgoXInputError(
                "depth",
                got=f"a depth model and depth {self.depth}",
                expected="one of the two",
                fix="leave --depth-model out, or give --depth model",
            )
        if self.mask_root is not None and self.mask_model is not None:
            raise EgoXInputError(
                "masks",
                got="files and a model",
                expected="one of the two",
                fix="leave --mask-root out, or leave --mask-model out",
            )
        for name, value in (("--scale", self.scale), ("--exo-motion", self.exo_motion)):
            if self.depth == "plane" and value not in (None, "stands"):
                raise EgoXInputError(
                    name,
                    got=f"{value!r} with stand-in depth",
                    expected="depth of the exo video",
                    fix=f"leave {name} out: the plane is in the poses' own metres",
                )

    @property
    def local_device(self) -> str | None:
        """Name of the device on which models run in this process, None for an automatic choice."""
        return self.device if isinstance(self.device, str) else None

    def preset(self) -> "PriorOptions":
        """Look up the options of the prior's preset.

        Raises:
            EgoXInputError: no such preset.
        """
        from egox_core.prior import prior_preset  # imports torch, which a wrong flag needn't

        return prior_preset(self.prior)

    @property
    def source_lens(self) -> ExoLens | None:
        """Choice of the exo lens with which takes are read, None for the default."""
        return (
            self.exo_lens
            or self.preset().exo_lens
            or ("as given" if self.pictures == "as filmed" else None)
        )

    @property
    def depth_scale(self) -> ScaleSource | float:
        """Requested scale factor of the depth."""
        if self.depth == "plane":
            return "as is"
        return self.scale if self.scale is not None else self.preset().scale or "as is"

    def content(self) -> dict[str, object]:
        """List the options that change a clip's contents."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in CLIP_CHOICE_OPTION_NAMES
            and field.name not in ("depth_root", "mask_root", "device", "draw_anyway", "one_shot")
        }
        for key in ("depth_model", "caption_model", "relative_depth_model", "mask_model"):
            values[key] = values[key].name if values[key] else None
        if self.mask_model is None:
            del values["mask_classes"]
        if self.exo_motion == "stands":  # clips of older versions keep their fingerprint
            del values["exo_motion"]
        if self.hidden_lines == "draw":
            del values["hidden_lines"]
        if self.file_frames == "auto":
            del values["file_frames"]
        return values
