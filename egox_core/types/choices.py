"""Name the choices that several rooms offer, as types and as lists for menus."""

from typing import Literal, get_args

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
