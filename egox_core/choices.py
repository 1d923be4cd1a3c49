"""Name the choices that several rooms or a command line offer, as types and as lists for menus."""

from typing import Literal, get_args

from .errors import EgoXInputError

DepthKind = Literal["metric z", "relative z", "disparity"]
Resize = Literal["crop", "pad"]
MaskMode = Literal["released", "paper", "trainer"]
MASK_MODES: tuple[MaskMode, ...] = get_args(MaskMode)
ImageEmbeddingMode = Literal["released", "exo+prior", "exo only", "none"]
IMAGE_EMBEDDING_MODES: tuple[ImageEmbeddingMode, ...] = get_args(ImageEmbeddingMode)
RayMode = Literal["released", "exact", "pinhole"]
RAY_MODES: tuple[RayMode, ...] = get_args(RayMode)
HiddenLines = Literal["draw", "leave out"]
HIDDEN_LINES: tuple[HiddenLines, ...] = get_args(HiddenLines)
Dynamic = Literal["keep", "leave out", "without wearer", "without head"]
DYNAMIC_CHOICES: tuple[Dynamic, ...] = get_args(Dynamic)
Moving = Literal["auto", "mask", "none"]
"""Source of what moves: the depth's dynamic mask or, without one, a derived one (auto); the mask
alone (mask); nothing (none: everything is fused as static)."""
Motion = Literal["auto", "stands", "turns", "moves"]
AlignMode = Literal["least squares", "robust"]
ALIGN_MODES: tuple[AlignMode, ...] = get_args(AlignMode)
ExoLens = Literal["as given", "raw", "raw where known"]
ScaleSource = Literal["as is", "wearer", "wearer where seen"]
FROM_EDITOR = "pose editor"
"""Source of poses that a person set in the page's editor."""
FROM_HEAD_KEYPOINTS = "head keypoints"
"""Source of poses that were estimated on this very depth, from the head's alone. What the trunk
says besides isn't the metres, but it brings both together where the model melts the head into what
is behind it."""
GgaMode = Literal["released", "paper", "power", "off"]
GGA_MODES: tuple[GgaMode, ...] = get_args(GgaMode)
PriorPreset = Literal["released", "released_wild", "clean", "exact"]
"""Names of the presets of :mod:`.prior.options`."""
EgoCameraPreset = Literal["aria_released", "aria_meta", "pinhole"]
"""Names of the presets of :mod:`.cameras.presets`."""
FileFrames = Literal["auto", "source", "in use"]
FILE_FRAMES: tuple[FileFrames, ...] = get_args(FileFrames)
"""Entry i is: found out; frame i of the source video; the i-th frame in use."""
Shading = Literal["auto", "on", "off"]
SHADING_CHOICES: tuple[Shading, ...] = get_args(Shading)
Fill = Literal["room", "haze"]
FILL_CHOICES: tuple[Fill, ...] = get_args(Fill)
Stabilise = Literal["full", "horizon", "off", "upright"]
RobotCameras = Literal["both", "ego"]
"""Colour videos of a set: a robot has no exo camera, and diffusion policies want pictures of one
size."""
MIN_HAND_SHARE = 0.5
"""Share of a clip's frames below which a hand counts as never seen, where nobody says another."""
MAX_GAIN = 4.0
"""Largest factor of a preview's brightness: two stops of a camera's exposure."""


def check_gain(gain: float) -> None:
    """Refuse a factor of a preview's brightness that no picture has.

    Raises:
        EgoXInputError: not above 0, or above :data:`MAX_GAIN`.
    """
    if not 0 < gain <= MAX_GAIN:
        raise EgoXInputError(
            "gain of the preview",
            got=f"{gain:g}",
            expected=f"above 0, at most {MAX_GAIN:g}",
            fix="1 keeps the exo camera's brightness",
        )
