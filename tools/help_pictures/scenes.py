"""Pictures of the nodes from depth over the point cloud to the path through it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.depth.align import align_depth
from egox_core.depth.report import AlignOptions
from egox_core.previews.head_path import draw_head_path
from egox_core.previews.maps import depth_preview, depth_scale
from egox_core.scene.fusion import fuse_scenes
from egox_core.scene.points import join
from egox_core.trajectory import estimate_head
from egox_core.trajectory.poses import camera_centre
from egox_core.types import PointSet

from .outside import EGO_INK, EXO_INK, Outlook
from .room import FRAMES, NOW, Room
from .sheet import as_bytes, curves, sheet

WIDE = (520, 306)
FLICKER = 0.12
"""How far the scale of the metric depth is off, frame by frame: about what single-picture models do on such rooms."""
GAP = slice(5, 9)
"""Frames in which the detector finds nobody."""
VIDEO_ALPHA, VIDEO_BETA = 2.2, 0.05
"""What of the video depth is unknown: 1 / D = alpha / D_video + beta."""


def aside(room: Room, turn_deg: float = 48.0, higher_m: float = 0.8, away: float = 1.35) -> Outlook:
    """A place beside and above the exo camera, which it has in view as well as the table."""
    place = camera_centre(room.exo_pose(turn_deg, away=away, higher_m=higher_m))
    middle = 0.7 * room.table + 0.3 * camera_centre(room.take.depth.exo_w2c)
    return Outlook.at(place, middle, WIDE, view_deg=66.0)


def above(room: Room, size: tuple[int, int] = WIDE, height_m: float = 5.2) -> Outlook:
    """Straight down, the way from exo camera to wearer running across the picture."""
    exo, table = camera_centre(room.take.depth.exo_w2c), room.table
    middle = 0.5 * (exo + table)
    along = (table - exo) * torch.tensor([1.0, 1.0, 0.0])
    upward = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), along)
    return Outlook.at(middle * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, height_m]),
                      middle * torch.tensor([1.0, 1.0, 0.0]), size, up=upward, view_deg=52.0)


def depth_align(room: Room) -> np.ndarray:
    """A metric depth that flickers and a steady one without scale; together, and how far each frame's scale is off."""
    true = room.take.depth
    generator = torch.Generator().manual_seed(7)
    scale = 1 + FLICKER * (2 * torch.rand(FRAMES, 1, 1, generator=generator) - 1)
    metric = replace(true, depth_m=true.depth_m * scale)
    video = replace(true, kind="relative z", depth_m=VIDEO_ALPHA / (1 / true.depth_m - VIDEO_BETA).clamp_min(1e-3))
    moves = torch.stack([room.scene.moving.mask(t) for t in range(FRAMES)])
    aligned, _ = align_depth(metric, video, moves, options=AlignOptions(momentum=0.9))
    colours = depth_scale(true.depth_m)

    def shown(depth_m: torch.Tensor) -> torch.Tensor:
        return depth_preview(depth_m[None], colours)[0]

    off = {name: (100 * ((depth_m / true.depth_m).nanmedian(dim=2).values.nanmedian(dim=1).values - 1)).tolist()
           for name, depth_m in (("metric depth", metric.depth_m), ("aligned", aligned.depth_m))}
    low, high = (int(n) for n in (scale.flatten().argmin(), scale.flatten().argmax()))
    return sheet(
        [("exo frame", room.exo[NOW]),
         ("what moves: left out", room.exo[NOW] * torch.where(moves[NOW], 1.0, 0.25)[..., None])],
        [("in: metric, a frame", shown(metric.depth_m[low])), ("another: flickers", shown(metric.depth_m[high]))],
        [("in: video, no scale", depth_preview(video.depth_m[NOW:NOW + 1])[0]),
         ("out: steady metres", shown(aligned.depth_m[NOW]))],
        [("", curves(off, "scale, % off, over the frames", (-15, 0, 15)))])


def points_now(room: Room) -> PointSet:
    return join(room.scene.static, room.scene.moving[NOW])


def build_scene_(room: Room) -> np.ndarray:
    """From aside: all points of a moment, and the background that the whole clip gave."""
    place = aside(room)
    whole, still = place.points(points_now(room)), place.points(room.scene.static)
    place.frustum(whole, room.take.depth.exo_w2c, room.take.depth.camera, EXO_INK)
    return sheet([("exo frame", room.exo[NOW]), ("background alone", still)],
                 [("the points of this moment, from aside", whole)])


def fuse_scenes_(room: Room) -> np.ndarray:
    """Two exo cameras, the prior of each, and the prior of both."""
    first, second = room.seen_from(room.take.depth.exo_w2c), room.seen_from(room.exo_pose(-80.0, away=0.9))
    path = room.trajectory_now()
    both = fuse_scenes([first.scene, second.scene])
    priors = [room.prior_of(scene, path=path).rgb[0] for scene in (first.scene, second.scene, both)]
    return sheet([("exo camera 1", first.rgb), ("exo camera 2", second.rgb)],
                 [("prior of 1", priors[0]), ("prior of 2", priors[1])],
                 [("prior of both", priors[2]), ("the true view", room.truth[NOW])])


def path_into(picture: np.ndarray, place: Outlook, room: Room, every: int = 3) -> np.ndarray:
    """Exo camera and the ego camera's way, with its looks at some moments."""
    depth, path = room.take.depth, room.trajectory
    place.frustum(picture, depth.exo_w2c, depth.camera, EXO_INK, length_m=0.5)
    for w2c in path.w2c[::every]:
        place.gaze(picture, w2c, EGO_INK)
    place.line(picture, room.head, EGO_INK, 2)
    return picture


def ego_pose_input(room: Room) -> np.ndarray:
    """The path from above, and what the camera sees along it."""
    place = above(room, height_m=4.6)
    picture = path_into(place.points(points_now(room), below_m=2.0), place, room)
    shown = (0, NOW, len(room.trajectory.w2c) - 1)
    seen = [(f"{float(room.trajectory.times_s[t]):.1f} s", prior_at(room, t)) for t in shown]
    return sheet([("from above: exo orange, path of the head blue", picture)], seen)


def estimate_head_pose(room: Room) -> np.ndarray:
    """What a detector saw, the head that was fitted to it at three moments, and the confidence over a gap."""
    points = room.head_points(error_px=1.5)
    scores = points.scores.clone()
    scores[GAP] = 0
    depth = room.take.depth
    path = estimate_head(replace(points, scores=scores), depth.camera, exo_w2c=depth.exo_w2c, depth_m=depth.depth_m,
                         mask=depth.dynamic, times_s=room.trajectory.times_s)
    drawn = draw_head_path(room.exo, depth.camera, path.world_from_head, path.confidence, depth.exo_w2c)
    seen = as_bytes(room.exo[0])
    for place in points.uv[0][points.seen[0]].tolist():
        cv2.circle(seen, (round(place[0]), round(place[1])), 6, (255, 220, 60), -1)

    def close(picture: np.ndarray | Tensor) -> np.ndarray:
        left, top = (max(0, round(float(c))) for c in points.uv[:, :5].mean(dim=(0, 1)) - torch.tensor([190.0, 90.0]))
        return as_bytes(picture)[top:top + 200, left:left + 300]

    return sheet([("in: a detector's points", close(seen)), ("out: the head", close(drawn[0]))],
                 [("nobody seen: bridged", close(drawn[GAP][2])), ("the last frame", close(drawn[-1]))],
                 [("", curves({"confidence, %": (100 * path.confidence).tolist()}, "over the frames", (0, 50, 100)))])


def prior_at(room: Room, frame: int) -> Tensor:
    return room.prior_of(room.scene_at(frame), path=room.trajectory_at(frame)).rgb[0]
