"""Define the options of rendering the ego prior, and presets of them."""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal, get_args

import torch

from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..types import (
    DYNAMIC_CHOICES,
    HIDDEN_LINES,
    RELEASED_RANGE,
    Dynamic,
    ExoLens,
    HiddenLines,
    ScaleSource,
    is_a,
)
from .splat_points import SplatOptions

Static = Literal["farthest", "mean"]
CPU = torch.device("cpu")
OFF = float("inf")


@frozen
class PriorOptions:
    """Options of what is drawn of the scene, and how.

    Raises:
        EgoXInputError: unknown dynamic handling, device, static background or handling of hidden
            sight lines.
    """

    splat: SplatOptions = field(default_factory=SplatOptions)
    device: str = "auto"  # torch's name of what points are drawn on; auto: a GPU if there is one
    far_m: float = 1000.0  # distance in metres; farther points are left out
    # points with a larger relative depth step to a neighbour in exo are left out
    max_edge: float = 0.03
    # points that hang between two surfaces by a larger relative step are left out
    max_stray: float = 1.0
    # points around which exo depth ranges over a larger share of its mean (5 x 5) are left out
    max_range: float = OFF
    # the background: each pixel's farthest depth, or mean over time
    static: Static = "farthest"
    coarse: bool = False  # only the samples that the released renderer takes: every second each way
    # moving points: all, none (the paper's way), all but the wearer's body or head
    dynamic: Dynamic = "keep"
    supersample: int = 1  # pictures are drawn this many times finer and averaged: smooth outlines
    # style surface: half a patch in samples for filling gaps between patches; 0: not filled
    gap_reach: float = 0.0
    # half the widest gap that is filled, px of a picture of the reference height
    gap_px: float = 2.0
    # metres; "without head" and "without wearer" leave out all within it of the camera
    head_radius_m: float = 0.25
    # those two also leave out what moves on exo lines of sight that meet the wearer's head
    head_sight: bool = False
    # size of the scene against one of people's size (a toy room: 0.1): how many times as long the
    # head's radius and the distance of the nearest points are
    scene_scale: float = 1.0
    # points that are seen through a place that no exo frame has seen empty
    hidden_lines: HiddenLines = "draw"
    # of the take that is drawn, where a preset of the whole way chooses them; None: as the source
    # has it
    exo_lens: ExoLens | None = None
    scale: ScaleSource | None = None

    def torch_device(self) -> torch.device:
        """Resolve the option ``device`` to a torch device."""
        if self.device != "auto":
            return torch.device(self.device)
        kinds = (kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_available())
        return torch.device(next(kinds, "cpu"))

    def __post_init__(self) -> None:
        check_choice("dynamic handling", self.dynamic, DYNAMIC_CHOICES)
        try:
            self.torch_device()
        except RuntimeError as error:
            raise EgoXInputError(
                "device", got=repr(self.device), expected="auto, cpu, cuda, xpu", fix="correct it"
            ) from error
        if not 0 < self.scene_scale < OFF:
            raise EgoXInputError(
                "scene_scale",
                got=self.scene_scale,
                expected="a number above 0",
                fix="give the size of the scene against one of people's size",
            )
        check_choice("static background", self.static, get_args(Static))
        check_choice("hidden sight lines", self.hidden_lines, HIDDEN_LINES)


# Fading discs of 5 px, the nearest 20 laid over each other, one point for every second pixel each
# way (a floor close by shows as stripes), none at an edge of depth, the mean over time, nothing
# that moves (paper, section 3.1).
RELEASED = PriorOptions(
    splat=SplatOptions(style="composite", radius_px=5.0, points_per_pixel=20),
    max_edge=OFF,
    max_stray=OFF,
    max_range=RELEASED_RANGE,
    static="mean",
    dynamic="leave out",
    coarse=True,
)
# Patches that follow depth and sampling density, cracks closed, outlines smoothed. The wearer's
# head, which the ego camera sits in, is left out: no camera sees the face that it is mounted on.
CLEAN = PriorOptions(
    splat=SplatOptions(style="surface"),
    max_edge=100.0,
    max_stray=0.03,
    dynamic="without head",
    head_radius_m=0.18,
    supersample=2,
    gap_reach=0.9,
    gap_px=2.0,
)
PRIOR_PRESETS: Mapping[str, PriorOptions] = {
    # What the authors' LoRA was trained on. Their in-the-wild script draws the moving person, too.
    "released": RELEASED,
    "released_wild": replace(RELEASED, dynamic="keep"),
    "clean": CLEAN,
    # A preset of the whole way, with lens and scale of its own. With them the place of the head is
    # known well enough to leave out all that exo sees of it: depth models melt heads into what is
    # around.
    "exact": replace(CLEAN, head_sight=True, exo_lens="raw where known", scale="wearer where seen"),
}


def prior_preset(name: str) -> PriorOptions:
    """Look up the options of a preset.

    Raises:
        EgoXInputError: no such preset.
    """
    check_choice("prior preset", name, PRIOR_PRESETS)
    return PRIOR_PRESETS[name]


def prior_options(preset: str | PriorOptions, **choices: object) -> PriorOptions:
    """Derive options from a preset and the fields that are chosen, of which None follow the preset.

    Raises:
        EgoXInputError: no such preset, a choice that its field doesn't have.
    """
    options = preset if is_a(preset, PriorOptions) else prior_preset(preset)
    made_choices = {name: value for name, value in choices.items() if value is not None}
    return replace(options, **made_choices)
