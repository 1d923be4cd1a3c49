"""Settle the clock of a path's times: where it begins in the video, and its unit."""

from dataclasses import replace
from typing import Literal

from ..errors import EgoXInputError
from ..frames import Numbering
from ..remarks import FactRow
from .declared import Declared
from .settle import settle

CLOCK_FACTS = "ego.time_offset_s", "ego.time_factor"


def settle_clock(
    numbering: Numbering, declared: Declared, camera: Literal["ego", "exo"]
) -> tuple[Numbering, tuple[FactRow, ...]]:
    """Add the declared clock to the numbering of a path's poses.

    Raises:
        EgoXInputError: poses without times, or of which the file says the video's own.
    """
    if camera != "ego" or not any(map(declared.by_name.get, CLOCK_FACTS)):
        return numbering, ()
    if numbering.times_s is None or numbering.times_of_video:
        raise EgoXInputError(
            f"clock of {numbering.what}",
            got="poses whose file has no clock of its own",
            expected="times of another clock, as TUM has",
            fix=f"leave {' and '.join(CLOCK_FACTS)} out",
        )
    rows = tuple(
        settle(fact, (), declared, None)[1] for fact in CLOCK_FACTS if fact in declared.by_name
    )
    return replace(
        numbering,
        offset_s=declared.value("ego.time_offset_s"),
        time_factor=declared.value("ego.time_factor"),
    ), rows
