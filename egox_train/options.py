"""Define the options of commands as dataclasses, from which command line arguments are made."""

import argparse
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, field, fields
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from egox_core.choices import (
    FILE_FRAMES,
    MIN_HAND_SHARE,
    ExoLens,
    FileFrames,
    ImageEmbeddingMode,
    RayMode,
    RobotCameras,
    ScaleSource,
    Stabilise,
)
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen

if TYPE_CHECKING:
    from egox_core.facts import Declared

SCALE_SOURCES: Mapping[str, ScaleSource] = {"as-is": "as is", "wearer": "wearer"}
EXO_LENSES: Mapping[str, ExoLens] = {"as-given": "as given", "raw": "raw"}
"""Choices of an exo lens, by the word of the command line."""

ImageEmbedding = Literal[ImageEmbeddingMode, "trainer"]
Mode = Literal["released", "trainer", "paper"]
Rays = Literal[RayMode, "trainer"]
Split = Literal["train", "validation", "test"]
TextEncoding = Literal["released", "trainer"]
Engine = Literal["local", "ray"]
ComputeType = Literal["auto", "float32", "bfloat16"]
ProtocolName = Literal["table1"]
Layout = Literal["auto", "egoexo4d", "released", "take"]
SPLIT_HELP = (
    "train, validation or test, or several with commas; with --protocol also seen (validation) or "
    "unseen (test); without it all clips, so give the split of generate, which makes one alone"
)
Options = TypeVar("Options")


def parse_scale(text: str) -> ScaleSource | float:
    """Parse a depth scale from the command line: ``as-is``, ``wearer`` or a number.

    Raises:
        EgoXInputError: neither.
    """
    if text in SCALE_SOURCES:
        return SCALE_SOURCES[text]
    with suppress(ValueError):
        if 0 < (scale := float(text)) < math.inf:
            return scale
    raise EgoXInputError(
        "scale",
        got=repr(text),
        expected="as-is, wearer or a positive number",
        fix="a number multiplies the depth",
    )


def argument(default_value: Any = MISSING, help: str | None = None, **metadata: Any) -> Any:
    """Declare a dataclass field that is also a command line argument.

    Args:
        metadata: what the field's name, type and default don't tell argparse. ``flag``: another
            name;
            ``values``: the field's value by the word of a user; ``unset``: what stands for the
            field's default while nothing is given.
    """
    return field(default=default_value, metadata={"help": help, **metadata})


def add_dataclass_arguments(
    parser: argparse.ArgumentParser, options: type[Any], field_names: Collection[str] = ()
) -> None:
    """Add command line arguments for the fields of an options dataclass."""
    type_hints = get_type_hints(options)
    for entry in fields(options):
        if not entry.metadata or (field_names and entry.name not in field_names):
            continue
        argument_keywords = dict(entry.metadata)
        flag_name = argument_keywords.pop("flag", entry.name.replace("_", "-"))
        field_type, values = type_hints[entry.name], argument_keywords.pop("values", None)
        accepted_types = [field_type]
        if get_origin(field_type) in (Union, UnionType):
            accepted_types = [
                candidate_type
                for candidate_type in get_args(field_type)
                if candidate_type is not type(None)
            ]
        if field_type is bool:
            argument_keywords["action"] = "store_true"
        elif values or (
            "type" not in argument_keywords and get_origin(accepted_types[0]) is Literal
        ):
            argument_keywords["choices"] = tuple(values or get_args(accepted_types[0]))
        else:
            name = flag_name.upper().replace("-", "_")
            argument_keywords = {"type": accepted_types[0], "metavar": name, **argument_keywords}
        if entry.default is MISSING:
            argument_keywords["required"] = True
        elif field_type is not bool:
            argument_keywords["default"] = argument_keywords.pop("unset", entry.default)
        parser.add_argument(f"--{flag_name}", dest=entry.name, **argument_keywords)


def from_arguments(options: type[Options], args: argparse.Namespace, **overrides: Any) -> Options:
    """Build an options dataclass from parsed command line arguments.

    Raises:
        EgoXInputError: as the dataclass itself.
    """
    arguments = {}
    for entry in fields(options):  # ty: ignore[invalid-argument-type]
        if entry.metadata and hasattr(args, entry.name):
            value = getattr(args, entry.name)
            values: Mapping[str, Any] = entry.metadata.get("values") or {}
            value = tuple(value) if isinstance(value, list) else value
            arguments[entry.name] = values.get(value, value)
    return options(**{**arguments, **overrides})


def numbers_like(
    example: str, separator: str, number_type: type[float]
) -> Callable[[str], tuple[float, ...]]:
    """Create a parser for text with several numbers, as many as in the example."""

    def read(text: str) -> tuple[float, ...]:
        with suppress(ValueError):
            numbers = tuple(map(number_type, text.split(separator)))
            if len(numbers) == example.count(separator) + 1:
                return numbers
        raise argparse.ArgumentTypeError(f"{text!r} is not like {example}")

    return read


size_of_text = numbers_like("784x448", "x", int)
triple_of_text = numbers_like("0,-1,0", ",", float)


DECLARE_HELP = (
    "what you know of the take's files and they don't state, as depth.unit=cm or ego.axes=opengl "
    "(docs/conventions.md); may be given again"
)
DECLARE_KEYWORDS: Mapping[str, Any] = {
    "action": "append",
    "metavar": "FACT=VALUE",
    "help": DECLARE_HELP,
}
"""Keywords of the argument ``--declare``."""
FILE_FRAMES_KEYWORDS: Mapping[str, Any] = {
    "choices": FILE_FRAMES,
    "default": FILE_FRAMES[0],
    "help": "frames of the entries of files that don't state them: entry i of frame i of the video "
    "(source), or of the i-th frame in use; auto goes by their count",
}
"""Keywords of the argument ``--file-frames``."""


def declare_option() -> Any:
    """Make the option of a dataclass that is ``--declare``."""
    return argument((), DECLARE_HELP, type=str, action="append", unset=[], metavar="FACT=VALUE")


def declared_of(words: Sequence[str] | None) -> "Declared":
    """Read what the words of ``--declare`` say.

    Raises:
        EgoXInputError: no such fact or value, a fact twice.
    """
    from egox_core.facts import Declared

    return Declared.of("\n".join(words or ()))


def named_folder(text: str) -> tuple[str, Path]:
    """Split text of the form NAME=FOLDER into name and folder."""
    name, equals_sign, folder = text.partition("=")
    if not equals_sign or not name.strip() or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name.strip(), Path(folder)


@frozen
class RunOptions:
    """Options of commands that process many takes or clips: which ones, and in how many
    processes."""

    engine: Engine = argument("local", "a pool of processes here, or a Ray cluster")
    workers: int = argument(
        1, "processes at once; on a Ray cluster as many as it has CPUs and GPUs for"
    )
    part: tuple[int, int] = argument(
        (0, 1),
        "part I of N (from 0 on), as one of several processes or machines on one folder",
        flag="shard",
        type=numbers_like("0/2", "/", int),
        metavar="I/N",
    )
    clips: int = argument(0, "only N clips, spread over all", metavar="N")
    dry_run: bool = argument(
        False,
        "make one clip on --device in a folder that is removed again, and say device hours, GB, "
        "and hours with 1, 8 and 64 devices",
    )


@frozen
class TrainingSetOptions:
    """Options of a training set: source layout, captions and splits."""

    layout: Layout = argument("auto", "kind of the source; auto: by its files")
    ego_path: Path | None = argument(
        None,
        "poses of the wearer's camera where meta.json has none: a file in each take's folder, such "
        "as poses.tum, in any form that Ego Pose Input reads and in the world of camera_extrinsics",
        metavar="FILE",
    )
    captions: Path | None = argument(
        None, "JSON, .jsonl or .csv: caption by name of a clip, take or video"
    )
    clip_lists: tuple[Path, ...] = argument(
        (),
        "lists of the clips to cut from raw Ego-Exo4D, with their splits: the authors' "
        "meta_train.json and others, their tables, or your own (docs/paper_table.md)",
        flag="clips",
        nargs="+",
        type=Path,
        metavar="LIST",
    )
    validation: float = argument(0.05, "share of takes held out for validation")
    test: float = argument(0.05, "share of takes held out for tests")
    split_seed: int = argument(0, "another number draws other rooms for validation and tests")
    splits: Literal["official", "rooms"] = argument(
        "official",
        "official: the dataset's own where it has one; rooms: by room or recording alone",
    )
    new_lens: bool = argument(
        False, "make clips again that are there with another lens of the wearer, as of version 1.2"
    )
    declare: tuple[str, ...] = declare_option()


DEFAULT_RUN_OPTIONS = RunOptions()
"""All of it in this process."""
DEFAULT_SET_OPTIONS = TrainingSetOptions()
ENGINE_OPTION_NAMES = ("engine", "workers")
"""Of :class:`RunOptions`, what every command over many takes has."""


@frozen
class CacheSettings:
    """Settings of a cache of encoded clips."""

    vae: Path = argument(help="diffusers folder, or ComfyUI's Wan VAE file")
    text: str = argument(
        help="text encoder (folder or ComfyUI's file), a file with one fixed embedding, or "
        "zeros:TOKENSxDIM"
    )
    clip_vision: Path | None = argument(None, "for models with an image embedding (Wan 2.1 I2V)")
    image_embedding: ImageEmbedding = argument(
        "released",
        "what CLIP vision sees, as conditioning.image_embedding of the training; none for a base "
        "without it (Wan 2.2)",
    )
    rays: Rays = argument(
        "released", "sight lines of the attention, as conditioning.rays of the training"
    )
    text_encoding: TextEncoding = argument(
        "released", "trainer: unmasked and padded, as the released trainer encodes"
    )
    views: bool = argument(False, "also what training a base on single views needs")
    # of latents and embeddings; directions stay float32
    dtype: Literal["bfloat16", "float16", "float32"] = argument(
        "bfloat16", "number format of the latents and embeddings"
    )
    shard_clips: int = argument(16, "most clips in a shard, all of one take")
    encoder_dtype: ComputeType = argument(
        "auto",
        "of the encoders of text and pictures, as generate --dtype; the VAE computes in float32",
    )
    device: str = argument("cpu", "device of the encoders; cuda:0,cuda:1 spreads the workers")


@frozen
class GenerateOptions:
    """Options of ``generate``: model, conditioning and sampling."""

    base: Path = argument(help="the Wan model (file or diffusers folder) of the LoRA's training")
    vae: Path = argument(help="the cache's VAE")
    lora: Path | None = argument(None, "its metadata sets mask, rays and lambda_g")
    strength: float = argument(1.0, "multiplies what the LoRA changes")
    split: Split = argument("validation", "this split is made; give it to evaluate, too")
    steps: int = argument(50, "sampling steps")
    shift: float = argument(3.0, "shift of the schedule towards high noise")
    recompute_exo: int = argument(
        1,
        "compute exo at every N-th step and keep it between (4: about half the time; 0: once)",
        metavar="N",
    )
    seed: int = argument(1234, "of the noise")
    cfg: float = argument(1.0, "guidance scale; the authors use 5, twice the time")
    negative: str = argument("", "negative prompt of the guidance; default: empty, as the authors'")
    # see wan.text.make_text_encoder
    text: str | None = argument(None, "text encoder of the cache, to encode the negative prompt")
    mode: Mode | None = argument(None, "instead of the LoRA's own")
    lambda_g: float | None = argument(None, "instead of the LoRA's own")
    keep_observed: float = argument(
        0.0,
        "put the prior's own pixels back where exo observed them and the model shows the same "
        "thing: 0 none, 1 all of them",
    )
    dtype: ComputeType = argument(
        "auto",
        "auto: bfloat16 on a GPU, and on a CPU whose products are faster in it, else float32",
    )
    device: str = argument("cpu", "cuda:0,cuda:1 spreads the workers")
    stereo: Path | None = argument(
        None,
        "the clips' manifest: writes <clip>_180_LR.mp4 for headsets, too",
        metavar="MANIFEST",
    )
    stabilise: Stabilise = argument(
        "full", "of these: upright sets the world level, full keeps the head's mean pitch"
    )
    straighten: Literal["off", "picture", "camera"] = argument(
        "off",
        "picture: turns a clip that is 5 degrees or more off its path back. camera: writes the "
        "poses that it shows into <clip>.json instead. Both write the measured turn there",
    )
    manifest: Path | None = argument(None, "the clips' manifest, for --straighten")

    @property
    def text_file(self) -> Path | None:
        """Path of the text encoder's file or folder, None without one."""
        has_no_file = self.text is None or self.text.startswith("zeros:")
        return None if has_no_file or self.cfg == 1.0 else Path(self.text)


@frozen
class CalibrateOptions:
    """Options of ``calibrate``: what the user knows about a recording."""

    ego_lens: str = argument(
        "free",
        "the head camera's: free, phone, fisheye, gopro-wide, gopro-linear, aria, a JSON file "
        "with a camera, or Aria's own online_calibration.jsonl",
    )
    exo_lens: str = argument("free", "the fixed cameras', likewise")
    path: Path | None = argument(
        None, "poses of the head camera, in any file form that the pack reads", metavar="FILE"
    )
    offset_s: float | None = argument(
        None, "seconds that a moment is later in ego than in exo; default: by sound", flag="offset"
    )
    depth_model: Path | None = argument(
        None,
        "folder of a metric depth model (as for prepare), which tells the scale by exo's picture",
        metavar="FOLDER",
    )
    eye_height_m: float = argument(
        1.6, "of the head camera over the floor while the wearer stands, metres", flag="eye-height"
    )
    declare: tuple[str, ...] = declare_option()


@frozen
class HeadOptions:
    """Options for estimating the head poses of a take."""

    person: int | None = argument(
        None,
        "number of the person who wears the camera, where several are seen; from 0",
        metavar="N",
    )
    mask: Path | None = argument(
        None, "of the wearer: video, npz or folder of PNG; chooses the person, too"
    )
    offset: tuple[float, float, float] = argument(
        (0.0, 0.0, 0.0),
        "metres by which the camera sits elsewhere than that of Aria glasses",
        type=triple_of_text,
        metavar="RIGHT,DOWN,FORWARD",
    )
    pitch_deg: float = argument(0.0, "degrees that it looks further up", flag="pitch")
    exo_lens: ExoLens = argument(
        "as given",
        "the exo camera's lens: the file's K, or the raw lens of Ego-Exo4D's videos",
        values=EXO_LENSES,
    )
    up: tuple[float, float, float] | None = argument(
        None,
        "upwards in the take's world (default: found by the exo camera, floor and walls)",
        type=triple_of_text,
        metavar="X,Y,Z",
    )
    clicks: tuple[tuple[float, float, float], ...] = argument(
        (),
        "a pixel of exo.mp4 that the wearer looks at in this frame; may be given again",
        flag="look-at",
        type=triple_of_text,
        action="append",
        unset=[],
        metavar="FRAME,X,Y",
    )
    entry: str = argument("", "the take's name, where meta.json lists several")
    file_frames: FileFrames = argument(
        "auto", "frames of key points that don't state them; source: the i-th are of frame i"
    )
    declare: tuple[str, ...] = declare_option()


@frozen
class EvaluateOptions:
    """Options of ``evaluate``, besides the generated videos."""

    masks: Path | None = argument(
        None, "folder with <clip>.npz, object masks as `masks` makes them (docs/evaluation.md)"
    )
    # (name, folder)
    also: tuple[tuple[str, Path], ...] = argument(
        (),
        "another method's videos of the same clips, in the same tables; may be given again. "
        "With a name that is there (generated, too): another seed's, in the row of that name",
        type=named_folder,
        action="append",
        unset=[],
        metavar="NAME=FOLDER",
    )
    split: str = argument("", SPLIT_HELP)
    baselines: bool = True
    # of metrics.columns.WEIGHTS; what lacks them isn't computed
    weights: Mapping[str, Path] = field(default_factory=dict)
    device: str = argument("cpu", "device of the networks; cuda:0,cuda:1 spreads the workers")
    sheet_clips: int = argument(12, "clips on the contact sheet, 0: none", flag="sheet")
    protocol: ProtocolName | None = argument(
        None,
        "table1: the columns of the paper's Table 1 by the rules that reproduce them, of canvases, "
        "ego videos, and folders without a manifest, too; --split seen or unseen adds the "
        "published rows",
    )
    fit_colour: Path | None = argument(
        None,
        "the LoRA that made the videos at strength 1: the gains that take its tint back are fitted "
        "on these clips and kept in the file, for Decode Ego Half's colour 'tint'",
        metavar="LORA",
    )


@frozen
class MaskOptions:
    """Options of ``masks``: the model that tracks objects, and the clips to process."""

    model: Path = argument(help="folder of a SAM 2 video model")
    split: str = argument("", SPLIT_HELP)
    first: Path | None = argument(
        None,
        "folder with <clip>.png: each object's number in the true video's first frame, 0 "
        "elsewhere; a clip without one takes the objects that a grid of points hits, for `evaluate "
        "--dino`",
    )
    device: str = argument("cpu", "device of the model; cuda:0,cuda:1 spreads the workers")
    protocol: ProtocolName | None = argument(
        None, "table1: all objects of the first frame, by the rules of `evaluate --protocol table1`"
    )


@frozen
class RobotOptions:
    """Options of ``lerobot``: which data of the clips are written."""

    clips: Path = argument(
        help="folder of takes, or a set of `prepare` (its manifest.jsonl says the tasks)"
    )
    out: Path = argument(help="folder of the data set; one that is there is continued")
    ego: Path | None = argument(
        None, "folder with <clip>.mp4, as `generate` writes them; without it the true ego videos"
    )
    task: str = argument("", "the task, for clips whose set doesn't state it (default: the prompt)")
    fps: int = argument(0, "frames a second; 0: as the set has, or its first clip")
    resample: bool = argument(
        False, "take the nearest frames where a clip's times are others than the set's"
    )
    rectify_deg: float = argument(
        0.0, "redraw ego without the fisheye, so many degrees wide", flag="rectify", metavar="DEG"
    )
    depth: bool = argument(
        False, "add the scene's depth in the ego camera, which LeRobot reads from 0.6 on"
    )
    seen: bool = argument(False, "add what of the ego picture exo saw")
    cameras: RobotCameras = argument(
        "both", "videos of the set; ego: for policies of one picture, or that want all of one size"
    )
    min_hand_share: float = argument(
        MIN_HAND_SHARE,
        "a hand that is valid in a smaller share of a clip counts as never seen; a clip in which "
        "neither reaches it is left out",
    )
    detected: Path | None = argument(
        None,
        "folder with <clip>.json, hands that a detector saw in the ego videos, in their camera",
    )
    file_frames: FileFrames = argument(
        "auto", "frames of hands that aren't one for each of the video: source, or in use"
    )
    strict: bool = argument(False, "leave out clips whose cameras don't fit the pictures")
    check: bool = argument(False, "say of each clip whether its cameras fit, and write nothing")
    made_by: str = argument("", "model and weights that made the ego videos, for the data card")
    gpu_hours: float | None = argument(None, "for an hour of video, for the data card")
    license: str = argument("", "of the set, as the hub names it (cc-by-4.0), for the data card")
    declare: tuple[str, ...] = declare_option()
