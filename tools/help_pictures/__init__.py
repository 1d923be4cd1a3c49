"""Pictures of the nodes' help pages: what goes in, what comes out. Synthetic takes only; see make_help_pictures.py."""

from .registry import PICTURES, SAMPLED

__all__ = ["PICTURES", "SAMPLED"]
