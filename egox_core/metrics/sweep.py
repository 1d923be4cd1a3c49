"""Plan a sweep over λ_g and LoRA strength."""

import math

from ..errors import EgoXInputError
from ..frozen import frozen

MAX_POINTS = 64
"""More are refused: every one is a whole sampling run."""


@frozen
class SweepPoint:
    """Settings of one run of a sweep."""

    lambda_g: float
    strength: float  # of the LoRA

    @property
    def label(self) -> str:
        return f"lambda_g {self.lambda_g:g}, LoRA {self.strength:g}"


def read_numbers(text: str, label: str) -> tuple[float, ...]:
    """Read numbers separated by commas, semicolons or spaces, without repetitions.

    Raises:
        EgoXInputError: none, or something that is no finite number.
    """
    numbers = []
    for part in text.replace(",", " ").replace(";", " ").split():
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise EgoXInputError(
                label,
                got=repr(part),
                expected="numbers separated by commas",
                fix="write for instance 0, 1, 3",
            )
        numbers.append(number)
    if not numbers:
        raise EgoXInputError(
            label, got="nothing", expected="at least one number", fix="write for instance 0, 1, 3"
        )
    return tuple(dict.fromkeys(numbers))


def sweep_points(lambda_g: str, strength: str) -> tuple[SweepPoint, ...]:
    """Combine all values of λ_g with all LoRA strengths: one row per strength, one column per λ_g.

    λ_g changes fastest, since another strength changes the model's weights, which takes far longer
    to set up.

    Raises:
        EgoXInputError: as :func:`read_numbers`; more than MAX_POINTS pairs, a negative λ_g.
    """
    lambdas, strengths = read_numbers(lambda_g, "λ_g"), read_numbers(strength, "LoRA strength")
    count = len(lambdas) * len(strengths)
    if count > MAX_POINTS:
        raise EgoXInputError(
            "sweep",
            got=f"{len(lambdas)} x {len(strengths)} = {count} runs",
            expected=f"at most {MAX_POINTS}",
            fix="try fewer values at a time",
        )
    if min(lambdas) < 0:
        raise EgoXInputError(
            "λ_g", got=f"{min(lambdas):g}", expected="0 or more", fix="0 switches the geometry off"
        )
    return tuple(
        SweepPoint(lambda_g=lambda_g, strength=strength)
        for strength in strengths
        for lambda_g in lambdas
    )
