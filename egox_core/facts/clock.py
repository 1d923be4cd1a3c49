"""Settle the moments of a path's poses: their frames, and where their clock begins."""

from dataclasses import replace
from typing import Literal

from ..errors import EgoXInputError
from ..frames import Numbering
from ..remarks import FactRow
from .declared import Declared

CLOCK_FACTS = "ego.time_offset_s", "ego.time_factor"


def settle_numbering(
    numbering: Numbering, declared: Declared, camera: Literal["ego", "exo"]
) -> tuple[Numbering, tuple[FactRow, ...]]:
    """Add what is declared of frames and clock to the numbering of a path's poses.

    Raises:
        EgoXInputError: poses without times, or of which the file says the video's own.
    """
    frame_facts = f"{camera}.frames", f"{camera}.every_nth"
    file_frames, every_nth = map(declared.argument_value, frame_facts)
    numbering = replace(numbering, file_frames=file_frames, every_nth=every_nth)
    rows = declared.rows(*frame_facts)
    if camera != "ego" or not any(map(declared.by_name.get, CLOCK_FACTS)):
        return numbering, rows
    if numbering.times_s is None or numbering.times_of_video:
        raise EgoXInputError(
            f"clock of {numbering.what}",
            got="poses whose file has no clock of its own",
            expected="times of another clock, as TUM has",
            fix=f"leave {' and '.join(CLOCK_FACTS)} out",
        )
    return replace(
        numbering,
        offset_s=declared.value("ego.time_offset_s"),
        time_factor=declared.value("ego.time_factor"),
    ), (*rows, *declared.rows(*CLOCK_FACTS))
