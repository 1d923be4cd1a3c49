"""Make baseline videos without any model, to compare with generated ego videos."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from egox_core.cameras import CameraModel, is_aria
from egox_core.prior import iter_ego_preview, push_pull
from egox_core.video import resize_picture

RIM_PX = 2
"""Pixels beside a hole that its video made dark."""
PRIOR_SHARE = 0.6
"""Share of the prior that "shrink" keeps; the rest is exo's mean colour."""

Baseline = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(exo [T, h, w, 3], prior [T, H, W, 3], coverage [T, H, W] bool), pictures float 0...1 -> [T, H,
W, 3] float 0...1."""
ShadedBaseline = Callable[[Tensor, Tensor, Tensor, CameraModel], Tensor]
"""The same, with the camera of prior and coverage."""


def prior_alone(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Use the ego prior as the baseline video, with its holes in black."""
    return prior * coverage[..., None]


def prior_in_haze(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Fill the holes of the ego prior from what is around them, but not from their dark rims."""
    holes = ~coverage.cpu()
    near_holes = max_pool2d(holes[:, None].float(), 2 * RIM_PX + 1, 1, RIM_PX)[:, 0] > 0
    sources = torch.where(near_holes.all(-1).all(-1)[:, None, None], ~holes, ~near_holes)
    pairs = zip(prior.cpu(), ~sources, strict=True)
    filled = torch.stack([push_pull(picture, mask) for picture, mask in pairs])
    return torch.where(holes[..., None], filled, prior.cpu())


def exo_resized(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Resize the exo video to the ego video's size, without keeping its proportions."""
    height, width = prior.shape[1:3]
    return torch.from_numpy(
        np.stack([resize_picture(f, width, height) for f in exo.float().cpu().numpy()])
    ).clamp(0, 1)


def exo_mean_colour(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Fill a video with the mean colour of the exo video, as a baseline."""
    return exo.float().mean(dim=(0, 1, 2)).expand_as(prior).contiguous()


def shrink_prior(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Blend the ego prior with the exo video's mean colour, as a baseline video."""
    mean = exo_mean_colour(exo, prior, coverage)
    return torch.where(coverage[..., None], PRIOR_SHARE * prior + (1 - PRIOR_SHARE) * mean, mean)


def prior_shaded(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
    camera: CameraModel,
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Fill the holes of the ego prior with haze, and shade it as the glasses do."""
    filled = prior_in_haze(exo, prior, coverage)
    nowhere = torch.zeros_like(coverage)
    return torch.stack(list(iter_ego_preview(filled, nowhere, camera, shading="on")))


def shading_alone(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
    camera: CameraModel,
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Shade exo's mean colour as the glasses do: a baseline that shows nothing."""
    mean = exo_mean_colour(exo, prior, coverage)
    return prior_shaded(exo, mean, torch.ones_like(coverage), camera)


BASELINES: Mapping[str, Baseline] = {
    "prior": prior_alone,
    "prior, haze": prior_in_haze,
    "exo resized": exo_resized,
    "exo mean colour": exo_mean_colour,
    "shrink": shrink_prior,
}
SHADED_BASELINES: Mapping[str, ShadedBaseline] = {
    "prior, haze, shaded": prior_shaded,
    "shading alone": shading_alone,
}
"""Those that only a clip of Aria glasses has."""
BASELINE_NAMES = frozenset({*BASELINES, *SHADED_BASELINES})


def make_baselines(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
    camera: CameraModel | None,  # of the prior, None: unknown
) -> dict[str, Tensor]:  # each [T, H, W, 3] float 0...1
    """Make all baseline videos that a clip can have, by name."""
    videos = {name: make_video(exo, prior, coverage) for name, make_video in BASELINES.items()}
    if camera is not None and is_aria(camera):
        camera = camera.rescale(prior.shape[2], prior.shape[1])
        for name, make_video in SHADED_BASELINES.items():
            videos[name] = make_video(exo, prior, coverage, camera)
    return videos
