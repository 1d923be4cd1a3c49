"""Pictures of the nodes' help pages: what goes in, what comes out. Synthetic takes only; `run.py make help`."""

from .registry import PICTURES, SAMPLED

__all__ = ["PICTURES", "SAMPLED"]
