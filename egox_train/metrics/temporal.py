"""Measure how a video changes over time by three metrics of vbench: flickering, smoothness and
dynamic degree.

Temporal flickering needs no weights. Motion smoothness asks whether every second frame can be
interpolated from its neighbours (AMT-S), dynamic degree whether the video moves at all (RAFT flow);
their networks come from files."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError, needs_package

from ..wan.weights import load_network
from .columns import AMT_WEIGHTS, RAFT_WEIGHTS

Interpolation = Callable[[Tensor, Tensor], Tensor]
"""Frames [1, 3, H, W] float 0...1 twice -> the frame half way between them."""
SMALLEST_PX = 128
"""Pixels a side, for both networks: they compare at an eighth of it and three times half of that,
where RAFT needs two pixels and one has no scale for AMT-S (NaN)."""
AMT_SIDE_MULTIPLE, RAFT_SIDE_MULTIPLE = 16, 8
"""Pixels that the sides must be multiples of; pictures are padded to them."""
AMT_NETWORK = {"corr_radius": 3, "corr_lvls": 4, "num_flows": 3}  # vbench's AMT-S.yaml
THINNED_FPS = 8.0
"""Frames are thinned to about this rate before their flow is taken."""
UPDATES = 20
LARGEST_SHARE = 0.05
"""A pair's motion is the mean of the largest 5 % of flow lengths."""
MOTION_THRESHOLD_PX, THRESHOLD_SIDE_PX = 6.0, 256.0
LEAST_MOVING_PAIRS, MOVING_PAIRS_FRAMES = 4, 16


def temporal_flickering(
    frames: Tensor,  # [T, H, W, 3] float 0...1
) -> float:
    """Compute how little consecutive frames differ, from 0 to 1 for a video without changes.

    vbench's measure (255 - mean difference) / 255. It is meant for still scenes: a moving head
    lowers it as flicker does, so it only means something beside the true video's own value.

    Raises:
        EgoXInputError: fewer than two frames.
    """
    if len(frames) < 2:
        raise EgoXInputError(
            "temporal flickering",
            got=f"{len(frames)} frames",
            expected="at least 2",
            fix="evaluate a video, not a single image",
        )
    return 1.0 - float((frames[1:] - frames[:-1]).abs().double().mean())


def motion_smoothness(
    frames: Tensor,  # [T, H, W, 3] float 0...1
    interpolate: Interpolation,
) -> float:
    """Compute how well odd frames agree with an interpolation of their neighbours.

    In 0...1, where 1 means that all motion is as even as the interpolation. A last frame
    without a successor is left out.

    Raises:
        EgoXInputError: fewer than three frames, pictures under 128 px.
    """
    if len(frames) < 3 or min(frames.shape[1:3]) < SMALLEST_PX:
        raise EgoXInputError(
            "motion smoothness",
            got=f"{tuple(frames.shape)}",
            expected=f"at least three frames of {SMALLEST_PX}x{SMALLEST_PX}",
            fix="leave --amt out",
        )
    channel_first_video = frames.float().movedim(-1, 1)
    frame_differences = []
    for frame_index in range(1, len(channel_first_video) - 1, 2):
        interpolated_frame = interpolate(
            channel_first_video[frame_index - 1, None], channel_first_video[frame_index + 1, None]
        ).clamp(0, 1)
        interpolated_frame = (
            interpolated_frame * 255
        ).floor() / 255  # vbench cuts to whole levels before it compares
        frame_differences.append(
            float((interpolated_frame[0] - channel_first_video[frame_index]).abs().double().mean())
        )
    return 1.0 - sum(frame_differences) / len(frame_differences)


class AmtInterpolation:
    """AMT-S network, which interpolates frames as vbench does.

    Raises:
        EgoXInputError: vbench's code missing, the file missing or of another model.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        self.device = device
        self.model = load_network(
            _amt_module().Model(**AMT_NETWORK),
            weights,
            "AMT-S weights",
            expected="AMT-S",
            download_hint=AMT_WEIGHTS,
        ).to(device)

    @torch.no_grad()
    def __call__(
        self,
        earlier_frame: Tensor,  # [1, 3, H, W] float 0...1
        later_frame: Tensor,  # [1, 3, H, W] float 0...1
    ) -> Tensor:  # [1, 3, H, W]
        """Interpolate the frame halfway between two frames."""
        earlier_input, later_input = (
            _pad(frame, AMT_SIDE_MULTIPLE).to(self.device) for frame in (earlier_frame, later_frame)
        )
        half_time = torch.full((1, 1, 1, 1), 0.5, device=self.device)
        picture = self.model(earlier_input, later_input, half_time, scale_factor=1.0, eval=True)[
            "imgt_pred"
        ]
        return _crop_padding(picture, earlier_frame.shape[-2:]).cpu()


def _amt_module() -> ModuleType:
    """Import the AMT-S network's code from vbench alone.

    Raises:
        EgoXInputError: vbench isn't there, or its network needs something that is missing.
    """
    name = "vbench.third_party.amt.networks.AMT-S"
    vbench_spec = importlib.util.find_spec("vbench")
    if vbench_spec is None or not vbench_spec.submodule_search_locations:
        raise EgoXInputError(
            "motion smoothness",
            got="vbench is not installed",
            expected="its code (not its packages)",
            fix="pip install --no-deps vbench",
        )
    # A package object with its path and nothing run; vbench.__init__ would import all of vbench's
    # metrics.
    vbench_package = ModuleType("vbench")
    vbench_package.__path__ = list(vbench_spec.submodule_search_locations)
    old_module = sys.modules.get("vbench")
    sys.modules["vbench"] = old_module or vbench_package
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EgoXInputError(
            "motion smoothness",
            got=f"vbench's AMT-S can't be imported ({error})",
            expected="vbench 0.1.5 or newer",
            fix="pip install --no-deps --upgrade vbench",
        ) from error
    finally:
        if old_module is None:
            del sys.modules["vbench"]


class RaftFlow:
    """RAFT network, which computes optical flow between consecutive frames.

    Raises:
        EgoXInputError: torchvision missing, the file missing or of another model.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        with needs_package("torchvision", "dynamic degree", expected="torchvision"):
            from torchvision.models.optical_flow import raft_large
        self.model = load_network(
            raft_large(weights=None),
            weights,
            "RAFT weights",
            expected="torchvision's raft_large",
            download_hint=RAFT_WEIGHTS,
        ).to(device)
        self.device = device

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,  # [T, H, W, 3] float 0...1
    ) -> Tensor:  # [T-1] px
        """Measure the motion between consecutive frames in px.

        Raises:
            EgoXInputError: under 128 px.
        """
        height, width = frames.shape[1:3]
        if min(height, width) < SMALLEST_PX:
            raise EgoXInputError(
                "dynamic degree",
                got=f"{width}x{height} px",
                expected=f"at least {SMALLEST_PX}x{SMALLEST_PX}",
                fix="leave --raft out",
            )
        video = _pad(frames.float().movedim(-1, 1) * 2 - 1, RAFT_SIDE_MULTIPLE).to(self.device)
        motion_lengths = []
        for earlier_frame, later_frame in zip(video[:-1], video[1:], strict=True):
            flow_field = self.model(
                earlier_frame[None], later_frame[None], num_flow_updates=UPDATES
            )[-1][0]
            motion_lengths.append(
                mean_of_largest(_crop_padding(flow_field, (height, width)).norm(dim=0))
            )
        return torch.tensor(motion_lengths)


def mean_of_largest(
    lengths: Tensor,  # [H, W] of the flow, px
) -> float:
    """Compute the mean of the largest 5 % of optical flow lengths."""
    return float(
        lengths.flatten().topk(max(1, int(lengths.numel() * LARGEST_SHARE))).values.double().mean()
    )


def thin_frames(
    frames: Tensor,  # [T, ...]
    fps: float,
) -> Tensor:
    """Drop frames evenly, to keep about 8 frames per second."""
    return frames[:: max(1, round(fps / THINNED_FPS))]


def scaled_threshold_px(
    side_px: int,  # of the picture's shorter side
) -> float:
    """Compute the motion in px above which a pair of frames counts as moving."""
    return MOTION_THRESHOLD_PX * side_px / THRESHOLD_SIDE_PX


def is_dynamic(
    motion_px: Tensor,  # [T-1] of RaftFlow
    frame_count: int,
    threshold_px: float,
) -> bool:
    """Check whether enough pairs of consecutive frames move.

    A clip of so few frames that no pair would be needed counts as moving, as it does in vbench once
    it has a pair."""
    moving_pairs = int((motion_px > threshold_px).sum())
    return len(motion_px) > 0 and moving_pairs >= round(
        LEAST_MOVING_PAIRS * frame_count / MOVING_PAIRS_FRAMES
    )


def _pad(pictures: Tensor, multiple: int) -> Tensor:
    """Pad pictures [..., H, W] to sides that are multiples of ``multiple``."""
    bottom_px, right_px = (-side_px % multiple for side_px in pictures.shape[-2:])
    return torch.nn.functional.pad(
        pictures,
        (right_px // 2, right_px - right_px // 2, bottom_px // 2, bottom_px - bottom_px // 2),
        mode="replicate",
    )


def _crop_padding(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    """Crop padded pictures back to (height, width)."""
    top, left = (
        (padded_side - inner_side) // 2
        for padded_side, inner_side in zip(pictures.shape[-2:], size, strict=True)
    )
    return pictures[..., top : top + size[0], left : left + size[1]]
