"""Compare an ego video with pictures of the scene that are rendered along the stated camera
path."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from egox_core.cameras import sensor_from_upright
from egox_core.frozen import frozen
from egox_core.metrics import (
    FoundExo,
    PathError,
    PathViews,
    Pose,
    SizePrior,
    exact_scene,
    search_exo,
)
from egox_core.progress import Progress
from egox_core.stages import scene
from egox_core.take import Take
from egox_core.takes import LOCAL_ERROR, MODEL_ERROR, with_raw_scale
from egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from egox_core.video import decode_frames, probe_video

from .check_row import LEAST_LENS_SHARE, EpisodeResult
from .frames import poses_at, sensor_poses
from .view_pose import LEAST_TURN_DEG, ViewPose, radius

COMPARED_FRAMES = 9
"""Evenly spaced frames of the scene that are drawn, as many as a clip's turn is searched in."""
FEWEST_FRAMES = 5
FREEDOMS: tuple[Literal["turn", "shift"], ...] = ("turn", "shift")
"""Corrections of the exo camera that are tried where the view isn't like the scene."""
SCALE_STEP, MOST_SCALE_SDS = math.log(1.25), 1.5
"""Sizes of the depth that are tried with it: steps of the logarithm, and how far they reach."""


def fit_view(
    episode_result: EpisodeResult,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    # Standard deviation of the logarithm of the depth's size, None: not stated.
    depth_sd: float | None,
    progress: Progress,
) -> tuple[EpisodeResult, str]:
    """Compare an ego video with the rendered scene, after correcting the time lag of the poses.

    Another focal length of the exo camera is named if it fits better with that. If it doesn't look
    like the scene, a turn or a shift of that camera is searched at which it does."""
    ego_info = probe_video(ego_video)
    take_path = take.trajectory.with_depth_camera(take.depth.exo)
    frame_indices = take_path.frames.indices.numpy()
    frame_indices = frame_indices[frame_indices < len(times_s)]
    used_count = len(frame_indices) - (len(frame_indices) - 1) % 4
    frame_indices = frame_indices[:used_count]
    if used_count < FEWEST_FRAMES:
        return episode_result, f"its view is not testable: fewer than {FEWEST_FRAMES} frames"
    take_path = replace(take_path, ego=take_path.ego.resized(ego_info.width, ego_info.height))
    if episode_result.lag_s:
        corrected_poses = torch.from_numpy(
            poses_at(times_s, w2c, times_s[frame_indices] + episode_result.lag_s)
        )
        full_poses = torch.cat(
            [sensor_poses(take_path.ego, corrected_poses), take_path.ego.w2c[used_count:]]
        )
        take_path = replace(take_path, ego=replace(take_path.ego, w2c=full_poses))
    ego_pictures = np.stack(
        [picture for _, picture in decode_frames(ego_video, ego_info, frame_indices.tolist())]
    )
    ego_pictures = torch.from_numpy(ego_pictures).float() / 255
    if used_count < len(take_path):
        ego_pictures = torch.cat(
            [
                ego_pictures,
                ego_pictures[-1:].expand(len(take_path) - used_count, *ego_pictures.shape[1:]),
            ]
        )
    comparison = _Comparison(
        exo_video=take.read_exo(progress),
        depth=take.depth,
        path=take_path,
        pictures=ego_pictures,
        depth_sd=depth_sd,
        progress=progress,
    )
    scaled_depth = comparison.scaled(take.depth)
    size = comparison.size_prior
    if scaled_depth.raw_scale:
        size = replace(size, sd=scaled_depth.raw_scale[2])
    views, scene_path = comparison.draw(scaled_depth)
    stated_error = error = views.error(ego_pictures)
    starts = _starts(error, take_path)
    fit = views.scene_fit(ego_pictures, scene_path, size, starts=starts)
    lens = views.scene_fit(ego_pictures, scene_path, size, starts=starts, is_focal_known=False)
    least_log = math.log1p(LEAST_LENS_SHARE)
    if (
        lens is not None
        and abs(lens.log_focal) >= max(least_log, radius(lens.focal_covariance, lens.freedom))
        and (fit is None or lens.surely_fits_better(fit))
    ):
        depth = comparison.scaled(_with_focal_factor(take.depth, lens.focal_factor))
        clip = comparison.draw(depth)[0].clip_turn(ego_pictures)
        if clip.judged and clip.angle_deg < LEAST_TURN_DEG and clip.score > error.clip.score:
            return replace(episode_result, exo_focal_factor=lens.focal_factor), (
                "exo camera has another lens: its view fits if its focal length is "
                f"{lens.focal_factor:.2f} times as long"
            )
    ego_from_exo = scene_path.ego.seen_from(scene_path.required_exo)[len(take_path) // 2].numpy()
    if fit is not None and not error.clip.judged:  # it may be at the size that fits
        views, _ = comparison.draw(scaled_depth.scaled(math.exp(fit.log_size)))
        size = replace(size, log_size=-fit.log_size)
        error = views.error(ego_pictures)
        fit = views.scene_fit(ego_pictures, scene_path, size, starts=_starts(error, take_path))
    if fit is not None and error.clip.judged:
        pose = ViewPose.of_fit(fit, ego_from_exo, take_path.ego.camera)
        return replace(episode_result, view=pose), _stated_text(pose)
    found = comparison.search()
    fit = None
    if found.error.clip.judged:
        size = replace(comparison.size_prior, log_size=-math.log(found.scale))
        fit = found.views.scene_fit(ego_pictures, found.path, size)
    if fit is None:
        reason = stated_error.clip.reason or "its turn and shift can't be told apart"
        return episode_result, f"its view is not testable: {reason}"
    change = found.pose_change[len(found.pose_change) // 2].numpy()
    pose = ViewPose.of_fit(fit.after(change, found.scale), ego_from_exo, take_path.ego.camera)
    return replace(episode_result, view=pose, is_exo_searched=True), (
        f"exo camera turned or moved: {pose.needed_text()}"
        if pose.is_off
        else f"its view fits at another scale of its depth; {pose.limit_text()}"
    )


@frozen
class _Comparison:
    """Ego video of an episode, and what the scene that it is compared with is drawn from."""

    exo_video: torch.Tensor  # [T, H, W, 3] uint8
    depth: DepthVideo  # as stated
    path: CameraTrajectory
    pictures: torch.Tensor  # [T, H, W, 3] float of the ego video
    depth_sd: float | None
    progress: Progress

    @property
    def sd(self) -> float:
        """Standard deviation of the logarithm of the stated depth's size."""
        return MODEL_ERROR if self.depth_sd is None else self.depth_sd

    @property
    def size_prior(self) -> SizePrior:
        """Prior of the stated depth's size. A part of it is off by no more than the whole."""
        return SizePrior(sd=self.sd, part_sd=min(self.sd, LOCAL_ERROR))

    def scaled(self, depth: DepthVideo) -> DepthVideo:
        """Let the wearer tell the size of a depth, unless it is known."""
        if self.depth_sd is not None:
            return self.as_stated(depth)
        return with_raw_scale(depth, self.path.ego, progress=self.progress)

    def as_stated(self, depth: DepthVideo) -> DepthVideo:
        """Leave a depth at the size that it has."""
        return replace(depth, raw_scale=(1.0, "scale as stated", self.sd))

    def scene(self, depth: DepthVideo) -> PointCloud:
        """Build the scene with the exact lens and scale where they are known, else as stated."""
        exo_pictures = self.exo_video.float() / 255
        exact = exact_scene(exo_pictures, depth, self.path, progress=self.progress)
        return exact[0] if exact else scene(self.exo_video, depth, progress=self.progress)[0]

    def draw(self, depth: DepthVideo) -> tuple[PathViews, CameraTrajectory]:
        """Draw the scene along the path, and return the path in its world, too."""
        points = self.scene(depth)
        views = PathViews.of(points, self.path, most=COMPARED_FRAMES, progress=self.progress)
        return views, self.path.in_world_of(points.exo)

    def search(self) -> FoundExo:
        """Search a turn and a shift of the exo camera, with sizes of the depth as it is stated,
        since the wearer tells none where the stated camera doesn't see the wearer."""
        points = self.scene(self.as_stated(self.depth))
        steps = round(MOST_SCALE_SDS * self.sd / SCALE_STEP)
        found_exos = [
            search_exo(
                points,
                self.path,
                self.pictures,
                self.progress,
                freedom=freedom,
                scales=[math.exp(n * SCALE_STEP) for n in range(-steps, steps + 1)],
                most=COMPARED_FRAMES,
            )
            for freedom in FREEDOMS
        ]
        clips = [found.error.clip for found in found_exos]
        best = max(range(len(clips)), key=lambda n: (clips[n].judged, clips[n].score))
        return found_exos[best]


def _stated_text(pose: ViewPose) -> str:
    """Say how the view of the stated cameras fits."""
    if pose.is_off:
        return f"exo or head camera turned or moved, or another lens: {pose.needed_text()}"
    return f"its view fits; {pose.limit_text()}"


def _starts(error: PathError, path: CameraTrajectory) -> list[Pose]:
    """List the poses that a fit begins from: that of the path, and if it is judged the clip's one
    turn with the frames' median shift."""
    if not error.clip.judged:
        return [Pose.unchanged()]
    axes = sensor_from_upright(path.ego.camera.quarter_turns).numpy()
    shift_m = error.shift_m.nanmedian(0).values.nan_to_num().numpy()
    clip_rotation = error.clip.sensor_rotation(path.ego.camera).numpy()
    return [Pose.unchanged(), Pose(clip_rotation, axes @ shift_m)]


def _with_focal_factor(depth: DepthVideo, factor: float) -> DepthVideo:
    """Change the focal length of the exo camera that depth is lifted with."""
    lens, raw_lens = (
        None if lens is None else replace(lens, fx=lens.fx * factor, fy=lens.fy * factor)
        for lens in (depth.exo.lens, depth.raw_lens)
    )
    return replace(depth, exo=replace(depth.exo, lens=lens), raw_lens=raw_lens)
