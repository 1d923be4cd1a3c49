"""Presets of the ego prior, as data."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import EgoXInputError
from .prior_options import PriorOptions
from .splat import SplatOptions

PRIOR_PRESETS: Mapping[str, PriorOptions] = {
    # What the authors' LoRA was trained on: fading discs of 5 px, the nearest 20 laid over each other, nothing that
    # moves (paper, section 3.1), one point for every second pixel each way: a floor close by shows as stripes.
    "released": PriorOptions(splat=SplatOptions(style="composite", radius_px=5.0, points_per_pixel=20),
                             dynamic="leave out", coarse=True),
    # Patches that follow depth and sampling density, cracks closed, outlines smoothed.
    # The wearer's head, which the ego camera sits in, is left out: no camera sees the face that it is mounted on.
    "clean": PriorOptions(splat=SplatOptions(style="surface"), max_edge=100.0, max_stray=0.03, dynamic="without head",
                          head_radius_m=0.18, supersample=2, gap_reach=0.9, gap_px=2.0),
    # For the demo's small model only, whose VAE smears the hard edges of black holes over what lies beside them. Every
    # number is written out: the picture must stay what that model knows, whatever becomes of clean and the defaults.
    "faded": PriorOptions(
        splat=SplatOptions(style="surface", reach=0.52, blend=1.0, min_size_px=1.0, max_size_px=20.0,
                           depth_tolerance=0.003),
        near_m=0.05, far_m=1000.0, max_edge=100.0, max_stray=0.03, coarse=False, dynamic="without head",
        head_radius_m=0.18, supersample=2, gap_reach=0.9, gap_px=2.0, background=(0.0, 0.0, 0.0), holes="fade"),
}


def prior_preset(name: str) -> PriorOptions:
    """The preset's options.

    Raises:
        EgoXInputError: no such preset.
    """
    if name not in PRIOR_PRESETS:
        raise EgoXInputError("prior preset", got=repr(name), expected=f"one of {sorted(PRIOR_PRESETS)}",
                             fix="choose a named preset")
    return PRIOR_PRESETS[name]
