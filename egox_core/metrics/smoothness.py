"""Motion smoothness by vbench's rule: can every second frame be interpolated from its neighbours? AMT-S from a file."""

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
from ..train.weights_file import read_header
from .columns import AMT_WEIGHTS

Between = Callable[[Tensor, Tensor], Tensor]
"""Frames [1, 3, H, W] float 0...1 twice -> the frame half way between them."""
DIVISOR = 16
SMALLEST_PX = 128
"""Pixels a side: AMT-S compares at an eighth of it and three times half of that; one pixel there has no scale (NaN)."""
NETWORK = {"corr_radius": 3, "corr_lvls": 4, "num_flows": 3}  # vbench's AMT-S.yaml


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
