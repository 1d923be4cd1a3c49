"""Guess the room around a scene: an upright box whose faces continue what exo saw of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from ..cameras import CameraPath, camera_centre
from ..frozen import frozen
from ..sizes import REFERENCE_SIZE
from ..trajectory import up_of_scene
from ..types import CameraTrajectory, PointCloud
from .push_pull import push_pull

UP_WITHIN_DEG, LEAST_POINTS, MOST_POINTS = 20.0, 1000, 100_000
"""Uncertainty of up, and points of the background, from which on there is a room. Of more points
some are taken, evenly."""
YAW_STEP_DEG, YAW_BINS = 3, 100
BIN_M, FOOT_BINS, FACE_SHARE = 0.06, 3, 0.06
"""Bin of the points' histogram along an axis, and share of their weight by which a face's peak is
above what is so many bins beside it: a wall has points at all heights."""
MARGIN_M, HEAD_ROOM_M = 0.4, 0.1
"""Least distance of walls and floor from the cameras, and of the ceiling from the highest."""
OVER_HEAD_M = 1.0
"""Height of a ceiling that exo didn't see above the wearer's eyes, at least."""
FACE_CELLS, FACE_M, FADE_M = 96, 0.12, 1.0
"""Cells of a face's picture a side, distance of its points, and metres within which what exo saw of
it fades into its tone."""
SAME_SHARE, REACH_PX = 0.1, 40.0
"""Relative distance of a known pixel from the room up to which it shows the room, and px over which
its difference from the guess is carried on (at a picture of 448 px, as all px here)."""
WIDE_PX, RIM_PX, FACE_RIM_PX = 18.0, 3.0, 8.0
"""Radius of the disc that fits into a wide hole, width of its soft rim and of that of the faces."""
WALLS = (0, 1)
OTHER_AXES = ((1, 2), (0, 2), (0, 1))


@frozen
class Room:
    """Upright box in a scene's world."""

    axes: np.ndarray  # [3, 3] float64, rows: two level axes and up
    low: np.ndarray  # [3] metres along the axes
    high: np.ndarray  # [3]
    # [6 * FACE_CELLS, FACE_CELLS, 3] float32: low and high face of each axis, one below the other
    pictures: np.ndarray
    pictured: np.ndarray  # [6] bool, faces of which anything is known


def fit_room(
    xyz: np.ndarray,  # [N, 3] the static background, metres
    rgb: np.ndarray,  # [N, 3] 0...1
    up: np.ndarray,  # [3] unit
    exo_centres: Sequence[np.ndarray],  # of [1 or T, 3], one a camera
    ego_centres: np.ndarray,  # [T, 3]
) -> Room:
    """Fit an upright box to points around cameras."""
    weights = np.min([((xyz - eye.mean(0)) ** 2).sum(1) for eye in exo_centres], 0)
    # A pixel of exo shows so much surface.
    weights = np.minimum(weights, np.quantile(weights, 0.9))
    axes = _level_axes(xyz, weights, up)
    points, egos = xyz @ axes.T, ego_centres @ axes.T
    cameras = np.concatenate((*exo_centres, ego_centres)) @ axes.T
    corners, supported = np.zeros((2, 3)), np.zeros((3, 2), bool)
    for axis in range(3):
        for side, sign in enumerate((-1, 1)):
            inner = cameras if axis in WALLS or sign > 0 else egos
            margin = HEAD_ROOM_M if axis not in WALLS and sign > 0 else MARGIN_M
            limit = (inner[:, axis] * sign).max() + margin
            position = _outermost_peak(points[:, axis] * sign, weights, limit)
            supported[axis, side] = position is not None
            if position is None:
                position = max(limit, np.quantile(points[:, axis] * sign, 0.99))
                if axis not in WALLS and sign > 0:
                    position = max(position, egos[:, 2].mean() + OVER_HEAD_M)
            corners[side, axis] = position * sign
    pictures, pictured = _face_pictures(points, rgb, corners, supported)
    low, high = corners
    return Room(axes=axes, low=low, high=high, pictures=pictures, pictured=pictured)


def _level_axes(xyz: np.ndarray, weights: np.ndarray, up: np.ndarray) -> np.ndarray:  # [3, 3]
    """Find the level axes along which the points' coordinates peak most, as they do at walls."""
    first = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(up, first)
    level = np.stack((xyz @ first, xyz @ second), 1)
    share = weights / weights.sum()
    angles = np.radians(np.arange(0, 180, YAW_STEP_DEG))
    peakedness = []
    for angle in angles:
        along = level @ (np.cos(angle), np.sin(angle))
        bounds = np.quantile(along, (0.01, 0.99)) + (-0.01, 0.01)
        peakedness.append((np.histogram(along, YAW_BINS, bounds, weights=share)[0] ** 2).sum())
    quarter = len(angles) // 2
    pairs = np.add(peakedness[:quarter], peakedness[quarter:])
    angle = angles[pairs.argmax()]
    across = np.cos(angle) * first + np.sin(angle) * second
    return np.stack((across, np.cross(up, across), up))


def _outermost_peak(along: np.ndarray, weights: np.ndarray, limit: float) -> float | None:
    """Find the farthest peak of a histogram beyond a limit that has enough of the weight."""
    farthest = np.quantile(along, 0.995) + 3 * BIN_M
    edges = np.arange(limit, farthest, max(BIN_M, (farthest - limit) / 1000))
    if len(edges) < 4:
        return None
    counts = np.histogram(along, edges, weights=weights)[0]
    padded = np.pad(np.convolve(counts, (0.5, 1, 0.5), "same"), FOOT_BINS)
    middle = padded[FOOT_BINS:-FOOT_BINS]
    feet = np.maximum(padded[: -2 * FOOT_BINS], padded[2 * FOOT_BINS :])
    is_highest = middle >= sliding_window_view(padded, 2 * FOOT_BINS + 1).max(1)
    peaks = np.flatnonzero(is_highest & (middle - feet >= FACE_SHARE * weights.sum()))
    return float(edges[peaks[-1] : peaks[-1] + 2].mean()) if len(peaks) else None


def _face_pictures(
    points: np.ndarray,  # [N, 3] along the axes
    rgb: np.ndarray,
    corners: np.ndarray,  # [2, 3] low and high
    supported: np.ndarray,  # [3, 2]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pictures of the faces from the points that lie on them, and a common tone."""
    size, cells = corners[1] - corners[0], FACE_CELLS**2
    seen_parts = {}
    for axis, side in np.argwhere(supported).tolist():
        others = OTHER_AXES[axis]
        places = (points[:, others] - corners[0][(others,)]) / size[(others,)]
        on_face = np.abs(points[:, axis] - corners[side, axis]) < FACE_M
        on_face &= ((places >= 0) & (places < 1)).all(1)
        columns, rows = (places[on_face] * FACE_CELLS).astype(int).T
        index = rows * FACE_CELLS + columns
        counts = np.bincount(index, minlength=cells)
        sums = [np.bincount(index, channel, cells) for channel in rgb[on_face].T]
        colours = np.stack(sums, 1) / np.maximum(counts, 1)[:, None]
        if counts.any():
            seen_parts[axis, side] = colours.astype(np.float32), counts > 0
    wall_parts = [part for (axis, _), part in seen_parts.items() if axis in WALLS]
    pictures = np.zeros((6, FACE_CELLS, FACE_CELLS, 3), np.float32)
    pictured = np.zeros(6, bool)
    for face, (axis, side) in enumerate(np.ndindex(3, 2)):
        part = seen_parts.get((axis, side))
        tone_parts = wall_parts if axis in WALLS else [part] if part else []
        if not tone_parts:
            continue
        tone = np.median(np.concatenate([colours[known] for colours, known in tone_parts]), 0)
        pictures[face], pictured[face] = tone, True
        if part:
            colours, known = (values.reshape(FACE_CELLS, FACE_CELLS, -1) for values in part)
            holes = ~known[..., 0]
            whole = push_pull(torch.from_numpy(colours), torch.from_numpy(holes)).numpy()
            cell_m = size[(OTHER_AXES[axis],)].mean() / FACE_CELLS
            share = np.exp(-_distance_px(holes) * cell_m / FADE_M)[..., None]
            pictures[face] = tone + share * (whole - tone)
    return pictures.reshape(-1, FACE_CELLS, 3), pictured


def _distance_px(mask: np.ndarray) -> np.ndarray:  # [H, W] float32
    """Compute each pixel's distance from the nearest one that isn't marked."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)


class RoomGuess:
    """Room of a clip, for the wide holes of its ego view, or the reason why there is none.

    Raises:
        EgoXInputError: an ego camera of another world than the scene's, or of other moments.
    """

    def __init__(
        self,
        scene: PointCloud | None,  # None: not known
        ego: CameraPath,  # in its world
    ) -> None:
        self.ego, self.room, self.reason = ego.to("cpu"), None, "the prior's 'scene' isn't given"
        self.rays = ego.camera.pixel_rays()[0].numpy()
        self.shares: list[tuple[float, float]] = []
        if scene is None:
            return
        CameraTrajectory(ego=ego, exo=scene.exo).check_moments(scene.frames, "scene")
        static, up = scene.static, up_of_scene(scene, ego)
        if up.within_deg > UP_WITHIN_DEG:
            self.reason = f"up isn't known within {UP_WITHIN_DEG:.0f} degrees"
        elif len(static) < LEAST_POINTS:
            self.reason = f"the still background has only {len(static)} points"
        else:
            part = slice(None, None, -(-len(static) // MOST_POINTS))
            self.room = fit_room(
                static.xyz[part].cpu().double().numpy(),
                static.rgb[part].cpu().numpy() / 255,
                up.direction.numpy(),
                [camera_centre(exo.w2c).cpu().numpy() for exo in scene.exos],
                camera_centre(self.ego.w2c).numpy(),
            )
        if self.room is not None and not self.room.pictured.any():
            self.room, self.reason = None, "exo saw neither a wall nor the floor as large planes"

    def fill(
        self,
        frame: int,
        picture: Tensor,  # [H, W, 3] float32, filled with haze
        holes: Tensor,  # [H, W] bool
        depth_m: Tensor,  # [H, W] z depth, NaN unknown
    ) -> Tensor:  # [H, W, 3]
        """Draw the room into the wide holes of one frame."""
        if self.room is None:
            return picture
        px = len(holes) / REFERENCE_SIZE
        hole_mask = holes.numpy()
        room_m, guess, is_pictured = self._look(self.room, frame)
        wide_mask = _distance_px(_distance_px(hole_mask) <= WIDE_PX * px) <= WIDE_PX * px
        nearness = np.nan_to_num(depth_m.numpy()) / np.maximum(room_m, 1e-3)
        same = ~hole_mask & is_pictured & (np.abs(nearness - 1) < SAME_SHARE)
        if same.any():
            difference = push_pull(picture - torch.from_numpy(guess), torch.from_numpy(~same))
            guess += difference.numpy() * np.exp(-_distance_px(~same) / (REACH_PX * px))[..., None]
        share = _soften(is_pictured, FACE_RIM_PX * px) * is_pictured
        share *= _soften(wide_mask, RIM_PX * px) * hole_mask
        self.shares.append((float(share.mean()), float(same.mean())))
        return picture + torch.from_numpy(share[..., None] * (guess.clip(0, 1) - picture.numpy()))

    def _look(
        self, room: Room, frame: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # [H, W], [H, W, 3], [H, W] bool
        """Look at a room from the ego camera: z depth, colour, and where there is one."""
        pose = self.ego.at(frame)
        eye = room.axes @ camera_centre(pose).numpy()
        rays = self.rays @ (pose[:, :3].numpy() @ room.axes.T).astype(np.float32)
        rays = np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)
        to_high, to_low = ((corner - eye).astype(np.float32) for corner in (room.high, room.low))
        metres = np.where(rays > 0, to_high, to_low) / rays
        axis = metres.argmin(-1)
        nearest_m = np.take_along_axis(metres, axis[..., None], -1)
        places = (rays * nearest_m - to_low) / (to_high - to_low)
        others = np.array(OTHER_AXES)[axis]
        cells = np.take_along_axis(places, others, -1) * FACE_CELLS - 0.5
        cells = cells.clip(0, FACE_CELLS - 1).astype(np.float32)
        face = 2 * axis + (np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0)
        rows = (cells[..., 1] + face * FACE_CELLS).astype(np.float32)
        colours = cv2.remap(room.pictures, cells[..., 0], rows, cv2.INTER_LINEAR)
        return nearest_m[..., 0] * self.rays[..., 2], colours, room.pictured[face]

    def words(self) -> str:
        """Describe how much of the view was guessed from how much of it, or why nothing was."""
        if self.room is None:
            return f"haze alone ({self.reason})"
        guessed, same = np.mean(self.shares or [(0.0, 0.0)], 0)
        return f"walls guessed from {same:.0%} of the view in {guessed:.0%} of it"


def _soften(mask: np.ndarray, radius_px: float) -> np.ndarray:
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(radius_px, 0.5))
