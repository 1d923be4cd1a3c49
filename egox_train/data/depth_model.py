"""Estimate depth by a metric model, or by a relative model that is aligned to a metric one.

Metric: Depth Anything V2 metric, ZoeDepth, Depth Pro, ... Relative: Depth Anything V2, DPT, ... No
folder of transformers holds a video depth model, so the second one, too, looks at each frame
for itself: it gives sharper edges and no scale that jumps, since its scale is the fit's, but it
isn't one depth over time as a video model's is."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from egox_core.cameras import CameraModel, CameraPath
from egox_core.depth import align_depth, clean_depth
from egox_core.errors import EgoXInputError
from egox_core.types import DepthVideo

from ..wan.weights import model_on
from .prepare_options import PrepareOptions

METRIC_TYPES = (
    "zoedepth",
    "depth_pro",
)  # always metric; Depth Anything says so in its configuration
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT_SIDE_PX, PATCH_PX = 518, 14
FAR_M = 80.0
BATCH_FRAMES = 8  # frames at once: a ViT-L takes some 6 GB for them


def check_models(options: PrepareOptions) -> None:
    """Load the requested depth models once, to detect errors before long work.

    Raises:
        EgoXInputError: no transformers, no such model or device; the first one isn't metric, the
            second one is.
    """
    assert options.depth_model is not None  # PrepareOptions refuses depth model without
    require_metric(options.depth_model, options.local_device)
    if options.relative_depth_model is not None and _is_metric(
        _load(options.relative_depth_model, options.local_device)
    ):
        raise EgoXInputError(
            f"depth model {options.relative_depth_model.name}",
            got="a second metric depth",
            expected="a relative one, whose scale the first one gives",
            fix="name the relative variant second, or one model alone",
        )


def model_depth(
    options: PrepareOptions,
    frames: Tensor,  # [T, H, W, 3] uint8
    # The camera of the frames.
    camera: CameraModel,
    dynamic: Tensor | None,  # [T, H, W] bool, what moves: left out of the alignment
    # None takes a GPU if there is one.
    device: str | None,
) -> Tensor:  # [T, H, W] float32 metres
    """Estimate the z depth of every frame in metres, NaN beyond 80 m.

    The metric model is used alone, or a relative model is aligned to it (Eq. 1 and 2).

    Raises:
        EgoXInputError: as :func:`check_models` and :func:`..depth.align.align_depth`.
    """
    assert options.depth_model is not None  # PrepareOptions refuses depth model without
    metric_depth_m = metric_depth(options.depth_model, frames, device)
    if options.relative_depth_model is None:
        return metric_depth_m
    model = _load(options.relative_depth_model, device)
    disparity, _ = clean_depth(
        run_model(model, frames), options.relative_depth_model.name, zero_is_valid=True
    )
    aligned_depth, _ = align_depth(
        DepthVideo(depth_m=metric_depth_m, exo=CameraPath.of_exo(camera)),
        DepthVideo(depth_m=disparity, exo=CameraPath.of_exo(camera), kind="disparity"),
        dynamic,
    )
    return torch.where(aligned_depth.depth_m < FAR_M, aligned_depth.depth_m, math.nan)


def require_metric(folder: Path, device: str | None) -> None:
    """Load a depth model, and refuse it if its depth isn't metric.

    Raises:
        EgoXInputError: no transformers, no such model or device, relative depth.
    """
    if not _is_metric(_load(folder, device)):
        raise EgoXInputError(
            f"depth model {folder.name}",
            got="relative depth",
            expected="metric depth",
            fix="give its metric variant; a relative one may only follow a metric one",
        )


def metric_depth(
    folder: Path,
    frames: Tensor,  # [T, H, W, 3] uint8
    # None takes a GPU if there is one.
    device: str | None,
) -> Tensor:  # [T, H, W] float32 metres
    """Estimate the depth of every frame in metres by a metric model, NaN beyond 80 m."""
    depth_m = run_model(_load(folder, device), frames)
    return torch.where((depth_m > 0) & (depth_m < FAR_M), depth_m, math.nan)


@torch.no_grad()
def run_model(
    model: torch.nn.Module,
    frames: Tensor,  # [T, H, W, 3] uint8
) -> Tensor:  # [T, H, W] float32 on the CPU: metres of a metric model, disparity of a relative one
    """Run a depth model on a few frames at a time, and resize the depth to the frames' size."""
    height, width = frames.shape[1:3]
    patch_multiple = _patch_multiple(model)
    resize_factor = SHORT_SIDE_PX / min(height, width)
    rows, columns = (
        max(patch_multiple, round(x * resize_factor / patch_multiple) * patch_multiple)
        for x in (height, width)
    )
    first_parameter = next(model.parameters())
    depth_batches = []
    for batch in frames.split(BATCH_FRAMES):
        pictures = imagenet_pictures(
            batch.to(first_parameter.device).float() / 255, (rows, columns)
        ).to(first_parameter.dtype)
        depth = model(pixel_values=pictures).predicted_depth.float()
        depth = depth.reshape(len(batch), 1, *depth.shape[-2:])
        depth_batches.append(
            interpolate(depth, size=(height, width), mode="bilinear", align_corners=False)[
                :, 0
            ].cpu()
        )
    return torch.cat(depth_batches)


def imagenet_pictures(
    frames: Tensor,  # [T, H, W, 3] float 0...1
    size: tuple[int, int],  # (height, width) px
) -> Tensor:  # [T, 3, height, width]
    """Resize pictures and normalise their colours for networks that were trained on ImageNet."""
    pictures = interpolate(
        frames.float().movedim(-1, 1),
        size=size,
        mode="bicubic",
        antialias=True,
        align_corners=False,
    ).clamp(0, 1)
    mean, std_deviation = (
        torch.tensor(x, device=frames.device).view(1, 3, 1, 1)
        for x in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (pictures - mean) / std_deviation


def _load(folder: Path, device: str | None) -> torch.nn.Module:
    (model,) = model_on(
        device,
        folder,
        "AutoModelForDepthEstimation",
        subject="depth model",
        expected="a depth estimation model",
        download_hint="download a metric depth model, such as Depth Anything V2 Metric",
        alternative=", or give depth files",
    )
    return model


def _is_metric(model: Any) -> bool:  # of transformers
    return (
        model.config.model_type in METRIC_TYPES
        or getattr(model.config, "depth_estimation_type", "relative") == "metric"
    )


def _patch_multiple(model: torch.nn.Module) -> int:
    backbone = getattr(model.config, "backbone_config", None)
    return int(
        getattr(backbone, "patch_size", None)
        or getattr(model.config, "patch_size", None)
        or PATCH_PX
    )
