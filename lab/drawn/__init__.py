"""Render synthetic takes: exo and ego videos of drawn scenes with exact geometry.

In: a :class:`SyntheticSpec` (equal specs give equal takes). Out: a :class:`SyntheticTake` (both
videos, exact depth, masks, poses, prompt), the take folder of it, which ego pixels exo sees
too, and its depth with a network's errors."""

from .depth_errors import DepthErrors, add_depth_errors
from .ground_truth import Covisible, covisible
from .spec import SyntheticSpec
from .take import SyntheticTake, make_take
from .take_files import write_take
