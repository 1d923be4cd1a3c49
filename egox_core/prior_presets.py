"""Presets of the ego prior, as data."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import EgoXInputError
from .prior_options import PriorOptions
from .splat import SplatOptions

PRIOR_PRESETS: Mapping[str, PriorOptions] = {
    # What the authors' LoRA was trained on: fading discs of 5 px, the nearest 20 laid over each other.
    "released": PriorOptions(splat=SplatOptions(style="composite", radius_px=5.0, points_per_pixel=20)),
    # Patches that follow depth and sampling density.
    "clean": PriorOptions(splat=SplatOptions(style="surface")),
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
