"""The angle between an ego video's view and the path it was ordered on, by matching with renders of the scene.

Each frame is compared with the scene as it looks from the ordered pose, drawn wider than the lens so that a turned view
still meets it: turns on a coarse grid first, then a direct alignment that also lets the camera shift. Only what the
scene covers counts. The reference is the *rendered* path: where depth is wrong, the angle tells of the depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from ..cameras.model import CameraModel, pixel_rays, project, rescale
from ..errors import EgoXInputError
from ..prior.options import prior_preset
from ..prior.render import iter_ego_prior
from ..progress import Progress, no_progress
from ..trajectory.poses import sensor_from_upright
from ..types import CameraTrajectory, PointCloud

FOCAL = 58.0
"""Pixels a radian of the pictures that are compared: a pixel is about a degree."""
WIDE = 160
"""Side of the scene's picture, px: 79 degrees to each side."""
YAW_PITCH_DEG, ROLL_DEG = (-24, -16, -8, 0, 8, 16, 24), (-20, -10, 0, 10, 20)
GRID_STEP, STARTS = 3, 4
APART_RAD = math.radians(9)
"""Least turn between two starts of the alignment."""
OF_ALL_FRAMES = 0.5
"""Weight of the clip's mean score beside the frame's own: a path is mostly wrong by the same turn throughout."""
LEVELS = ((2.0, 1200, 0.25), (0.5, 4000, 0.05))
"""Of each alignment: blur in px, points a frame, squared error at which a point counts half."""
ROUNDS = 8
LOCAL_PX, LEAST_CONTRAST = 8.0, 0.03
SHIFT_PRIOR_M = 0.05
NEIGHBOURS = 30.0
"""Points whose errors go together."""
BLOCK = 8
SPREAD_FACTOR = 2.0
"""True error of a frame of drawn rooms over what its residuals say."""
LEAST_COVERED, LEAST_SCORE, MOST_SPREAD_DEG = 0.03, 0.42, 3.0
"""Share of the scene's picture that must be covered; correlation and spread from which on a frame counts as judged:
of 108 frames of 12 drawn rooms, another room's reach 0.40 at most, 95 % of the true ones 0.49 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathError:
    """What each frame says; NaN where it can't be judged. Axes of the upright picture: x right, y down, z forward."""

    turn_deg: Tensor  # [T, 3] rotation vector from the ordered camera to the video's
    shift_m: Tensor  # [T, 3] added to a point in the ordered camera's frame
    spread_deg: Tensor  # [T] standard error of the turn
    score: Tensor  # [T] correlation with the render at the best turn, of every frame

    @property
    def angle_deg(self) -> Tensor:  # [T]
        return self.turn_deg.norm(dim=-1)

    @property
    def judged(self) -> Tensor:  # [T] bool
        return torch.isfinite(self.spread_deg)

    @property
    def median_deg(self) -> float | None:
        """Over the judged frames; None where there is none."""
        return float(self.angle_deg.nanmedian()) if bool(self.judged.any()) else None

    def text(self) -> str:
        """One line for a person."""
        of = f"{int(self.judged.sum())} of {len(self.judged)} frames judged"
        if self.median_deg is None:
            return f"Whether the view follows the path can't be judged ({of})"
        return (f"The view follows the rendered path: {self.median_deg:.1f}° off (median, ± "
                f"{float(self.spread_deg.nanmedian()):.1f}° a frame), {of}. Where the depth is wrong, this tells of "
                "the depth")


@torch.inference_mode()
def path_error(
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    scene: PointCloud,
    trajectory: CameraTrajectory,
    *,
    progress: Progress = no_progress,
) -> PathError:
    """The turn and shift of each frame against the scene seen from the ordered pose.

    Raises:
        EgoXInputError: another count of frames than the scene's; as :func:`iter_ego_prior`.
    """
    if len(video) != scene.frame_count:
        raise EgoXInputError("ego video and scene", got=f"{len(video)} and {scene.frame_count} frames",
                             expected="as many", fix="connect the scene that the ego prior was rendered from")
    match = _Match.of(video, scene, trajectory, progress)
    starts = _coarse_turns(match)
    poses = torch.cat((_rotations(starts), torch.zeros(*starts.shape, 1)), -1)
    poses, scores, _ = _aligned(match, poses, *LEVELS[0])
    best = scores.argmax(1)[:, None, None, None].expand(-1, 1, 3, 4)
    poses, scores, spread = (x[:, 0] for x in _aligned(match, poses.gather(1, best), *LEVELS[1]))
    upright = sensor_from_upright(trajectory.camera.quarter_turns)
    turns = torch.from_numpy(Rotation.from_matrix(poses[..., :3].double().numpy()).as_rotvec(degrees=True))
    spread = spread.rad2deg() * SPREAD_FACTOR
    judged = (scores >= LEAST_SCORE) & (spread <= MOST_SPREAD_DEG) & (match.mask.mean((1, 2, 3)) >= LEAST_COVERED)
    unknown = torch.where(judged, 0.0, torch.nan)
    return PathError(turn_deg=(turns @ upright).float() + unknown[:, None],
                     shift_m=poses[..., 3] @ upright.float() + unknown[:, None], spread_deg=spread + unknown,
                     score=scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """A video at the scale of the comparison, and the scene from its ordered poses."""

    video: Tensor  # [T, 3, h, w]
    camera: CameraModel  # of it
    lens: Tensor  # [T, 1, h, w], 1 inside the lens
    wide: Tensor  # [T, 3, S, S] the scene
    mask: Tensor  # [T, 1, S, S], 1 where it covers
    rays: Tensor  # [S * S, 3] of wide
    points: Tensor  # [T, S * S, 3] metres, ordered camera's frame

    @staticmethod
    def of(video: Tensor, scene: PointCloud, trajectory: CameraTrajectory, progress: Progress) -> _Match:
        camera = rescale(trajectory.camera, video.shape[2], video.shape[1])
        scale = min(1.0, FOCAL / camera.fx)
        height, width = (max(2, round(n * scale)) for n in video.shape[1:3])
        camera = rescale(camera, width, height)
        pictures = functional.interpolate(video.movedim(-1, 1).float(), size=(height, width), mode="area")
        centre = (WIDE - 1) / 2
        wide = CameraModel(lens="opencv_fisheye", width=WIDE, height=WIDE, fx=FOCAL, fy=FOCAL, cx=centre, cy=centre,
                           max_angle_deg=80.0, quarter_turns=camera.quarter_turns)
        options = replace(prior_preset("exact"), supersample=1, gap_reach=0.0, coarse=len(scene.static) > 100_000)
        frames = list(iter_ego_prior(scene, replace(trajectory, camera=wide), options, progress=progress))
        rays, inside = pixel_rays(wide)
        z = torch.stack([frame.depth_m for frame in frames])
        mask = inside & torch.isfinite(z)
        points = rays / rays[..., 2:].clamp_min(1e-3) * z.nan_to_num(1.0)[..., None]
        lens = pixel_rays(camera)[1].float().expand(len(frames), 1, -1, -1)
        return _Match(video=pictures, camera=camera, lens=lens, mask=mask[:, None].float(), rays=rays.flatten(0, 1),
                      wide=torch.stack([f.rgb for f in frames]).movedim(-1, 1), points=points.flatten(1, 2))


def _coarse_turns(match: _Match) -> Tensor:  # [T, STARTS, 3] rad, sensor axes
    """The best turns on a grid, by correlation of blurred pictures."""
    upright = torch.cartesian_prod(*(torch.deg2rad(torch.tensor(d, dtype=torch.float32))
                                     for d in (YAW_PITCH_DEG, YAW_PITCH_DEG, ROLL_DEG)))
    turns = upright @ sensor_from_upright(match.camera.quarter_turns).float().T
    grid = torch.zeros(WIDE, WIDE, dtype=torch.bool)
    grid[1::GRID_STEP, 1::GRID_STEP] = True
    grid = grid.flatten()
    uv, valid = project(match.camera, match.rays[grid] @ _rotations(turns).transpose(1, 2))  # [R, n, 2]
    height, width = match.video.shape[-2:]
    pixel = uv.round().long()
    valid &= ((pixel >= 0) & (pixel < pixel.new_tensor((width, height)))).all(-1)
    pixel = pixel[..., 1].clamp(0, height - 1) * width + pixel[..., 0].clamp(0, width - 1)
    blur_px = LEVELS[0][0]
    ours = _even_contrast(match.video, match.lens, blur_px).flatten(2)
    theirs = _even_contrast(match.wide, match.mask, blur_px).flatten(2)[..., grid]
    masks = match.mask.flatten(1)[:, grid] > 0
    scores = torch.zeros(len(masks), len(turns))
    for frame, mask in enumerate(masks):
        if bool(mask.any()):
            inside = valid[:, mask]
            mine, scene = ours[frame].T[pixel[:, mask]] * inside[..., None], theirs[frame].T[mask]
            norm = mine.square().sum((1, 2)) * (scene.square().sum(-1) * inside).sum(1)
            scores[frame] = ((mine * scene).sum((1, 2)) / norm.clamp_min(1e-9).sqrt()
                             * (inside.float().mean(1) > 0.35))
    scores = scores + OF_ALL_FRAMES * scores.mean(0)
    picked = []
    for _ in range(STARTS):
        picked.append(turns[scores.argmax(1)])
        scores = scores.masked_fill((turns - picked[-1][:, None]).norm(dim=-1) < APART_RAD, -9.0)
    return torch.stack(picked, 1)


def _aligned(
    match: _Match,
    poses: Tensor,  # [T, K, 3, 4] video's camera from the ordered one
    blur_px: float,
    count: int,  # points a frame
    half: float,
) -> tuple[Tensor, Tensor, Tensor]:  # poses, scores [T, K], standard errors of the turn [T, K] rad
    """Gauss-Newton over turn and shift on pictures of even contrast, with a weak prior on the shift."""
    rotation, shift = poses[..., :3], poses[..., 3]
    frames, starts = rotation.shape[:2]
    ours = _even_contrast(match.video, match.lens, blur_px)
    across = functional.pad((ours[..., 2:] - ours[..., :-2]) / 2, (1, 1))
    down = functional.pad((ours[..., 2:, :] - ours[..., :-2, :]) / 2, (0, 0, 1, 1))
    pictures = torch.cat((ours, across, down, match.lens), 1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(match.mask.flatten(1) + 1e-9, count, replacement=True, generator=generator)
    real = (match.mask.flatten(1).gather(1, drawn) > 0)[:, None]
    xyz = match.points.gather(1, drawn[..., None].expand(-1, -1, 3))[:, None]  # [T, 1, n, 3]
    scene = _even_contrast(match.wide, match.mask, blur_px).flatten(2)
    colour = scene.gather(2, drawn[:, None].expand(-1, 3, -1))[:, :, None]  # [T, 3, 1, n]
    block = drawn // WIDE // BLOCK * (WIDE // BLOCK) + drawn % WIDE // BLOCK
    step, axes = 1e-3, torch.eye(3)
    for last in [False] * ROUNDS + [True]:
        turned = xyz @ rotation.transpose(-1, -2)
        points = turned + shift[:, :, None]
        uv, valid = project(match.camera, points)
        got = _sample(pictures, uv)  # [T, 10, K, n]
        inside = valid & (got[:, 9] > 0.99) & real
        residual = got[:, :3] - colour
        error = residual.square().mean(1)
        weight = inside / (1 + error / half)
        slopes = torch.stack([(project(match.camera, points + step * axis)[0] - uv) / step for axis in axes], -1)
        by_point = torch.stack((got[:, 3:6], got[:, 6:9]), -1).movedim(1, -2) @ slopes  # [T, K, n, 3, 3]
        by_turn = torch.linalg.cross(turned[..., None, :].expand_as(by_point), by_point)
        slope = torch.cat((by_turn, by_point), -1)  # [T, K, n, 3, 6]
        weighted = slope * weight[..., None, None]
        push = (weighted * residual.movedim(1, -1)[..., None]).sum(3)  # [T, K, n, 6]
        noise = NEIGHBOURS * (error * weight).sum(-1) / weight.sum(-1).clamp_min(1e-6)
        hold = torch.tensor([0, 0, 0, 1, 1, 1]) / SHIFT_PRIOR_M ** 2 * noise[..., None]
        normal = torch.einsum("tknci,tkncj->tkij", weighted, slope) + torch.diag_embed(hold + 1e-3)
        if last:
            break
        total = push.sum(2) + hold * torch.cat((torch.zeros_like(shift), shift), -1)
        change = -torch.linalg.solve(normal, total)
        change = change * (0.2 / change.norm(dim=-1, keepdim=True).clamp_min(0.2))
        rotation, shift = _rotations(change[..., :3]) @ rotation, shift + change[..., 3:]
    dot, own, theirs = ((x * inside[:, None]).sum((1, 3)) for x in
                        (got[:, :3] * colour, got[:, :3].square(), colour.square()))
    score = dot / (own * theirs).clamp_min(1e-9).sqrt() * (inside.float().mean(-1) > 0.2)
    by_block = torch.zeros(frames, starts, (WIDE // BLOCK) ** 2, 6)
    by_block.scatter_add_(2, block[:, None, :, None].expand(-1, starts, -1, 6), push)
    inverse = torch.linalg.inv(normal)
    spread = (inverse @ (by_block.transpose(-1, -2) @ by_block) @ inverse).diagonal(dim1=-2, dim2=-1)
    return torch.cat((rotation, shift[..., None]), -1), score, spread[..., :3].sum(-1).sqrt()


def _even_contrast(
    pictures: Tensor,  # [T, C, H, W]
    mask: Tensor,  # [T, 1, H, W]
    blur_px: float,
) -> Tensor:
    """Blurred, less the local mean, by the local spread; within the mask alone."""
    def smooth(values: Tensor, sigma: float) -> Tensor:
        return _blur(values * mask, sigma) / _blur(mask, sigma).clamp_min(1e-3)

    sharp = smooth(pictures, blur_px)
    off = sharp - smooth(sharp, LOCAL_PX)
    spread = smooth(off.square().mean(1, keepdim=True), LOCAL_PX)
    return off / (spread + LEAST_CONTRAST ** 2).sqrt() * mask


def _blur(pictures: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    kernel = (-(torch.arange(-radius, radius + 1) / sigma).square() / 2).exp()
    kernel = kernel / kernel.sum()
    flat = pictures.reshape(-1, 1, *pictures.shape[-2:])
    flat = functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(radius, 0)).view(pictures.shape)


def _sample(pictures: Tensor, uv: Tensor) -> Tensor:
    """Pictures [T, C, H, W] at px [T, K, n, 2]: [T, C, K, n], 0 outside."""
    height, width = pictures.shape[-2:]
    grid = uv / uv.new_tensor((width - 1, height - 1)) * 2 - 1
    return functional.grid_sample(pictures, grid, align_corners=True)


def _rotations(vectors: Tensor) -> Tensor:  # [..., 3] rad -> [..., 3, 3]
    x, y, z = vectors.unbind(-1)
    none = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack((none, -z, y, z, none, -x, -y, x, none), -1).unflatten(-1, (3, 3)))
