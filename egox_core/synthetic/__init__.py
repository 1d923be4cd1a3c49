"""Synthetic takes: procedural exo/ego scenes with exact geometry (ground truth, licence-free sample, training data)."""

from .ground_truth import Covisible, covisible
from .spec import SyntheticSpec
from .take import SyntheticTake, make_take
from .take_files import write_take

__all__ = ["Covisible", "SyntheticSpec", "SyntheticTake", "covisible", "make_take", "write_take"]
