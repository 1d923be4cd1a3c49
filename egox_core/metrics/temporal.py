"""Motion smoothness by vbench's rule: can every second frame be interpolated from its neighbours? AMT-S from a file.

Dynamic degree: does the video move? vbench's rule over RAFT flow; the network from a file.

Temporal flickering by its definition, which needs no weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import EgoXInputError
from ..wan.weights import read_header
from .columns import AMT_WEIGHTS, RAFT_WEIGHTS

Between = Callable[[Tensor, Tensor], Tensor]
"""Frames [1, 3, H, W] float 0...1 twice -> the frame half way between them."""
DIVISOR = 16
SMALLEST_PX = 128
"""Pixels a side: AMT-S compares at an eighth of it and three times half of that; one pixel there has no scale (NaN)."""
NETWORK = {"corr_radius": 3, "corr_lvls": 4, "num_flows": 3}  # vbench's AMT-S.yaml
RATE_FPS = 8.0
"""Frames are thinned to about this rate."""
UPDATES = 20
TOP_SHARE = 0.05
"""A pair's motion is the mean of the largest 5 % of flow lengths."""
THRESHOLD_PX, OF_SIDE_PX = 6.0, 256.0
MOVING_PAIRS, OF_FRAMES = 4, 16
SMALLEST = 128
"""Pixels a side that RAFT needs."""


class AmtBetween:
    """AMT-S as vbench has it.

    Raises:
        EgoXInputError: vbench's code missing, the file missing or of another model.
    """

    def __init__(self, weights: Path) -> None:
        read_header(weights, "AMT-S weights")
        self.model = _amt_module().Model(**NETWORK).eval()
        try:
            self.model.load_state_dict(load_file(weights))
        except RuntimeError as error:
            raise EgoXInputError("AMT-S weights", got=f"{weights.name!r} of another model", expected="AMT-S",
                                 fix=AMT_WEIGHTS) from error

    @torch.no_grad()
    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        height, width = before.shape[-2:]
        down, right = -height % DIVISOR, -width % DIVISOR
        sides = (right // 2, right - right // 2, down // 2, down - down // 2)
        before, after = (torch.nn.functional.pad(x, sides, mode="replicate") for x in (before, after))
        half_way = torch.full((1, 1, 1, 1), 0.5)
        found = self.model(before, after, half_way, scale_factor=1.0, eval=True)["imgt_pred"]
        return found[..., down // 2 : down // 2 + height, right // 2 : right // 2 + width]


def motion_smoothness(frames: Tensor, between: Between) -> float:
    """[T, H, W, 3] float 0...1 -> 1 - mean absolute difference of the odd frames to what lies between their
    neighbours, in 0...1; 1: all motion is as even as the interpolation. A last frame without a successor is left out.

    Raises:
        EgoXInputError: fewer than three frames, pictures under 128 px.
    """
    if len(frames) < 3 or min(frames.shape[1:3]) < SMALLEST_PX:
        raise EgoXInputError("motion smoothness", got=f"{tuple(frames.shape)}",
                             expected=f"at least three frames of {SMALLEST_PX}x{SMALLEST_PX}", fix="leave --amt out")
    video = frames.float().movedim(-1, 1)
    gaps = []
    for middle in range(1, len(video) - 1, 2):
        made = between(video[middle - 1, None], video[middle + 1, None]).clamp(0, 1)
        made = (made * 255).floor() / 255  # vbench cuts to whole levels before it compares
        gaps.append(float((made[0] - video[middle]).abs().double().mean()))
    return 1.0 - sum(gaps) / len(gaps)


def _amt_module() -> ModuleType:
    """vbench's AMT-S network without the rest of vbench, whose start needs packages of other versions than ours.

    Raises:
        EgoXInputError: vbench isn't there, or its network needs something that is missing.
    """
    name = "vbench.third_party.amt.networks.AMT-S"
    spec = importlib.util.find_spec("vbench")
    if spec is None or not spec.submodule_search_locations:
        raise EgoXInputError("motion smoothness", got="vbench is not installed", expected="its code (not its packages)",
                             fix="pip install --no-deps vbench")
    # A package object with its path and nothing run; vbench.__init__ would import all of vbench's metrics.
    shell = ModuleType("vbench")
    shell.__path__ = list(spec.submodule_search_locations)
    before = sys.modules.get("vbench")
    sys.modules["vbench"] = before or shell
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EgoXInputError("motion smoothness", got=f"vbench's AMT-S can't be imported ({error})",
                             expected="vbench 0.1.5 or newer", fix="pip install --no-deps --upgrade vbench") from error
    finally:
        if before is None:
            del sys.modules["vbench"]


@lru_cache(maxsize=1)
def amt_of(weights: Path) -> AmtBetween:
    """The network of a file, read once a process."""
    return AmtBetween(weights)


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


def temporal_flickering(frames: Tensor) -> float:
    """[T, H, W, 3] float 0...1 -> 1 - mean |following frame - frame|, in 0...1; 1: nothing changes.

    vbench's measure (255 - mean difference) / 255. It is meant for still scenes: a moving head lowers it as flicker
    does, so it only means something beside the true video's own value.

    Raises:
        EgoXInputError: fewer than two frames.
    """
    if len(frames) < 2:
        raise EgoXInputError("temporal flickering", got=f"{len(frames)} frames", expected="at least 2",
                             fix="evaluate a video, not a picture")
    return 1.0 - float((frames[1:] - frames[:-1]).abs().double().mean())
