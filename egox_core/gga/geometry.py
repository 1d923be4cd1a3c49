"""Compute the directions that geometry-guided attention compares, from depth and poses (paper 3.2,
quirks 1 to 11).

Steps, as in the released inference: exo pixels to world points, cropped and sampled to latents; for
every ego frame the unit directions from its camera centre to the points of every frame; ego
rays in world axes; 2x2 pooling to tokens by averaging without renormalising. All in float64 on
the CPU, kept in float32. Golden: ``gga_geometry_*``. LoRAs trained as the released trainer does
see other ego rays: :func:`.rays.trainer_rays`."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ..errors import EgoXInputError, check_choice
from ..progress import Progress, no_progress
from ..sizes import (
    FRAMES_PER_LATENT,
    PATCH,
    PIXELS_PER_LATENT,
    REFERENCE_EXO_SIZE,
    REFERENCE_SIZE,
    canvas_size,
    centre_crop_left,
    latent_frames,
    same_aspect,
)
from ..types import RAY_MODES, CameraTrajectory, DepthVideo, GgaGeometry, RayMode
from .rays import ego_rays, trainer_rays, world_rays


def gga_geometry(
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    # See :mod:`.rays`; for trainer, see quirks 36.
    rays: RayMode | Literal["trainer"] = "released",
    *,
    # Number of the canvas's video frames, 4n+1.
    frames: int = 49,
    exo_size: tuple[int, int] = REFERENCE_EXO_SIZE,  # (width, height) px
    ego_size: tuple[int, int] = (REFERENCE_SIZE, REFERENCE_SIZE),  # (width, height) px
    meta_intrinsics: Tensor | None = None,  # [3, 3] of the take's file, for released rays
    progress: Progress = no_progress,
) -> GgaGeometry:
    """Compute the directions of all tokens of a canvas (a few MB), once per sampling run.

    Depth frames 0, 4, 8, ... are used, as released. Depth wider than the canvas' aspect is
    centre-cropped; other sizes of the same aspect are sampled. Latents without valid depth get the
    zero vector (no preference) and trust 0.

    Raises:
        EgoXInputError: unknown ray mode, frames not 4n+1, depth that is not metric z depth or not
            of its camera's size, depth or trajectory shorter than the clip, depth narrower than the
            canvas' aspect, released rays without K or for an ego picture that isn't square,
            depth and path of other moments.
    """
    if rays != "trainer":
        check_choice("ray geometry", rays, RAY_MODES, "choose one of the named modes")
    t = latent_frames(frames)
    h, _, w_ego = canvas_size(exo_size, ego_size)
    depth.check_metric("depth for the geometry")
    trajectory.check_moments(depth.frames, "depth")
    _check_length("depth", len(depth.depth_m), frames)
    height, width = depth.depth_m[0].shape
    depth.exo.camera.check_size("exo camera of the depth", width, height)
    _check_length("ego trajectory", len(trajectory.ego.w2c), frames)
    frame_indices = torch.arange(t) * FRAMES_PER_LATENT
    path = trajectory.ego
    ego = replace(path, w2c=path.w2c.detach().cpu()).select(frame_indices)

    points, trust = exo_points(depth, trajectory, frame_indices, exo_size)
    centres = -torch.linalg.solve(ego.w2c[:, :3, :3], ego.w2c[:, :3, 3:])[..., 0]

    def directions() -> Iterator[Tensor]:
        for frame_number, centre in enumerate(centres):
            offsets = points - centre
            yield offsets / offsets.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            progress(frame_number + 1, t, "geometry of the attention")

    if rays == "trainer":
        gaze_rays = trainer_rays(ego, meta_intrinsics, h, w_ego)
    else:
        gaze_rays = world_rays(ego_rays(rays, ego.camera, h, w_ego, meta_intrinsics), ego)
    tokens = tokens_from_latents(directions(), gaze_rays, trust, rays)
    return replace(tokens, cameras=trajectory.other_exo(depth.exo))


def tokens_from_latents(
    directions: Iterable[Tensor],  # t of [t (key frame), h, w_exo, 3] unit, ego camera to exo
    # [t, h, w_ego, 3] unit viewing rays of the ego latents, zero where the lens sees nothing
    rays: Tensor,
    trust: Tensor | None = None,  # [t, h, w_exo] 0...1; None: all depth is known
    ray_mode: str = "released",
) -> GgaGeometry:
    """Average directions at latent resolution to the direction of each token."""
    query_dirs, _ = pool_tokens(rays, (rays.abs().sum(-1) > 0).to(rays))
    t, h, w_ego = query_dirs.shape[:3]
    key_dirs = []
    for (
        frame_directions
    ) in directions:  # pooled one by one: in float64 all of a long clip would be some GB
        trust = torch.ones_like(frame_directions[..., 0]) if trust is None else trust
        mean_directions, token_trust = pool_tokens(frame_directions, trust)
        # Ego keys get the zero vector, which the same product then turns into cosine 0.
        key_dirs.append(pad(_clip_to_unit(mean_directions), (0, 0, 0, w_ego)).flatten(0, 2))
    return GgaGeometry(
        query_dirs=_clip_to_unit(query_dirs).flatten(1, 2),
        key_dirs=torch.stack(key_dirs),
        key_trust=pad(token_trust.float(), (0, w_ego)).flatten(),
        grid=(t, h, token_trust.shape[2], w_ego),
        rays=ray_mode,
    )


def exo_points(
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    frame_indices: Tensor,  # [t] int64 frame of each latent frame
    exo_size: tuple[int, int],  # (width, height) px of the canvas' exo half
) -> tuple[Tensor, Tensor]:  # [t, h, w_exo, 3] float64 world, [t, h, w_exo] float64 0...1
    """Compute the world point that each exo latent shows, and the trust in its depth.

    Each latent takes the bilinear sample (no antialias) of the world points, not of the depth: at
    448 px the mean of the 2x2 pixels in the middle of its 8x8 block (quirks 5). Invalid pixels are
    left out of that mean. Trust is the share of valid pixels times their mean ``depth.trust``;
    points without valid pixels are 0 with trust 0."""
    rays, in_picture = depth.exo.camera.pixel_rays(dtype=torch.float64)
    rays = rays / rays[..., 2:].clamp_min(1e-9)
    frame_samples = [
        _sample_latents(depth, int(frame), rays, in_picture, world_from_exo, exo_size)
        for frame, world_from_exo in zip(
            frame_indices, _world_from_exo(depth, trajectory, frame_indices), strict=True
        )
    ]
    return torch.stack([points for points, _ in frame_samples]), torch.stack(
        [trust for _, trust in frame_samples]
    )


def _sample_latents(
    depth: DepthVideo,
    frame: int,
    rays: Tensor,
    in_picture: Tensor,
    world_from_exo: Tensor,
    exo_size: tuple[int, int],
) -> tuple[Tensor, Tensor]:  # [h, w_exo, 3], [h, w_exo]
    z_depth = depth.depth_m[frame].to("cpu", torch.float64)
    valid = torch.isfinite(z_depth) & (z_depth > 0) & in_picture
    points = rays * torch.where(valid, z_depth, torch.zeros_like(z_depth))[..., None]
    points = points @ world_from_exo[:, :3].T + world_from_exo[:, 3]
    valid_weight = valid.to(z_depth)
    trust = (
        valid_weight
        if depth.trust is None
        else valid_weight * depth.trust[frame].to("cpu", torch.float64).clamp(0, 1)
    )
    weighted_maps = torch.cat(
        (points * valid_weight[..., None], valid_weight[..., None], trust[..., None]), dim=-1
    )
    weighted_maps = interpolate(
        _crop_to_aspect(weighted_maps.permute(2, 0, 1)[None], exo_size),
        mode="bilinear",
        size=(exo_size[1] // PIXELS_PER_LATENT, exo_size[0] // PIXELS_PER_LATENT),
    )[0]
    sums = weighted_maps[:3]
    share = weighted_maps[3]
    trust = weighted_maps[4]
    return (sums / torch.where(share > 0, share, torch.ones_like(share))).permute(1, 2, 0), trust


def pool_tokens(
    directions: Tensor,  # [t, 2h, 2w, 3]
    trust: Tensor,  # [t, 2h, 2w] 0...1
) -> tuple[Tensor, Tensor]:  # [t, h, w, 3], [t, h, w]
    """Average the directions of each token's 2x2 latents, leaving out those of trust 0."""
    has_geometry = (trust > 0).to(directions)[..., None]
    valid_count = _sum_patches(has_geometry)
    mean = _sum_patches(directions * has_geometry) / valid_count.clamp_min(1)
    return mean, _sum_patches(trust[..., None])[..., 0] / PATCH**2


def _clip_to_unit(directions: Tensor) -> Tensor:  # [..., 3] -> float32
    """Shorten vectors longer than 1 by rounding, so that no cosine exceeds 1."""
    directions = directions.float()
    return directions / directions.norm(dim=-1, keepdim=True).clamp_min(1)


def _sum_patches(values: Tensor) -> Tensor:  # [t, 2h, 2w, c] -> [t, h, w, c]
    return values.unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH)).sum(dim=(2, 4))


def _world_from_exo(
    depth: DepthVideo,
    trajectory: CameraTrajectory,
    frame_indices: Tensor,
) -> Tensor:  # [t, 3, 4]
    exo = trajectory.exo_of(depth.exo)
    count = int(frame_indices.max()) + 1
    exo_from_world = exo.poses(count, "exo camera poses").detach().cpu()[frame_indices]
    rotation = torch.linalg.inv(exo_from_world[:, :, :3])
    return torch.cat((rotation, -rotation @ exo_from_world[:, :, 3:]), dim=-1)


def _crop_to_aspect(values: Tensor, exo_size: tuple[int, int]) -> Tensor:  # [t, c, H, W]
    """Crop the sides of maps that are wider than the canvas's exo half."""
    height, width = values.shape[-2:]
    crop_width = round(height * exo_size[0] / exo_size[1])
    if width < crop_width and not same_aspect((width, height), (crop_width, height)):
        raise EgoXInputError(
            "depth size",
            got=f"{width}x{height}",
            expected=f"the aspect ratio of {exo_size[0]}x{exo_size[1]}, or wider",
            fix="give the depth of the whole exo image; only wider depth can be cropped",
        )
    left = centre_crop_left((width, height), (crop_width, height)) or 0
    return values[..., left : left + min(crop_width, width)]


def _check_length(label: str, frame_count: int, frames: int) -> None:
    if frame_count < frames:
        raise EgoXInputError(
            label,
            got=f"{frame_count} frames",
            expected=f"{frames} frames",
            fix="use fewer frames, or a file that covers the whole clip",
        )
