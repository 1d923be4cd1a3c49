"""Make training clips from synthetic takes."""

import numpy as np
import torch
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.gga import gga_geometry
from egox_core.stages import prior, scene
from egox_core.types import DepthVideo, GgaGeometry
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, add_depth_errors, make_take

from .settings import ClipSettings


@frozen
class DemoClip:
    """Training clip: its videos, ego prior and ray directions."""

    seed: int
    exo: Tensor  # [T, H, W, 3] uint8
    ego: Tensor  # [T, S, S, 3] uint8
    prior: Tensor  # [T, S, S, 3] uint8
    coverage: Tensor  # [T, S, S] bool
    seen: Tensor | None  # [T, S, S] uint8, classes of the prior's pixels, where asked for
    geometry: GgaGeometry


def clip_spec(seed: int, settings: ClipSettings) -> SyntheticSpec:
    """Build the specification of the scene that belongs to a seed."""
    random_generator = np.random.default_rng(seed)
    return SyntheticSpec(
        seed=seed,
        frames=settings.frames,
        exo_width=settings.exo_width,
        exo_height=settings.size,
        ego_size=settings.size,
        fps=settings.fps,
        texture="plain",
        clutter="calm",
        object_scale=float(random_generator.uniform(*settings.object_scale)),
        motion=float(random_generator.uniform(*settings.motion)),
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
    """Draw the clip that belongs to a seed, and return the clip and its take."""
    drawn_take = make_take(clip_spec(seed, settings), device=device)
    trajectory, depth = drawn_take.trajectory(), clip_depth(drawn_take, settings)
    points, _ = scene(drawn_take.exo_frames(), depth)
    drawn_prior, _ = prior(points, trajectory, settings.preset, classes=classes, device=device)
    clip_geometry = gga_geometry(
        depth,
        trajectory,
        settings.rays,
        frames=settings.frames,
        exo_size=(settings.exo_width, settings.size),
        ego_size=(settings.size, settings.size),
    )
    clip = DemoClip(
        seed=seed,
        exo=drawn_take.exo_rgb,
        ego=drawn_take.ego_rgb,
        coverage=drawn_prior.coverage,
        seen=drawn_prior.seen,
        geometry=clip_geometry,
        prior=(drawn_prior.rgb * 255).round().clamp(0, 255).to(torch.uint8),
    )
    return clip, drawn_take


def clip_depth(take: SyntheticTake, settings: ClipSettings) -> DepthVideo:
    """Choose a clip's depth, exact or with simulated errors."""
    random_generator = np.random.default_rng((take.spec.seed, 1))
    if random_generator.random() >= settings.depth_errors:
        return take.depth_video()
    error_scale = float(random_generator.uniform(1, 2))
    depth_errors = DepthErrors(
        low_frequency=0.03 * error_scale, bleed_px=error_scale, flicker=0.01 * error_scale
    )
    return add_depth_errors(take.depth_video(), depth_errors, take.spec.seed)
