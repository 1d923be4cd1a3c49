"""Convert one run to robot episodes of videos, hand states, actions and quality figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_floats, as_uint8
from ..cameras import CameraModel, CameraPath, compose, invert, transform
from ..choices import RobotCameras
from ..errors import EgoXInputError
from ..frozen import frozen
from ..hands import JOINT_NAMES, NOT_GIVEN, SIDES, HandTrack
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind
from ..types import CameraTrajectory, of_frames
from ..video import reproject
from .fit import NOT_TESTABLE, WRONG, CameraFit
from .hand_gaps import HandGaps, bridge_gaps, hands_at_rest
from .videos import MAX_S, PictureKind

TIPS = tuple(index for index, name in enumerate(JOINT_NAMES) if name.endswith("_tip"))
STATE_NAMES = tuple(
    f"{side}_{part}"
    for side in SIDES
    for part in (
        *(f"wrist_{axis}" for axis in "xyz"),
        *(f"wrist_r{row}{column}" for column in "12" for row in "123"),
        *(f"{JOINT_NAMES[tip]}_{axis}" for tip in TIPS for axis in "xyz"),
    )
)
"""Names of the state's 48 numbers: metres, and two columns of the wrist's rotation, in the axes of
the upright ego picture (x right, y down, z forward)."""
POSE_NAMES = tuple(f"m{row}{column}" for row in "1234" for column in "1234")
K_NAMES = ("fx", "skew", "cx", "zero1", "fy", "cy", "zero2", "zero3", "one")
COLUMNS: Mapping[str, tuple[str, tuple[str, ...] | None]] = {
    "observation.state": ("float32", STATE_NAMES),
    "action": ("float32", STATE_NAMES),
    "egox.hand_valid": ("bool", SIDES),
    "egox.hand_reason": ("int64", SIDES),
    "egox.hand_label_px": ("float32", SIDES),
    "egox.action_valid": ("bool", SIDES),
    "egox.action_repeated": ("bool", None),
    "egox.ego_generated": ("bool", None),
    "egox.ego_c2w": ("float64", POSE_NAMES),
    "egox.ego_w2c": ("float64", POSE_NAMES),
    "egox.ego_K": ("float64", K_NAMES),
    "egox.exo_c2w": ("float64", POSE_NAMES),
    "egox.exo_w2c": ("float64", POSE_NAMES),
    "egox.exo_K": ("float64", K_NAMES),
    "egox.head_guessed": ("bool", None),
    "egox.path_deg": ("float32", None),
    "egox.camera_fits": ("int64", None),
    "egox.source_time": ("float64", None),
    "timestamp": ("float32", None),
    "frame_index": ("int64", None),
    "episode_index": ("int64", None),
    "index": ("int64", None),
    "task_index": ("int64", None),
}
"""Columns of every frame: their type, and the names of their numbers. The last five, which every
LeRobot set has, are the set's to fill."""
HAND_COLUMNS = tuple(
    key
    for key in COLUMNS
    if key.startswith(("observation.state", "action", "egox.hand", "egox.act"))
)
"""Columns that an episode without hands lacks."""
EXO_VIDEO, EGO_VIDEO = "observation.images.exo", "observation.images.ego"
MAX_TIME_ERROR = 0.25
"""Frames by which a source's times may be off the set's rate without being resampled."""


@frozen
class Episode:
    """Videos, columns and cameras of one episode, with upright pictures."""

    name: str
    task: str
    fps: int
    videos: Mapping[str, tuple[PictureKind, Tensor]]  # by key, as :func:`.videos.encode` takes them
    columns: Mapping[str, np.ndarray]  # of COLUMNS, [T] or [T, N]
    exo_camera: CameraModel
    ego_camera: CameraModel
    made_from: str = ""  # digest of its files, by which a resumed run knows it
    fit: CameraFit

    def __len__(self) -> int:
        return len(self.columns["egox.source_time"])


def make_episodes(
    name: str,
    task: str,
    exo: Tensor,  # [T, H, W, 3] uint8, or float 0...1
    ego: Tensor,  # [T, h, w, 3] the same, stored (upright) orientation
    # The path of the same frames, with the exo camera's lens and poses.
    trajectory: CameraTrajectory,
    # Hands of the same frames; None: without state and action.
    hands: HandTrack | None,
    *,
    # Frame rate of the set.
    fps: int,
    resample: bool = False,
    # True if a model made the ego video.
    generated: bool = True,
    depth_m: Tensor | None = None,  # [T, h, w] z depth in the ego camera, metres, NaN unknown
    seen: Tensor | None = None,  # [T, h, w] uint8 classes, as EgoPrior has them
    # Hands in the ego video, in the axes of its upright camera.
    detected: HandTrack | None = None,
    # Width of the pinhole view that ego is redrawn for; 0 keeps its own lens.
    rectify_deg: float = 0.0,
    # How well the cameras fit the pictures; None: not tested.
    fit: CameraFit | None = None,
    # What is kept with the episode beside that.
    notes: Sequence[Remark] = (),
    # Refuses cameras that don't fit.
    strict: bool = False,
    made_from: str = "",
    cameras: RobotCameras = "both",
    # A hand that is valid in a smaller share of the frames is at rest in all of them.
    min_hand_share: float = HandGaps.MIN_SHARE,
    progress: Progress = no_progress,
) -> list[Episode]:
    """Make the episodes of a run: videos and columns at the data set's frame rate.

    A label is that of the picture beside it: resampling takes the nearest frame with all it
    has, and the source's time is a column. Gaps in the hands of up to half a second are
    bridged. A longer one cuts the run into several episodes.

    Raises:
        EgoXInputError: no task, other counts of frames than the path's, another frame rate than the
            set's without ``resample``, a view that no pinhole has, with ``strict`` cameras that
            don't fit.
    """
    count = len(trajectory)
    sequences = {"exo": exo, "ego": ego, "hands": hands, "depth": depth_m, "seen": seen}
    wrong_lengths = [
        f"{len(sequence)} of {key}"
        for key, sequence in sequences.items()
        if sequence is not None and len(sequence) != count
    ]
    if wrong_lengths or not task.strip() or not name.strip():
        raise EgoXInputError(
            f"episode {name!r}",
            got=", ".join(wrong_lengths) or "no task" if name.strip() else "no name",
            expected=f"a name, a task in words, and {count} frames of each, as the ego path has",
            fix="give the frames that the path was made for, and say what is done in them",
        )
    fit = fit or CameraFit.untested(count)
    fit = replace(fit, notes=(*fit.notes, *notes))
    if strict and fit.fits == WRONG:
        raise EgoXInputError(
            f"cameras of {name!r}",
            got="; ".join(map(str, fit.notes)),
            expected="poses and lenses that the pictures fit",
            fix="correct the poses of the exo camera or the head, or leave out the strict check",
        )
    if hands is not None:
        trajectory.check_moments(hands.frames, "hands")
        fit = replace(fit, notes=(*fit.notes, *trajectory.other_hands(hands.frames)))
    times_s = trajectory.frames.times_s
    frame_numbers = nearest_frames(times_s, fps, resample, name)
    if (seconds := len(frame_numbers) / fps) > MAX_S:
        sentence = (
            f"{seconds:.0f} s in a file of its own: readers may not find its frames; cut the clip"
        )
        fit = replace(fit, notes=(*fit.notes, Remark(sentence, RemarkKind.WARNING)))
    exo, ego = exo[frame_numbers], ego[frame_numbers]
    ego_lens = written_lens = trajectory.ego.camera.rescale(ego.shape[2], ego.shape[1])
    if rectify_deg:
        written_lens = ego_lens.as_pinhole(rectify_deg)
        ego = reproject(as_floats(ego), ego_lens, written_lens, progress)
    videos: dict[str, tuple[PictureKind, Tensor]] = {}
    if cameras == "both":
        videos[EXO_VIDEO] = "colour", as_uint8(exo)
    videos[EGO_VIDEO] = "colour", as_uint8(ego)
    maps: Sequence[tuple[str, PictureKind, int, Tensor | None]] = (
        ("observation.images.ego_depth", "depth", 1, depth_m),
        ("observation.images.ego_seen", "classes", 3, seen),
    )
    for key, kind, channels, sequence in maps:
        if sequence is not None:
            redrawn = sequence[frame_numbers, ..., None]
            if rectify_deg:
                redrawn = reproject(redrawn, ego_lens, written_lens, mode="nearest").to(
                    sequence.dtype
                )
            videos[key] = kind, redrawn.expand(-1, -1, -1, channels)
    path = of_frames(trajectory, frame_numbers)
    ego_lens = written_lens.upright()
    upright_exo = path.required_exo.resized(exo.shape[2], exo.shape[1]).upright
    columns = fill_columns(
        {
            "egox.ego_generated": generated,
            **_pose_columns("ego", replace(path.ego.upright, lens=ego_lens)),
            **_pose_columns("exo", upright_exo),
            "egox.head_guessed": False if path.guessed is None else path.guessed,
            "egox.path_deg": fit.path_deg[frame_numbers],
            "egox.camera_fits": fit.fits,
            "egox.source_time": times_s[frame_numbers],
        },
        len(frame_numbers),
    )
    pieces: Sequence[Tensor] = [torch.arange(len(frame_numbers))]
    if hands is not None:
        track = hands.select(frame_numbers)
        gaps = HandGaps.of(hands.valid[frame_numbers], fps, min_hand_share)
        if sentence := gaps.text(len(frame_numbers)):
            fit = replace(fit, notes=(*fit.notes, Remark(sentence)))
        label_px = _label_px(track, detected and detected.select(frame_numbers), path, ego_lens)
        hand_columns = _state_and_action(track, path, gaps)
        columns = fill_columns(
            {**hand_columns, "egox.hand_label_px": label_px, **columns}, len(frame_numbers)
        )
        pieces = gaps.pieces
    return [
        Episode(
            name=piece_name(name, number, len(pieces)),
            task=task.strip(),
            fps=fps,
            videos={key: (kind, frames[piece]) for key, (kind, frames) in videos.items()},
            columns={key: values[piece] for key, values in columns.items()},
            exo_camera=upright_exo.camera,
            ego_camera=ego_lens,
            made_from=made_from,
            fit=fit,
        )
        for number, piece in enumerate(pieces)
    ]


def piece_name(name: str, number: int, count: int) -> str:
    """Name one of the pieces that a run is split into."""
    return name if count == 1 else f"{name}_{number + 1}of{count}"


def fill_columns(
    # One value for all frames, or [T, ...].
    columns: Mapping[str, Any],
    count: int,  # T
) -> dict[str, np.ndarray]:  # [T] or [T, N]
    """Convert an episode's columns to the types and order of :data:`COLUMNS`."""
    filled_columns = {}
    for key, (kind, names) in COLUMNS.items():
        if key in columns:
            shape = (count, len(names)) if names else (count,)
            filled_columns[key] = np.broadcast_to(columns[key], shape).astype(kind)
    return filled_columns


def nearest_frames(
    times_s: Tensor,  # [T] float64, rising
    fps: int,
    resample: bool,
    name: str,
) -> Tensor:  # [N] int64
    """Find the frames nearest to evenly spaced times, which are all frames if their times are even.

    Raises:
        EgoXInputError: times at another rate or uneven, and ``resample`` is off.
    """
    elapsed_s = (times_s - times_s[0]).numpy()
    if (
        len(elapsed_s)
        and np.abs(elapsed_s * fps - np.arange(len(elapsed_s))).max() <= MAX_TIME_ERROR
    ):
        return torch.arange(len(elapsed_s))
    if not resample or (np.diff(elapsed_s) <= 0).any():
        rate = (len(elapsed_s) - 1) / max(float(elapsed_s[-1]), 1e-9)
        raise EgoXInputError(
            f"frame rate of {name!r}",
            got=f"{rate:g} frames a second, or uneven times",
            expected=f"{fps} a second: a set has one whole rate",
            fix=f"take the nearest frames by 'resample' (--fps {fps} --resample in a command), or "
            "write another set",
        )
    even_times = np.arange(int(elapsed_s[-1] * fps + 1e-6) + 1) / fps
    next_frames = np.searchsorted(elapsed_s, even_times).clip(1, len(elapsed_s) - 1)
    return torch.from_numpy(
        next_frames
        - (even_times - elapsed_s[next_frames - 1] < elapsed_s[next_frames] - even_times)
    )


def _state_and_action(
    hands: HandTrack,
    path: CameraTrajectory,
    gaps: HandGaps,
) -> dict[str, Tensor]:
    """Compute the hand state of each frame, and the next frame's hands as its action.

    The last frame of a piece has its own hands as action.
    """
    count = len(hands)
    valid = hands.valid & gaps.labelled
    next_frames = torch.arange(1, count + 1).clamp(max=count - 1)
    for piece in gaps.pieces:
        next_frames[piece[-1]] = piece[-1]
    joints, turns = hands.in_world(path.required_exo)
    world_from_wrist = torch.cat((turns, joints[:, :, 0, :, None]), -1)
    tips = transform(invert(world_from_wrist), joints[:, :, TIPS])
    world_from_wrist, tips = bridge_gaps(world_from_wrist, tips, valid, path.frames.times_s)
    head_from_world = path.ego.upright.w2c[:, None]

    def seen_from_head(frames: Tensor) -> Tensor:  # [T, 48] the hands of ``frames``
        head_from_wrist = compose(head_from_world, world_from_wrist[frames])
        tips_in_head = transform(head_from_wrist, tips[frames])
        hand_numbers = torch.cat(
            (
                head_from_wrist[..., 3],
                head_from_wrist[..., :2].mT.flatten(-2),
                tips_in_head.flatten(-2),
            ),
            -1,
        )
        return torch.where(gaps.labelled[:, None], hand_numbers, hands_at_rest()).flatten(1)

    return {
        "observation.state": seen_from_head(torch.arange(count)),
        "action": seen_from_head(next_frames),
        "egox.hand_valid": valid,
        "egox.hand_reason": hands.reason.masked_fill(hands.valid & ~gaps.labelled, NOT_GIVEN),
        "egox.action_valid": valid & valid[next_frames],
        "egox.action_repeated": next_frames == torch.arange(count),
    }


def _label_px(
    hands: HandTrack,
    detected: HandTrack | None,
    path: CameraTrajectory,
    # The upright camera.
    camera: CameraModel,
) -> Tensor:  # [T, 2]
    """Measure the median distance in px between projected hand joints and the joints detected in
    the ego video."""
    if detected is None:
        return torch.full(hands.valid.shape, float(NOT_TESTABLE))
    (projected, projected_valid), (detected_px, detected_valid) = (
        camera.project(points.nan_to_num(0.0))
        for points in (hands.in_head(path)[0], detected.joints)
    )
    distances_px = (
        (projected - detected_px)
        .norm(dim=-1)
        .masked_fill(~(projected_valid & detected_valid), torch.nan)
        .nanmedian(-1)
        .values
    )
    testable = hands.valid & detected.valid & torch.isfinite(distances_px)
    return torch.where(testable, distances_px, NOT_TESTABLE)


def _pose_columns(camera_name: str, camera: CameraPath) -> dict[str, Tensor]:
    w2c = camera.w2c
    last_row = w2c.new_tensor([[[0.0, 0, 0, 1]]]).expand(len(w2c), 1, 4)
    return {
        f"egox.{camera_name}_w2c": torch.cat((w2c, last_row), 1).flatten(1),
        f"egox.{camera_name}_c2w": torch.cat((invert(w2c), last_row), 1).flatten(1),
        f"egox.{camera_name}_K": camera.camera.intrinsics.flatten(),
    }
