"""Options of geometry-guided attention: mode and strength."""

import math
from collections.abc import Mapping

from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..types import GGA_MODES, GgaMode

DEFAULT_LAMBDA: Mapping[GgaMode, float] = {"released": 3.0, "paper": 1.0, "power": 1.0, "off": 0.0}
"""released: the authors' inference scripts (quirks 19). paper, power: the plain logarithm of the
weight."""


@frozen
class GgaOptions:
    """Mode and strength of geometry-guided attention.

    With g = 1 + cos, the bias on an ego query's exo keys is, in natural logarithm:

    ``released``: log(1 + lambda_g cos), where above lambda_g = 1 only positive cosines are scaled;
    1 is plain log g, 0 switches the geometry off. ``paper``: log g + log lambda_g (Eq. 4).
    ``power``: lambda_g log g, a graded strength. ``off``: none.

    Raises:
        EgoXInputError: unknown mode; lambda_g negative, NaN or infinite, or 0 in ``paper`` (it
            would silence the exo video).
    """

    mode: GgaMode = "released"
    # None asks for the mode's default, which __post_init__ puts in its place.
    lambda_g: float = None  # ty: ignore[invalid-assignment]
    # scale the bias by how far the depth behind a key is to be believed (not as released)
    soft_trust: bool = False

    def __post_init__(self) -> None:
        check_choice("attention mode", self.mode, GGA_MODES, "choose one of the named modes")
        if self.lambda_g is None:
            object.__setattr__(self, "lambda_g", DEFAULT_LAMBDA[self.mode])
        if not math.isfinite(self.lambda_g) or self.lambda_g < 0:
            raise EgoXInputError(
                "λ_g",
                got=self.lambda_g,
                expected="a number of 0 or more",
                fix=f"the default of mode {self.mode} is {DEFAULT_LAMBDA[self.mode]:g}",
            )
        if self.mode == "paper" and self.lambda_g == 0:
            raise EgoXInputError(
                "λ_g in mode paper",
                got=0,
                expected="more than 0",
                fix="log 0 would silence the exo video; use mode off for no geometry",
            )

    @property
    def biases(self) -> bool:
        """True if the options add any bias to the attention."""
        return self.mode != "off" and not (self.lambda_g == 0)
