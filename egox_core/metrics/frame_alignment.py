"""Align the frames of an ego video with renders of its path.

The scene is drawn from the ordered poses, wider than the lens so that a turned view still meets it:
turns on a coarse grid first, then Gauss-Newton over turn and shift, the video drawn into the
scene's picture at each step. Only what the scene covers counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel, sensor_from_upright
from ..frames import Frames
from ..frozen import frozen
from ..prior import iter_ego_prior, prior_preset
from ..progress import Progress, no_progress
from ..types import CameraTrajectory, PointCloud

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_FRAMES = 17
"""Frames compared of a clip, evenly spaced: all of 49 take 8 s on two cores."""
FOCAL_PX = 58.0
"""Pixels per radian of the compared pictures: a pixel is about a degree."""
RENDER_PX = 160
"""Side of the scene's picture, px: 79 degrees to each side."""
YAW_PITCH_DEG = (-24, -16, -8, 0, 8, 16, 24)
ROLL_DEG = (-20, -10, 0, 10, 20)
GRID_BLUR_PX, STARTS = 2.0, 4
GRID_PIXELS = (slice(2, None, 4),) * 2
"""Pixels of the scene's picture that are compared on a grid."""
APART_RAD = math.radians(9)
"""Least turn between two starts of the alignment."""
CLIP_SCORE_WEIGHT = 0.5
"""Weight of the clip's mean score beside the frame's own: a path is mostly wrong by one turn
throughout."""
MAX_STEP, MIN_STEP = 0.2, 1e-3
"""Bounds of an update's length, radians and metres together."""
LOCAL_PX, MIN_CONTRAST = 8.0, 0.03
SHIFT_PRIOR_M = 0.1
SHIFT = slice(3, 6)
"""Places of the shift among the numbers that are fitted."""
CORRELATED_PIXELS = 30.0
"""Count of pixels whose errors go together."""
BLOCK_PX = 8
SPREAD_FACTOR = 5.0
"""True error per frame of drawn rooms over what its residuals say."""
MIN_OVERLAP = 0.2
MIN_COVERED = 0.03
"""Share of the scene's picture that must be covered."""


class Level(NamedTuple):
    """Resolution and robustness of one level of the alignment."""

    stride: int
    blur_px: float
    rounds: int
    half_weight_error: float  # squared error at which a pixel counts a quarter


COARSE, MIDDLE, FINE = Level(2, 2.0, 3, 0.5), Level(2, 2.0, 4, 0.3), Level(1, 0.5, 6, 0.15)


@frozen
class PathRenders:
    """Renders of a scene from the poses of a path, wider than the ego lens."""

    frames: Frames  # of the clip
    step: int  # from one drawn frame to the next
    camera: CameraModel  # of the ordered path
    pictures: list[np.ndarray]  # [S, S, 3] per drawn frame
    masks: list[np.ndarray]  # [S, S] float, 1 where the scene covers
    metres: list[np.ndarray]  # [S, S] along the ray
    rays: np.ndarray  # [S, S, 3]
    by_point: np.ndarray  # [S, S, 2, 3] px per metre of a point at 1 m
    by_turn: np.ndarray  # [S, S, 2, 3] px per radian
    map_camera: CameraModel  # of the renders
    estimated: bool = False  # the path was estimated, so that it may be what is off

    @classmethod
    def of(
        cls,
        scene: PointCloud,
        trajectory: CameraTrajectory,
        *,
        # Limit of the frames; None: MAX_FRAMES.
        most: int | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Render evenly spaced frames of the scene from the poses of a path.

        Raises:
            EgoXInputError: as :func:`iter_ego_prior`.
        """
        step = math.ceil(scene.frame_count / (most or MAX_FRAMES))
        wide_lens = replace(
            CameraModel.pinhole(RENDER_PX, RENDER_PX, FOCAL_PX),
            lens="opencv_fisheye",
            max_angle_deg=80.0,
            quarter_turns=trajectory.ego.camera.quarter_turns,
        )
        options = replace(
            prior_preset("exact"),
            supersample=1,
            gap_reach=0.0,
            coarse=len(scene.static) > 100_000,
            device="cpu",  # small pictures, and the same figures on every machine
        )
        views = list(
            iter_ego_prior(
                scene,
                replace(trajectory, ego=replace(trajectory.ego, lens=wide_lens)),
                options,
                frames=range(0, scene.frame_count, step),
                progress=progress,
            )
        )
        rays, inside = wide_lens.pixel_rays()
        axes = torch.eye(3)
        step_m = 1e-3
        by_point = torch.stack(
            [
                (
                    wide_lens.project(rays + step_m * axis)[0]
                    - wide_lens.project(rays - step_m * axis)[0]
                )
                / (2 * step_m)
                for axis in axes
            ],
            -1,
        ).numpy()
        minus_cross = torch.linalg.cross(rays[:, :, None], axes[None, None]).numpy()
        ray_z = rays[..., 2].clamp_min(1e-3)
        return cls(
            frames=scene.frames,
            step=step,
            camera=trajectory.ego.camera,
            pictures=[view.rgb.numpy() for view in views],
            masks=[(inside & torch.isfinite(view.depth_m)).float().numpy() for view in views],
            metres=[(view.depth_m / ray_z).nan_to_num(1.0).numpy() for view in views],
            rays=rays.numpy(),
            by_point=by_point,
            by_turn=by_point @ minus_cross,
            map_camera=wide_lens,
            estimated=trajectory.guessed is not None,
        )


@frozen
class PictureMatch:
    """Video frames at the resolution of the comparison, with their renders."""

    video: list[np.ndarray]  # [h, w, 3] per frame
    camera: CameraModel  # of it
    lens: np.ndarray  # [h, w] float, 1 inside the lens
    views: PathRenders

    @staticmethod
    def of(video: Tensor, views: PathRenders) -> PictureMatch:
        """Resize a video [T, H, W, 3] to the resolution of the renders."""
        camera = views.camera.rescale(video.shape[2], video.shape[1])
        scale = min(1.0, FOCAL_PX / camera.fx)
        height, width = (max(2, round(side * scale)) for side in video.shape[1:3])
        camera = camera.rescale(width, height)
        return PictureMatch(
            video=[
                cv2.resize(frame.float().numpy(), (width, height), interpolation=cv2.INTER_AREA)
                for frame in video[:: views.step]
            ],
            camera=camera,
            lens=camera.pixel_rays()[1].float().numpy(),
            views=views,
        )

    def look_up(
        self,
        points: np.ndarray,  # [G, n, 3] in the video's camera
    ) -> tuple[np.ndarray, np.ndarray]:  # [G, n] number of the pixel, and whether the lens sees it
        """Find the video pixel that each point projects to."""
        lookup = self.camera.look_up(torch.from_numpy(points.astype(np.float32)))
        pixel_indices, valid = (values.numpy() for values in lookup[1:])
        return pixel_indices, valid & (self.lens.ravel()[pixel_indices] > 0.5)

    def correlations(
        self,
        t: int,
        pixel_indices: np.ndarray,  # [G, n], of look_up, for the scene's pixels GRID_PIXELS
        valid: np.ndarray,  # [G, n] bool
    ) -> np.ndarray:  # [G]
        """Correlate a blurred frame with the blurred render, for each candidate alignment."""
        mask = self.views.masks[t]
        scene_mask = mask[GRID_PIXELS].ravel() > 0
        if not scene_mask.any():
            return np.zeros(len(pixel_indices))
        (video_contrast,), (scene_contrast,) = (
            _even_contrasts(
                (blur_inside(picture, picture_mask, GRID_BLUR_PX),), picture_mask, LOCAL_PX
            )
            for picture, picture_mask in (
                (self.video[t], self.lens),
                (self.views.pictures[t], mask),
            )
        )
        scene_contrast = scene_contrast[GRID_PIXELS].reshape(-1, 3)[scene_mask]
        valid_points = valid[:, scene_mask]
        video_values = (
            video_contrast.reshape(-1, 3)[pixel_indices[:, scene_mask]] * valid_points[..., None]
        )
        squared_norm = np.square(video_values).sum((1, 2)) * (
            valid_points @ np.square(scene_contrast).sum(1)
        )
        return (
            video_values.reshape(len(pixel_indices), -1)
            @ scene_contrast.ravel()
            / np.sqrt(np.maximum(squared_norm, 1e-9))
            * (valid_points.mean(1) > 0.35)
        )


def coarse_turns(match: PictureMatch) -> np.ndarray:  # [T, STARTS, 3] rad, sensor axes
    """Find the best rotations on a coarse grid, by correlating blurred pictures."""
    grid_deg = np.array(np.meshgrid(YAW_PITCH_DEG, YAW_PITCH_DEG, ROLL_DEG)).reshape(3, -1).T
    turns = np.deg2rad(grid_deg) @ sensor_from_upright(match.camera.quarter_turns).numpy().T
    rotations = rotation_matrices(turns).astype(np.float32)
    pixels_and_valid = match.look_up(
        match.views.rays[GRID_PIXELS].reshape(-1, 3) @ rotations.transpose(0, 2, 1)
    )
    scores = np.stack([match.correlations(t, *pixels_and_valid) for t in range(len(match.video))])
    scores += CLIP_SCORE_WEIGHT * scores.mean(0)
    start_turns = np.zeros((len(scores), STARTS, 3))
    for start in range(STARTS):
        start_turns[:, start] = turns[scores.argmax(1)]
        scores[np.linalg.norm(turns - start_turns[:, start, None], axis=-1) < APART_RAD] = -9.0
    return start_turns


class Pose(NamedTuple):
    """Rotation and shift of the video's camera relative to the path's camera.

    A point p is at rotation (p + shift).
    """

    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3] metres
    score: float = 0.0
    spread: float = math.inf  # rad

    @classmethod
    def unchanged(cls) -> Pose:
        """Make the pose of a video that follows its path."""
        return cls(np.eye(3), np.zeros(3))


def best_pose(match: PictureMatch, t: int, starts: np.ndarray) -> Pose:
    """Find the best pose of a frame, starting from a few rotations."""
    if not match.views.masks[t].any():
        return Pose(np.eye(3), np.zeros(3))
    start_poses = [Pose(rotation, np.zeros(3)) for rotation in rotation_matrices(starts)]
    view = FrameView.of(match, t, COARSE)
    best_pose = max(
        (align_frame(view, pose, COARSE) for pose in start_poses), key=lambda pose: pose.score
    )
    return align_frame(FrameView.of(match, t, FINE), align_frame(view, best_pose, MIDDLE), FINE)


@frozen
class FrameView:
    """Frame and render at the resolution of one alignment level."""

    camera: CameraModel
    lens: np.ndarray  # [h, w]
    video: np.ndarray  # [h, w, 3] blurred
    scene: np.ndarray  # [s, s, 3] blurred
    covered_mask: np.ndarray  # [s, s] bool, what the scene covers
    points: np.ndarray  # [n, 3] of them, metres
    slope: np.ndarray  # [n, 2, 6 or more] px per radian, metre and what else is fitted
    block: np.ndarray  # [n] where each lies, for what goes together

    @staticmethod
    def of(match: PictureMatch, t: int, level: Level) -> FrameView:
        mask = match.views.masks[t]
        step = level.stride
        strided = (slice(step // 2, None, step),) * 2
        covered_mask = mask[strided] > 0
        metres = match.views.metres[t][strided][covered_mask][:, None]
        by_point, by_turn = (
            slopes[strided][covered_mask] / step
            for slopes in (match.views.by_point, match.views.by_turn)
        )
        row, column = np.argwhere(covered_mask).T * step // BLOCK_PX
        return FrameView(
            camera=match.camera,
            lens=match.lens,
            video=cv2.GaussianBlur(match.video[t], (0, 0), level.blur_px),
            scene=blur_inside(match.views.pictures[t], mask, level.blur_px)[strided],
            covered_mask=covered_mask,
            points=match.views.rays[strided][covered_mask] * metres,
            block=row * (RENDER_PX // BLOCK_PX) + column,
            slope=np.concatenate((by_turn, by_point / metres[..., None]), -1),
        )

    def over(
        self,
        uv: np.ndarray,  # [n, 2] where its points lie in the video
        valid: np.ndarray,  # [n] bool, of the projection
        level: Level,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Warp the video frame to the render's view.

        Returns:
            Which points the video has [n], the same in the picture [s, s], and both pictures [s, s,
            3], of even contrast.
        """
        height, width = self.lens.shape
        u, v = uv.T
        valid = valid & (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)
        column, row = np.rint(uv[valid]).astype(np.int64).T
        valid[valid] = self.lens[row, column] > 0.5
        shape = self.covered_mask.shape
        video_positions = np.full((*shape, 2), -9.0, np.float32)
        mask = np.zeros(shape, np.float32)
        shown = np.flatnonzero(self.covered_mask)[valid]
        video_positions.reshape(-1, 2)[shown] = uv[valid]
        mask.reshape(-1)[shown] = 1
        # OpenCV takes None for the second map, which its stubs don't know.
        video = cv2.remap(  # ty: ignore[no-matching-overload]
            self.video, video_positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        video, scene = _even_contrasts((video, self.scene), mask, LOCAL_PX / level.stride)
        return valid, mask, video, scene


class FrameEquations(NamedTuple):
    """Normal equations of a Gauss-Newton step of one frame, and what its pictures agree in."""

    matrix: np.ndarray  # [6, 6], or as many as the view's slope has
    slope: np.ndarray  # [6]
    slopes: np.ndarray  # [n, 3, 6] of the inner pixels' differences
    weighted_slopes: np.ndarray  # [n, 3, 6]
    differences: np.ndarray  # [n, 3]
    errors: np.ndarray  # [n] mean squares of what the pictures differ by
    inner_mask: np.ndarray  # [s, s] bool
    sums: tuple[float, float, float]  # video x scene, video squared, scene squared

    @property
    def gradients(self) -> np.ndarray:  # [n, 6]
        """Parts of the inner pixels in the slope."""
        return np.einsum("nci,nc->ni", self.weighted_slopes, self.differences)

    @property
    def last_slopes(self) -> np.ndarray:  # [n, 6]
        """Growth of those parts with the last of the numbers."""
        return np.einsum("nci,nc->ni", self.weighted_slopes, self.slopes[..., -1])

    @property
    def score(self) -> float:
        """Correlation of both pictures."""
        product, video_sum, scene_sum = self.sums
        return float(product / max(math.sqrt(video_sum * scene_sum), 1e-9))


def frame_equations(
    views: Sequence[FrameView],  # of one video
    rotation: np.ndarray,
    shift: np.ndarray,
    level: Level,
    *,
    parts: Sequence[np.ndarray] | None = None,  # [s, s] bool per frame, what alone counts
    shift_prior_m: float = SHIFT_PRIOR_M,
) -> list[FrameEquations | None]:
    """Set up a Gauss-Newton step over rotation and shift per frame, None for too little overlap."""
    points = (np.concatenate([view.points for view in views]) + shift) @ rotation.T
    # All at once, since the operations cost more than the points of a frame.
    uv, valid = (
        np.split(values.numpy(), np.cumsum([len(view.points) for view in views])[:-1])
        for values in views[0].camera.project(torch.from_numpy(points.astype(np.float32)))
    )
    return [
        _equations(view, view.over(view_uv, view_valid, level), shift, level, part, shift_prior_m)
        for view, view_uv, view_valid, part in zip(
            views, uv, valid, parts or [None] * len(views), strict=True
        )
    ]


def _equations(
    view: FrameView,
    warped: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],  # of FrameView.over
    shift: np.ndarray,
    level: Level,
    part: np.ndarray | None,
    shift_prior_m: float,
) -> FrameEquations | None:
    valid, mask, video, scene = warped
    shift_prior = np.zeros((view.slope.shape[-1],) * 2)
    shift_prior[SHIFT, SHIFT] = np.eye(3) / shift_prior_m**2
    inner_mask = (
        cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        > 0
    )
    overlap_mask = mask > 0
    if part is not None:
        inner_mask, overlap_mask = inner_mask & part, overlap_mask & part
    # Numbers of pixels, since numpy indexes by a mask four times as slowly.
    inner, overlap = np.flatnonzero(inner_mask), np.flatnonzero(overlap_mask)
    if valid.mean() < MIN_OVERLAP or len(inner) < 20:
        return None
    differences = (video - scene).reshape(-1, 3).take(inner, 0)
    error = _mean_of_channels(np.square(differences))
    weight = 1 / np.square(1 + error / level.half_weight_error)
    both = (video + scene).reshape(-1, 3)
    # Inner pixels have neighbours: none is at a border.
    along_x, along_y = (
        ((both.take(inner + step, 0) - both.take(inner - step, 0)) / 4)[..., None]
        for step in (1, mask.shape[1])
    )
    by_u, by_v = view.slope[inner_mask[view.covered_mask]].transpose(1, 0, 2)[:, :, None]
    # Written out, since numpy multiplies small matrices slowly.
    slopes = along_x * by_u + along_y * by_v
    weighted_slopes = slopes * weight[:, None, None]
    noise = CORRELATED_PIXELS / level.stride**2 * float(error @ weight / weight.sum())
    count = len(shift_prior)
    weighted_columns = weighted_slopes.reshape(-1, count).T
    normal_matrix = weighted_columns @ slopes.reshape(-1, count)
    normal_matrix += shift_prior * noise
    normal_matrix += 1e-6 * np.trace(normal_matrix) * np.eye(count)
    video_values, scene_values = (x.reshape(-1, 3).take(overlap, 0) for x in (video, scene))
    return FrameEquations(
        matrix=normal_matrix,
        slope=weighted_columns @ differences.ravel() + noise * shift_prior[:, SHIFT] @ shift,
        slopes=slopes,
        weighted_slopes=weighted_slopes,
        differences=differences,
        errors=error,
        inner_mask=inner_mask,
        sums=(
            (video_values * scene_values).sum(),
            np.square(video_values).sum(),
            np.square(scene_values).sum(),
        ),
    )


def align_frame(view: FrameView, pose: Pose, level: Level) -> Pose:
    """Align a frame with its render by Gauss-Newton steps over rotation and shift."""
    rotation, shift = pose.rotation, pose.shift
    for is_last in [False] * level.rounds + [True]:
        (equations,) = frame_equations([view], rotation, shift, level)
        if equations is None:
            return Pose(rotation, shift)
        if is_last:
            break
        change = -np.linalg.solve(equations.matrix, equations.slope)
        step_length = np.linalg.norm(change)
        if step_length < MIN_STEP:
            break
        change *= MAX_STEP / max(step_length, MAX_STEP)
        turn = rotation_matrices(change[:3])
        rotation = rotation @ turn
        shift = turn.T @ (shift + change[3:])
    block_numbers = view.block[equations.inner_mask[view.covered_mask]]
    block_sums = np.stack(
        [np.bincount(block_numbers, axis_gradients) for axis_gradients in equations.gradients.T], -1
    )
    inverse_normal = np.linalg.inv(equations.matrix)
    covariance = inverse_normal @ (block_sums.T @ block_sums) @ inverse_normal
    spread = math.sqrt(max(np.trace(covariance[:3, :3]), 0.0))
    return Pose(rotation, shift, equations.score, spread)


def rotation_matrices(rotation_vectors: np.ndarray) -> np.ndarray:  # [..., 3] rad -> [..., 3, 3]
    from scipy.spatial.transform import Rotation  # half of torch's time

    return Rotation.from_rotvec(rotation_vectors).as_matrix()


def blur_inside(picture: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a picture within a mask, without mixing in pixels outside of it."""
    blurred_sum = cv2.GaussianBlur(picture * mask[..., None], (0, 0), sigma)
    return blurred_sum / np.maximum(cv2.GaussianBlur(mask, (0, 0), sigma), 1e-3)[..., None]


def _even_contrasts(
    pictures: Sequence[np.ndarray], mask: np.ndarray, sigma: float
) -> list[np.ndarray]:
    """Normalise local brightness and contrast of pictures within a mask."""
    box_px = 2 * round(1.225 * sigma) + 1  # of two boxes in turn, as wide as a Gaussian of sigma

    def box_blur(values: np.ndarray) -> np.ndarray:
        for _ in range(2):
            values = cv2.blur(values, (box_px, box_px), borderType=cv2.BORDER_CONSTANT)
        return values

    inverse_share = 1 / np.maximum(box_blur(mask), 1e-3)
    inside, inverse_shares = _in_channels(mask), _in_channels(inverse_share)
    even_pictures = []
    for picture in pictures:
        mean_picture = box_blur(picture * inside) * inverse_shares
        deviations = (picture - mean_picture) * inside
        spread = box_blur(_mean_of_channels(np.square(deviations))) * inverse_share
        even_pictures.append(deviations / _in_channels(np.sqrt(spread + MIN_CONTRAST**2)))
    return even_pictures


def _in_channels(values: np.ndarray) -> np.ndarray:  # [h, w] -> [h, w, 3]
    """Repeat a map in three channels, since numpy multiplies by ``values[..., None]`` slowly."""
    return cv2.merge((values,) * 3)


def _mean_of_channels(values: np.ndarray) -> np.ndarray:  # [..., 3] -> [...]
    """Compute ``values.mean(-1)``, to the same bits but ten times as fast."""
    return (values[..., 0] + values[..., 1] + values[..., 2]) / 3
