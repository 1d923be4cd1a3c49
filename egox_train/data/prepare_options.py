"""Options of ``prepare``. Everything in here goes into each clip's fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from egox_core.errors import EgoXInputError, check_choice
from egox_core.prior.options import PRESET_GEOMETRY, prior_preset
from egox_core.sizes import REFERENCE_EXO_SIZE, REFERENCE_SIZE, latent_frames, latent_size
from egox_core.takes.exo_camera import ExoLens
from egox_core.takes.metric_scale import ScaleSource

from ..parallel import RemoteModels

DepthSource = Literal["files", "plane", "model"]
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
DRAWING = ("clips_per_camera", "clips_per_take", "most_clips", "draw", "draw_seed")
"""Options that choose among the clips of a plan."""
CHOOSES_CLIPS = (*DRAWING, "stride", "task_s", "cameras")
"""Options that say which clips are made; all others change what is in them."""
Draw = Literal["spread", "random"]
PictureChoice = Literal["undistorted", "as filmed"]
EXO_PICTURES: Mapping[str, PictureChoice] = {"undistorted": "undistorted", "as-filmed": "as filmed"}
"""Choices of a user, by the word of the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """Clips, cameras, depth and prior.

    Raises:
        EgoXInputError: frame count not 4n+1, sizes no multiple of 16, ego not as high as exo,
            unknown choices.
    """

    frames: int = 49
    stride: int = 49  # source frames from one clip's start to the next
    step: int = 1  # every n-th source frame
    # start and end of the task in the source video, seconds
    task_s: tuple[float, float] | None = None
    clips_per_camera: int = 0  # 0: all
    clips_per_take: int = 0  # of all its cameras, 0: all
    most_clips: int = 0  # of all takes, each of which gives as evenly as it can; 0: all
    draw: Draw = "spread"  # which, where there are more: evenly over time, or by chance
    draw_seed: int = 0
    exo_size: tuple[int, int] = REFERENCE_EXO_SIZE  # (width, height) px
    ego_size: int = REFERENCE_SIZE
    cameras: int = 0  # keep the best so many exo cameras of a take, 0: all
    undistort: Literal["inside", "all"] = "inside"
    exo_fov_deg: float = 110.0  # widest horizontal view of an undistorted exo camera
    depth: DepthSource = "files"
    # depth files <take>__<camera>.npz of the videos that ``undistort`` writes
    depth_root: Path | None = None
    depth_model: Path | None = None  # folder of a metric depth model (transformers)
    relative_depth_model: Path | None = None  # of one that is steadier, to be aligned to it
    # folder of a vision-language model (transformers), where nobody wrote a caption
    caption_model: Path | None = None
    eye_height_m: float = 1.6  # of the wearer, for --depth plane
    prior: str = "released"  # preset of the renderer
    # None: the preset's; else raw for Ego-Exo4D's own folders, as given for meta.json
    exo_lens: ExoLens | None = None
    scale: ScaleSource | float | None = None  # of the depth; None: the preset's, else as is
    quality: int = 12  # x264 constant rate factor
    # of Ego-Exo4D's own folders; as filmed: the released LoRA's
    pictures: PictureChoice = "undistorted"
    # where depth, mask and caption models run; None: a GPU where there is one
    device: str | RemoteModels | None = None
    mask_root: Path | None = None  # masks <take>__<camera> of what moves, see takes.mask_files
    # folder of a segmentation model (transformers), where nobody made masks
    mask_model: Path | None = None
    mask_classes: tuple[str, ...] = MOVING_CLASSES  # of its labels, what counts as moving

    def __post_init__(self) -> None:
        latent_frames(self.frames)
        latent_size(*self.exo_size, "exo size")
        latent_size(self.ego_size, self.ego_size, "ego size")
        prior_preset(self.prior)
        if self.ego_size != self.exo_size[1]:
            raise EgoXInputError(
                "ego size",
                got=self.ego_size,
                expected=f"the exo height, {self.exo_size[1]}",
                fix="the two halves share one canvas",
            )
        check_choice("draw", self.draw, ("spread", "random"))
        for name in ("clips_per_camera", "clips_per_take", "most_clips", "cameras"):
            if getattr(self, name) < 0:
                raise EgoXInputError(
                    name,
                    got=getattr(self, name),
                    expected="a number, or 0 for all",
                    fix="correct it",
                )
        for name in ("stride", "step"):
            if getattr(self, name) < 1:
                raise EgoXInputError(
                    name, got=getattr(self, name), expected="1 or more", fix="correct it"
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
        if self.depth not in ("files", "plane", "model"):
            raise EgoXInputError(
                "depth", got=repr(self.depth), expected="files, plane or model", fix="choose one"
            )
        if self.depth == "model" and self.depth_model is None:
            raise EgoXInputError(
                "depth model",
                got="no weights",
                expected="--depth-model FOLDER",
                fix="give a metric depth model's folder, or --depth files or plane",
            )
        if self.depth != "model" and (self.depth_model or self.relative_depth_model):
            raise EgoXInputError(
                "depth",
                got=f"a depth model and depth {self.depth}",
                expected="one of the two",
                fix="leave the model out, or take --depth model",
            )
        if self.mask_root is not None and self.mask_model is not None:
            raise EgoXInputError(
                "masks",
                got="files and a model",
                expected="one of the two",
                fix="leave --mask-root or --mask-model out",
            )
        if self.pictures not in EXO_PICTURES.values():
            raise EgoXInputError(
                "pictures",
                got=repr(self.pictures),
                expected="undistorted or as filmed",
                fix="choose one",
            )
        if self.depth == "plane" and self.scale is not None:
            raise EgoXInputError(
                "scale",
                got=f"{self.scale!r} with stand-in depth",
                expected="depth of the exo video",
                fix="leave it out: the plane is in the poses' own metres",
            )

    @property
    def local_device(self) -> str | None:
        """The device by name; None: a GPU where there is one, or models elsewhere."""
        return self.device if isinstance(self.device, str) else None

    @property
    def source_lens(self) -> ExoLens | None:
        """The exo lens to read takes with; None: as their layout has it. Pictures as filmed go with
        the K as given."""
        return (
            self.exo_lens
            or PRESET_GEOMETRY.get(self.prior, (None, None))[0]
            or ("as given" if self.pictures == "as filmed" else None)
        )

    @property
    def depth_scale(self) -> ScaleSource | float:
        """The scale to bring depth to."""
        if self.depth == "plane":
            return "as is"
        return (
            self.scale
            if self.scale is not None
            else PRESET_GEOMETRY.get(self.prior, (None, "as is"))[1]
        )

    def content(self) -> dict[str, object]:
        """Options that change a clip's contents; the number of clips doesn't."""
        kept = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in CHOOSES_CLIPS
            and field.name not in ("depth_root", "mask_root", "device")
        }
        kept["depth_model"] = self.depth_model.name if self.depth_model else None
        for key in ("caption_model", "relative_depth_model", "mask_model"):
            kept[key] = kept[key].name if kept[key] else None
        if self.mask_model is None:
            del kept["mask_classes"]
        return kept
