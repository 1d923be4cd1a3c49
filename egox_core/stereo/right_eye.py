"""Make the right eye's video from the left eye's, by the scene's depth at the ego camera.

A pixel of the left picture is moved to where the other eye sees its place. Depth is the prior's
where exo observed it with a free sight line, drawn from where the video was found to be. Pixels
that the left eye doesn't see come from the second eye's own prior, where exo saw them and they are
more than a crack, else from the far side of the hole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..frame_store import FrameStore
from ..frozen import frozen
from ..metrics import PathError, PathViews
from ..prior import iter_ego_prior, prior_preset
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind, StageReport
from ..scene import ego_in_scene
from ..sizes import REFERENCE_SIZE
from ..trajectory import Up, up_of_scene
from ..types import EARLIER, CameraTrajectory, PointCloud
from .pictures import StereoForm
from .warp import (
    fill_holes,
    fill_nearness,
    find_source_positions,
    sample_at,
    snap_edges,
    wide_parts,
)

TOO_NEAR_M = 0.3
OFF_PX = 4.0
"""Least shift between picture and depth that is warned of, px of a picture 448 px wide; true videos
of drawn rooms have up to 1.5."""


@frozen
class EyeFrame:
    """One frame of the right eye's video."""

    rgb: Tensor  # [H, W, 3] float32 0...1
    source: Tensor  # [H, W, 2] float32 px of the left picture; NaN: not seen there
    observed: Tensor  # [H, W] bool, of the left picture: exo saw it, so its depth is known
    nearness: Tensor  # [H, W] float32, 1/m along the ray, of the left picture


@dataclass(frozen=True, kw_only=True)
class SecondEye(StageReport):
    """Right eye's video of a clip, with remarks."""

    rgb: Tensor  # [T, H, W, 3] float32 0...1
    off_px: float | None  # median shift between picture and depth; None: it can't be judged
    up: Up  # of the path's world


def second_eye(
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation: the left eye
    scene: PointCloud,
    trajectory: CameraTrajectory,
    form: StereoForm,
    *,
    progress: Progress = no_progress,
) -> SecondEye:
    """Make the right eye's video in the same lens, shifted along the written picture's x axis.

    The depth is drawn from where the video was found to be: turned and shifted against the path.
    A clip of any length takes the memory of a few frames, beside the input.

    Raises:
        EgoXInputError: another count of frames than the scene's, or other moments, a scene without
            the depth it was built of.
    """
    trajectory.check_moments(scene.frames, "scene")
    views = PathViews.of(scene, trajectory, progress=progress)
    left_video = video.cpu()
    path_error = views.error(left_video, with_clip=False)
    if not path_error.judged.any():
        path_error = replace(path_error, clip=views.clip_turn(left_video))
    count, height, width, _ = video.shape
    turns, shifts = _motion_per_frame(path_error, count)
    ego = trajectory.ego.resized(width, height).upright
    w2c = ego.w2c.clone()
    camera = ego.camera
    w2c[..., 3] += shifts
    followed_path = replace(trajectory, ego=replace(ego, w2c=turns @ w2c))
    (rays, _) = camera.pixel_rays(torch.float64)
    grid = camera.pixel_grid()
    rgb = FrameStore(count, (height, width, 3), np.float32)
    frame_figures = []
    up_direction = _up_of_path(scene, trajectory)
    eyes = form.eyes_m * form.axes(trajectory, up_direction)[..., 0]
    eye_frames = iter_second_eye(video, scene, followed_path, eyes, progress=progress)
    for turn, shift, eye in zip(turns, shifts, eye_frames, strict=True):
        rgb.append(eye.rgb.numpy())
        ordered_px, _ = camera.project(rays @ turn - eye.nearness[..., None] * shift)
        offset_px = (ordered_px - grid)[eye.observed].norm(dim=-1).median()
        near_mask = eye.observed & (eye.nearness > 1 / TOO_NEAR_M)
        shares = (pixel_mask.double().mean() for pixel_mask in (eye.source.isnan(), near_mask))
        frame_figures.append((offset_px, *shares))
    offset_px = (
        float(np.nanmedian([each_px for each_px, *_ in frame_figures]))
        if path_error.judged.any()
        else None
    )
    _, filled_share, near_mask = np.mean(frame_figures, 0)
    path_text = path_error.text()
    kind = RemarkKind.NOTE
    if offset_px is not None:
        shift_cm = 100 * float(shifts.norm(dim=1).median())
        path_text = (
            f"Image and depth are {offset_px:.1f} px apart ({path_error.median_deg:.1f}°, "
            f"{shift_cm:.0f} cm)"
        )
        if offset_px > OFF_PX * width / REFERENCE_SIZE:
            path_text = f"Warning: {path_text}: things that the model moved have the wrong depth"
            kind = RemarkKind.WARNING
    filled_words = f"{filled_share:.1%} of the right eye's picture is filled"
    notes = [Remark(filled_words), Remark(path_text, kind), *trajectory.other_exo(*scene.exos)]
    if near_mask > 0.5:
        warning = f"Warning: {near_mask:.0%} of the image is nearer than {TOO_NEAR_M:g} m"
        notes.append(Remark(warning, RemarkKind.WARNING))
    return SecondEye(rgb=rgb.tensor(), off_px=offset_px, up=up_direction, notes=tuple(notes))


def _up_of_path(scene: PointCloud, trajectory: CameraTrajectory) -> Up:
    """Find the upward direction in a path's world from its scene."""
    ego_path = ego_in_scene(scene, trajectory)
    up = up_of_scene(scene, ego_path)
    path_from_scene = trajectory.ego.at(0)[:, :3].T @ ego_path.at(0)[:, :3]
    return replace(up, direction=path_from_scene @ up.direction)


def _motion_per_frame(
    path: PathError, count: int
) -> tuple[Tensor, Tensor]:  # [T, 3, 3], [T, 3] float64
    """Interpolate turn and shift (metres) of each frame from the frames that could be judged."""
    from scipy.spatial.transform import Rotation  # half of torch's time

    judged_mask = path.judged | ~path.judged.any()
    motion = (
        torch.cat((path.turn_deg, path.shift_m), 1).nan_to_num(0.0)[judged_mask].double().numpy()
    )
    judged_frames = path.step * np.flatnonzero(judged_mask)
    motion_of_frames = np.stack(
        [np.interp(range(count), judged_frames, values) for values in motion.T], 1
    )
    turns = Rotation.from_rotvec(motion_of_frames[:, :3], degrees=True).as_matrix()
    return torch.from_numpy(turns), torch.from_numpy(motion_of_frames[:, 3:])


def iter_second_eye(
    video: Tensor,  # [T, H, W, 3] float 0...1
    scene: PointCloud,
    # The path with the video's camera.
    trajectory: CameraTrajectory,
    eyes: Tensor,  # [T, 3] float64 metres from left to right eye, axes of the upright picture
    *,
    progress: Progress = no_progress,
) -> Iterator[EyeFrame]:
    """Make the right eye's video frame by frame, by the depth along the given path."""
    ego = trajectory.ego.upright
    camera = ego.camera
    right_w2c = ego.w2c.clone()
    right_w2c[..., 3] -= eyes
    metres_of_z = camera.depth_rays().norm(dim=-1)
    left_priors, right_priors = (
        iter_ego_prior(
            scene,
            replace(trajectory, ego=replace(ego, w2c=eye_w2c)),
            prior_preset("exact"),
            classes=True,
            progress=progress,
        )
        for eye_w2c in (ego.w2c, right_w2c)
    )
    for picture, eye_shift, left_prior, right_prior in zip(
        video, eyes, left_priors, right_priors, strict=True
    ):
        picture = picture.float().cpu()
        (nearness, observed), (right_nearness, right_observed) = (
            (1 / (prior.depth_m * metres_of_z), torch.as_tensor(prior.seen) >= EARLIER)
            for prior in (left_prior, right_prior)
        )
        observed &= nearness.isfinite()
        nearness = snap_edges(fill_nearness(nearness, observed), observed, picture)
        source_positions, moved_nearness = find_source_positions(camera, nearness, eye_shift)
        right_observed &= wide_parts(moved_nearness.isnan())
        rgb = fill_holes(
            right_prior.rgb.where(right_observed[..., None], sample_at(picture, source_positions)),
            right_nearness.where(right_observed, moved_nearness),
        )
        yield EyeFrame(rgb=rgb, source=source_positions, observed=observed, nearness=nearness)
