"""Settle the moments of a path's poses: their frames, and where their clock begins."""

from dataclasses import replace
from typing import Literal

import torch

from ..errors import EgoXInputError
from ..frames import TIME_UNITS_S, Numbering
from ..remarks import FactRow
from .declared import Declared
from .settle import Statement, settle

CLOCK_FACTS = "ego.time_offset_s", "ego.time_factor"
STEPS_S = (1 / 500 - 1e-6, 1 / 4 + 1e-6)
"""Median step of a tracker's times, in seconds: from 500 to 4 poses a second, rounded as in a file.

Units are a thousandth of each other, so that at most one fits."""


def settle_numbering(
    numbering: Numbering, declared: Declared, camera: Literal["ego", "exo"]
) -> tuple[Numbering, tuple[FactRow, ...]]:
    """Add what is declared of frames and clock to the numbering of a path's poses.

    Raises:
        EgoXInputError: poses without times, or of which the file says the video's own; times that
            nothing gives a unit.
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
    numbering, factor_row = _with_factor(numbering, declared)
    numbering = replace(numbering, offset_s=declared.value("ego.time_offset_s"))
    return numbering, (*rows, *declared.rows("ego.time_offset_s"), factor_row)


def _with_factor(numbering: Numbering, declared: Declared) -> tuple[Numbering, FactRow]:
    """Settle the seconds per unit of a path's times, by their median step where nobody says it."""
    times = torch.as_tensor(numbering.times_s)
    median_step = float(times.sort().values.diff().median()) if len(times) > 1 else 0.0
    fitting_units = [
        unit for unit in TIME_UNITS_S if STEPS_S[0] <= median_step * unit <= STEPS_S[1]
    ]
    if not median_step:  # one pose: its unit says nothing
        fitting_units = [1.0]
    form_unit_s = numbering.time_unit_s
    factor, row = settle(
        "ego.time_factor",
        [Statement("ego.time_factor", form_unit_s, f"header of {numbering.what}")],
        declared,
        next(iter(fitting_units), None),
        "the median step of its times",
        "declare ego.time_factor where it is another, as 1e-7 of ticks",
    )
    if factor is None:
        raise EgoXInputError(
            f"times of {numbering.what}",
            got=f"a median step of {median_step:g}, of which nothing says the unit",
            expected="4 to 500 poses a second, in s, ms, us or ns",
            fix="declare ego.time_factor, the seconds per unit of its times, such as 1e-9",
        )
    if form_unit_s is not None:
        # Beside a unit that the form states, a declared factor of about 1 is of its seconds.
        is_declared = declared.value("ego.time_factor") is not None
        if not is_declared or abs(factor - 1) < 0.5:
            times, factor = times * form_unit_s, factor if is_declared else 1.0
    return replace(numbering, times_s=times, time_unit_s=None, time_factor=factor), row
