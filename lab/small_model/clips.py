"""Clips of drawn takes, with ego prior and GGA directions."""

import numpy as np
import torch
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.gga import gga_geometry
from egox_core.stages import prior, scene
from egox_core.types import DepthVideo, GgaGeometry
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, make_take, with_errors

from .settings import ClipSettings


@frozen
class DemoClip:
    """One clip as it is trained on."""

    seed: int
    exo: Tensor  # [T, H, W, 3] uint8
    ego: Tensor  # [T, S, S, 3] uint8
    prior: Tensor  # [T, S, S, 3] uint8
    coverage: Tensor  # [T, S, S] bool
    seen: Tensor | None  # [T, S, S] uint8, classes of the prior's pixels, where asked for
    geometry: GgaGeometry


def clip_spec(seed: int, settings: ClipSettings) -> SyntheticSpec:
    """Describe the scene of a seed, with object size and motion drawn from the settings' ranges."""
    draw = np.random.default_rng(seed)
    return SyntheticSpec(
        seed=seed,
        frames=settings.frames,
        exo_width=settings.exo_width,
        exo_height=settings.size,
        ego_size=settings.size,
        fps=settings.fps,
        texture="plain",
        clutter="calm",
        object_scale=float(draw.uniform(*settings.object_scale)),
        motion=float(draw.uniform(*settings.motion)),
        wearer=settings.wearer,
    )


def draw_clip(
    seed: int,
    settings: ClipSettings,
    *,
    classes: bool = False,
    # Rays are cast and points drawn on it.
    device: str = "cpu",
) -> tuple[DemoClip, SyntheticTake]:
    """Draw the clip of a seed, from exact poses and :func:`clip_depth`, and its take, on the CPU."""
    take = make_take(clip_spec(seed, settings), device=device)
    trajectory, depth = take.trajectory(), clip_depth(take, settings)
    points, _ = scene(take.exo_frames(), depth)
    drawn, _ = prior(points, trajectory, settings.preset, classes=classes, device=device)
    geometry = gga_geometry(
        depth,
        trajectory,
        settings.rays,
        frames=settings.frames,
        exo_size=(settings.exo_width, settings.size),
        ego_size=(settings.size, settings.size),
    )
    clip = DemoClip(
        seed=seed,
        exo=take.exo_rgb,
        ego=take.ego_rgb,
        coverage=drawn.coverage,
        seen=drawn.seen,
        geometry=geometry,
        prior=(drawn.rgb * 255).round().clamp(0, 255).to(torch.uint8),
    )
    return clip, take


def clip_depth(take: SyntheticTake, settings: ClipSettings) -> DepthVideo:
    """Make the exact depth, or in a share of the clips a network's, drawn from the clip's seed."""
    draw = np.random.default_rng((take.spec.seed, 1))
    if draw.random() >= settings.depth_errors:
        return take.depth_video()
    amount = float(draw.uniform(1, 2))
    errors = DepthErrors(low_frequency=0.03 * amount, bleed_px=amount, flicker=0.01 * amount)
    return with_errors(take.depth_video(), errors, take.spec.seed)
