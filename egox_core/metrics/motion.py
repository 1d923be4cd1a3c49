"""Dynamic degree: does the video move? vbench's rule over RAFT flow; the network from a file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import EgoXInputError
from ..train.weights_file import read_header
from .columns import RAFT_WEIGHTS

RATE_FPS = 8.0
"""Frames are thinned to about this rate."""
UPDATES = 20
TOP_SHARE = 0.05
"""A pair's motion is the mean of the largest 5 % of flow lengths."""
THRESHOLD_PX, OF_SIDE_PX = 6.0, 256.0
MOVING_PAIRS, OF_FRAMES = 4, 16
SMALLEST = 128
"""Pixels a side that RAFT needs."""


class RaftFlow:
    """RAFT (large) flow between following frames.

    Raises:
        EgoXInputError: torchvision missing, the file missing or of another model.
    """

    def __init__(self, weights: Path) -> None:
        try:
            from torchvision.models.optical_flow import raft_large
        except ImportError as error:
            raise EgoXInputError("dynamic degree", got="torchvision is not installed", expected="torchvision",
                                 fix="pip install torchvision") from error
        read_header(weights, "RAFT weights")
        self.model = raft_large(weights=None).eval()
        try:
            self.model.load_state_dict(load_file(weights))
        except RuntimeError as error:
            raise EgoXInputError("RAFT weights", got=f"{weights.name!r} of another model",
                                 expected="torchvision's raft_large", fix=RAFT_WEIGHTS) from error

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """[T, H, W, 3] float 0...1 -> [T-1] px, the motion between following frames (see TOP_SHARE).

        Raises:
            EgoXInputError: under 128 px.
        """
        height, width = frames.shape[1:3]
        if min(height, width) < SMALLEST:
            raise EgoXInputError("dynamic degree", got=f"{width}x{height} px",
                                 expected=f"at least {SMALLEST}x{SMALLEST}", fix="leave --raft out")
        video = frames.float().movedim(-1, 1) * 2 - 1
        down, right = -height % 8, -width % 8  # RAFT works at an eighth
        video = torch.nn.functional.pad(video, (right // 2, right - right // 2, down // 2, down - down // 2),
                                        mode="replicate")
        lengths = []
        for first, second in zip(video[:-1], video[1:], strict=True):
            flow = self.model(first[None], second[None], num_flow_updates=UPDATES)[-1][0]
            flow = flow[:, down // 2 : down // 2 + height, right // 2 : right // 2 + width]
            lengths.append(top_mean(flow.norm(dim=0)))
        return torch.tensor(lengths)


def top_mean(lengths: Tensor) -> float:
    """Mean of the largest 5 % of [H, W] flow lengths."""
    return float(lengths.flatten().topk(max(1, int(lengths.numel() * TOP_SHARE))).values.double().mean())


def thinned(frames: Tensor, fps: float) -> Tensor:
    """Every n-th frame, so that about 8 a second are left."""
    return frames[:: max(1, round(fps / RATE_FPS))]


def is_dynamic(motion_px: Tensor, frame_count: int, side_px: int) -> bool:
    """Whether enough of the pairs' motions are over the threshold: 6 px of 256 (of the picture's shorter side), in 4 of
    16 frames.

    A clip of so few frames that no pair would be needed counts as moving, as it does in vbench once it has a pair.
    """
    over = int((motion_px > THRESHOLD_PX * side_px / OF_SIDE_PX).sum())
    return len(motion_px) > 0 and over >= round(MOVING_PAIRS * frame_count / OF_FRAMES)


@lru_cache(maxsize=1)
def raft_of(weights: Path) -> RaftFlow:
    """The network of a file, read once a process."""
    return RaftFlow(weights)
