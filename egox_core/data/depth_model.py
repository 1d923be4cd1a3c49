"""Metric depth from a model that transformers can load (Depth Anything V2 metric, ZoeDepth, Depth Pro, ...)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import EgoXInputError
from ..wan.weights import open_model_folder

METRIC_TYPES = ("zoedepth", "depth_pro")  # always metric; Depth Anything says so in its configuration
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT_SIDE, PATCH = 518, 14
FAR_M = 80.0

_LOADED: dict[str, torch.nn.Module] = {}


@torch.no_grad()
def metric_depth(
    folder: Path,
    frames: Tensor,  # [T, H, W, 3] uint8
) -> Tensor:  # [T, H, W] float32 metres
    """z depth of every frame, NaN beyond 80 m.

    Each frame for itself: this depth may flicker. For a steady one run a video depth model and *Depth Align*, and give
    the files with ``--depth-root``.

    Raises:
        EgoXInputError: no transformers, no such model, or one whose depth is not metric.
    """
    model = _load(folder)
    height, width = frames.shape[1:3]
    multiple = _multiple(model)
    scale = SHORT_SIDE / min(height, width)
    size = tuple(max(multiple, round(x * scale / multiple) * multiple) for x in (height, width))
    out = []
    for frame in frames:
        depth = model(pixel_values=imagenet_pictures(frame[None].float() / 255, size)).predicted_depth.float()
        depth = depth.reshape(1, 1, *depth.shape[-2:])
        out.append(interpolate(depth, size=(height, width), mode="bilinear", align_corners=False)[0, 0])
    depth = torch.stack(out)
    return torch.where((depth > 0) & (depth < FAR_M), depth, torch.full_like(depth, math.nan))


def imagenet_pictures(
    frames: Tensor,  # [T, H, W, 3] float 0...1
    size: tuple[int, int],  # (height, width) px
) -> Tensor:  # [T, 3, height, width]
    """Resized and normalised as networks expect that were trained on ImageNet (DINOv2 and the depth models on it)."""
    pictures = interpolate(frames.float().movedim(-1, 1), size=size, mode="bicubic", antialias=True,
                           align_corners=False).clamp(0, 1)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (pictures - mean) / std


def _load(folder: Path) -> torch.nn.Module:
    key = str(folder)
    if key not in _LOADED:
        (model,) = open_model_folder(
            folder, "AutoModelForDepthEstimation", what="depth model", expected="a depth estimation model",
            where="download a metric depth model, such as Depth Anything V2 Metric", instead=", or give depth files")
        if model.config.model_type not in METRIC_TYPES and getattr(
                model.config, "depth_estimation_type", "relative") != "metric":
            raise EgoXInputError(f"depth model {folder.name}", got="relative depth", expected="metric depth",
                                 fix="use its metric variant; relative depth must go through Depth Align first")
        _LOADED[key] = model
    return _LOADED[key]


def _multiple(model: torch.nn.Module) -> int:
    backbone = getattr(model.config, "backbone_config", None)
    return int(getattr(backbone, "patch_size", None) or getattr(model.config, "patch_size", None) or PATCH)
