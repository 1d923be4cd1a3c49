"""State, declare and settle the facts of a take: units, axes, worlds, clocks, kinds.

In: what each source says (:class:`Statement`, :class:`StatedPoses`) and what the user says
(:class:`Declared`). Out: one value per fact, and a row (:class:`.remarks.FactRow`) that tells who
gave it and who said otherwise. Readers state and settle nothing; stages compute and choose nothing.
"""

from .clock import settle_numbering
from .declared import NOTHING_DECLARED, Declared
from .depth_maps import ceiling_of, settle_depth
from .exo_lens import StatedLens, settle_lens
from .poses import (
    MOUNT_FACTS,
    SAME_POSE,
    StatedPoses,
    first_posed,
    path_of_array,
    same_poses,
    settle_poses,
    with_exo_axes,
)
from .settle import Statement, settle
from .table import FACTS, UNITS_M
from .unread import unread_fields, unread_row
