"""Poses that tests of many rooms use."""

import torch


def still(count: int) -> torch.Tensor:  # [T, 3, 4] float64
    """A camera that stays in the world's origin, along its axes."""
    return torch.eye(3, 4, dtype=torch.float64).repeat(count, 1, 1)
