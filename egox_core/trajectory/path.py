"""Interpolate, resample and smooth camera paths, and exchange their camera.

Poses are ``w2c`` [..., 3, 4]; what is interpolated is the camera itself, its centre and its c2w
rotation, so that a camera between two others is between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..arrays import Array
from ..cameras import (
    FARTHEST,
    CameraModel,
    CameraPath,
    World,
    camera_centre,
    look_at,
    sensor_from_upright,
    validate_w2c,
)
from ..errors import EgoXInputError
from ..facts import NOTHING_DECLARED, Declared, path_of_array
from ..frames import (
    Clock,
    Frames,
    Numbering,
    find_moments,
)
from ..frozen import frozen
from ..sizes import longest_clip, spare_frames
from ..types import CameraTrajectory
from .declared import with_declared_mount

Between = Literal["spline", "linear", "hold"]
"""Ways of a camera from one pose to the next: on a smooth curve, straight, or not at all until the
next one."""


@frozen
class LookTurns:
    """Rotations at some moments that turn a path's camera towards look points."""

    moments: Tensor  # [N] float64, strictly rising, on the path's clock
    turns: Tensor  # [N, 3, 3] float64, in the world, after the camera's own


class FramesBeyondTrack(EgoXInputError):
    """Error that a track doesn't reach all frames in use, with the part of them that it has."""

    covered: slice | None = None  # None: it has none, or its clock is too unsure to tell


@frozen
class PoseTrack:
    """Camera poses at known moments, in source frames or in seconds of the source video."""

    w2c: Tensor  # [N, 3, 4] float64
    moments: Tensor  # [N] float64, strictly rising
    clock: Clock
    name: str  # used in error messages
    constant: bool = False  # one pose that holds for all time
    # from each pose to the next: one for all, or N - 1
    between: Between | tuple[Between, ...] = "spline"
    # the first pose holds before it, the last one after it; else such frames are refused
    ends_hold: bool = False
    bends: LookTurns | None = None  # turns towards looks, added over all of it
    # what alone ties its clock to the video's; empty: its file or the user does
    clock_by: str = ""
    # settings with which its pictures' names reach over the frames in use; empty: they do
    name_advice: str = ""

    @classmethod
    def numbered(cls, w2c: Tensor, name: str) -> PoseTrack:
        """Make a pose track whose poses belong to source frames 0, 1, 2, …."""
        moments = torch.arange(len(w2c), dtype=torch.float64)
        return cls(w2c=w2c, moments=moments, clock="index", name=name, constant=len(w2c) == 1)

    def at(self, moments: Tensor) -> Tensor:  # [M] -> [M, 3, 4]
        """Compute the poses at other moments on the track's clock."""
        poses = interpolate_poses(self.w2c, self.moments, moments, self.between)
        return poses if self.bends is None else apply_look_turns(poses, moments, self.bends)

    def of_frames(self, frames: Frames) -> Tensor:  # [T, 3, 4]
        """Compute the poses at the frames in use.

        Raises:
            EgoXInputError: the track ends before the last frame in use, or begins after the first,
                and its ends don't hold.
        """
        is_numbered = self.clock == "index"
        moments = frames.moments_on(self.clock)
        unit = "" if is_numbered else " s"
        tolerance = frames.end_tolerance(self.clock)
        first_moment = float(self.moments[0])
        last_moment = float(self.moments[-1])
        is_outside = (
            float(moments.max()) > last_moment + tolerance
            or float(moments.min()) < first_moment - tolerance
        )
        if is_outside and not self.constant and not self.ends_hold:
            error = FramesBeyondTrack(
                f"trajectory {self.name}",
                got=(
                    f"poses for {'frames' if is_numbered else 'times'} {first_moment:g} to "
                    f"{last_moment:g}{unit}"
                ),
                expected=(
                    f"poses for {float(moments.min()):g} to {float(moments.max()):g}{unit}, the "
                    "frames in use"
                ),
                fix=self._reach_advice(moments, tolerance),
            )
            error.covered = self._covered(frames, moments, tolerance)
            raise error
        return self.at(moments)

    def _covered(self, frames: Frames, moments: Tensor, tolerance: float) -> slice | None:
        """Find the part of the frames that the track has.

        A clock that nothing ties to the video's may lose what programs lose at the end.
        """
        covered_mask = moments >= self.moments[0] - tolerance
        covered_mask &= moments <= self.moments[-1] + tolerance
        positions = covered_mask.nonzero().flatten().tolist()
        if not positions:
            return None
        part = slice(positions[0], positions[-1] + 1)
        lost_count = len(frames) - part.stop
        is_sure = not self.clock_by or not part.start and lost_count <= spare_frames(frames.end)
        return part if is_sure else None

    def _reach_advice(self, moments: Tensor, tolerance: float) -> str:
        """Word what to do about frames in use that the track doesn't reach."""
        first, last = float(self.moments[0]), float(self.moments[-1])
        words = "frame {:g}" if self.clock == "index" else "{:g} s"
        covered_count = int((moments <= last + tolerance).sum())
        advice = []
        if float(moments.min()) < first - tolerance:
            advice.append(f"poses begin at {words.format(first)}: start there or later")
        elif covered_count:
            settings = self.name_advice or f"use {longest_clip(covered_count)} frames"
            advice.append(f"poses end at {words.format(last)}: {settings}")
        if self.clock_by:
            advice.append("declare ego.time_offset_s, the video's time at the first pose")
        return ", or ".join(advice or ["use an earlier start, or a longer trajectory"])

    def trajectory(
        self,
        camera: CameraModel,
        frames: Frames | None = None,
        *,
        # The exo camera in the track's world; None: that world is the exo camera's frame.
        exo: CameraPath | None = None,
        guessed: Tensor | None = None,  # [T] bool, as in CameraTrajectory
        # World of the poses; None: that of the exo camera.
        world: World | None = None,
    ) -> CameraTrajectory:
        """Make the ego trajectory at the frames in use, or at the track's own moments.

        Raises:
            EgoXInputError: track shorter than the frames in use.
        """
        if frames:
            frames, w2c = frames.without_sizes, self.of_frames(frames)
        else:
            is_timed = self.clock == "seconds" and not self.constant
            frames = Frames.timed(self.moments) if is_timed else Frames.of_count(len(self.w2c))
            w2c = self.at(self.moments)
        exo = CameraPath.of_exo(None) if exo is None else exo
        exo = None if world == "unknown" else replace(exo, frames=frames)
        ego = CameraPath(
            lens=camera,
            w2c=w2c,
            frames=frames,
            world="unknown" if exo is None else exo.world,
        )
        return CameraTrajectory(ego=ego, exo=exo, guessed=guessed)

    def __post_init__(self) -> None:
        if self.moments.shape != self.w2c.shape[:1] or not (self.moments.abs() <= FARTHEST).all():
            raise EgoXInputError(
                f"times of {self.name}",
                got=f"{tuple(self.moments.shape)} for {len(self.w2c)} poses",
                expected="one finite time a pose",
                fix="give a finite time for each pose",
            )
        if (self.moments[1:] <= self.moments[:-1]).any():
            raise EgoXInputError(
                f"times of {self.name}",
                got="times that do not rise",
                expected="each later than the last",
                fix="sort the poses by time and drop repeated ones",
            )
        if not isinstance(self.between, str) and len(self.between) != len(self.w2c) - 1:
            raise EgoXInputError(
                f"interpolation of {self.name}",
                got=f"{len(self.between)} for {len(self.w2c)} poses",
                expected="one less than poses",
                fix="give one for each gap between two poses",
            )


def interpolate_poses(
    w2c: Tensor,  # [N, 3, 4]
    moments: Tensor,  # [N] rising
    targets: Tensor,  # [M] other moments; outside the span of ``moments`` the end poses hold
    # One for the whole path, or one for each of the N - 1 gaps.
    between: Between | Sequence[Between] = "spline",
) -> Tensor:  # [M, 3, 4] float64
    """Interpolate poses at other moments: rotations by slerp, centres by a cubic spline, by lines,
    or held.

    A target that has a pose gets it bit for bit: released poses carry few digits and are not
    renormalised. The spline runs through all poses, also where single gaps are linear or hold.
    The page's editor has the same in ``web/js/editor/model/track.mjs``; a test holds the two
    together."""
    w2c, moments, targets = w2c.double(), moments.double(), targets.double()
    if len(w2c) == 1:
        return w2c.expand(len(targets), 3, 4).clone()
    nearest = torch.searchsorted(moments, targets - 1e-9).clamp(max=len(w2c) - 1)
    exact_mask = (moments[nearest] - targets).abs() <= 1e-9
    if exact_mask.all():
        return w2c[nearest]
    times = moments.numpy()
    clipped_targets = np.clip(targets.numpy(), times[0], times[-1])
    previous_index = (
        np.searchsorted(times, clipped_targets, side="right") - 1
    )  # the pose before, or at, each moment
    gap_modes = np.broadcast_to(np.asarray(between), len(w2c) - 1)
    target_modes = gap_modes[previous_index.clip(max=len(gap_modes) - 1)]
    centres = camera_centre(w2c).numpy()
    centre = np.stack(
        [np.interp(clipped_targets, times, centres[:, axis]) for axis in range(3)], axis=-1
    )
    if "spline" in gap_modes and len(w2c) > 2:
        from scipy.interpolate import CubicSpline  # a tenth of torch's time

        # Not-a-knot would ask for four poses.
        spline_centres = CubicSpline(
            times, centres, bc_type="not-a-knot" if len(w2c) > 3 else "natural"
        )(clipped_targets)
        centre = np.where((target_modes == "spline")[:, None], spline_centres, centre)
    from scipy.spatial.transform import Rotation, Slerp  # half of torch's time

    rotations = Rotation.from_matrix(w2c[:, :, :3].mT.numpy())
    poses = _w2c(Slerp(times, rotations)(clipped_targets).as_matrix(), centre)
    # The ends hold bit for bit, too.
    held_mask = torch.from_numpy(
        (target_modes == "hold") | (clipped_targets == times[0]) | (clipped_targets == times[-1])
    )
    poses = torch.where(held_mask[:, None, None], w2c[torch.from_numpy(previous_index)], poses)
    return torch.where(exact_mask[:, None, None], w2c[nearest], poses)


def turns_to_looks(
    w2c: Tensor,  # [N, 3, 4] sensor axes, the path's own poses at the moments
    moments: Tensor,  # [N] strictly rising
    points: Tensor,  # [N, 3] metres, world, what the wearer looks at
    up: Tensor,  # [3] of the world
    # Quarter turns of the camera.
    quarter_turns: int,
) -> LookTurns:
    """Compute the rotations that turn the camera towards a point at each moment, without roll.

    Raises:
        EgoXInputError: a point at the camera, or straight above or below it.
    """
    sensor_rotation = sensor_from_upright(quarter_turns)
    centres = camera_centre(w2c)
    level_rotations = torch.stack(
        [look_at(centre, point, up)[:, :3] for centre, point in zip(centres, points, strict=True)]
    )
    turns = (sensor_rotation @ level_rotations).transpose(-1, -2) @ w2c[:, :, :3]
    return LookTurns(moments=moments, turns=turns)


def apply_look_turns(
    w2c: Tensor, moments: Tensor, bends: LookTurns
) -> Tensor:  # [T, 3, 4], [T] -> [T, 3, 4]
    """Rotate the poses of a path by interpolated bends, leaving all positions unchanged."""
    from scipy.spatial.transform import Rotation, Slerp

    turns = Rotation.from_matrix(bends.turns.numpy())
    times = bends.moments.double().numpy()
    if len(times) > 1:
        turns = Slerp(times, turns)(np.clip(moments.double().numpy(), times[0], times[-1]))
    turns = torch.from_numpy(turns.as_matrix())
    rotation = w2c[:, :, :3].double() @ turns.transpose(-1, -2)
    return torch.cat((rotation, -rotation @ camera_centre(w2c.double())[..., None]), dim=-1)


def trajectory_of_array(
    w2c: object,  # [T, 3, 4] of the frames in use, or [3, 4] of all
    camera: CameraModel,
    frames: Frames | None = None,
    *,
    exo_w2c: Array | None = None,  # [3, 4] or [T, 3, 4]
    declared: Declared = NOTHING_DECLARED,
) -> tuple[CameraTrajectory, str]:
    """Make the ego path from an array of poses for the frames in use.

    Returns:
        The path, and how the poses were read.

    Raises:
        EgoXInputError: matrices that are no poses, fewer than frames in use.
    """
    notes = []
    facts = [*declared.rows("ego.frames")]

    def poses_in_use(values: object, label: str, camera: Literal["ego", "exo"]) -> CameraPath:
        path, report = path_of_array(values, label, camera, frames, declared)
        facts.extend(report.facts)
        notes.extend(map(str, report.notes))
        return path

    exo = CameraPath.of_exo(None) if exo_w2c is None else poses_in_use(exo_w2c, "exo_w2c", "exo")
    ego = poses_in_use(w2c, "ego poses", "ego")
    ego = replace(ego, lens=camera, w2c=ego.poses(len(ego)).clone(), world=exo.world)
    trajectory = CameraTrajectory(ego=ego, exo=replace(exo, frames=ego.frames), facts=tuple(facts))
    return with_declared_mount(trajectory, declared), "; ".join(notes)


def placed_track(
    w2c: Tensor,  # [N, 3, 4]
    numbering: Numbering,
    frames: Frames | None,
) -> tuple[PoseTrack, str]:
    """Make a track of poses at the moments that :func:`.frames.find_moments` finds, with a note.

    Raises:
        EgoXInputError: as there.
    """
    placement = find_moments(numbering, frames)
    track = PoseTrack(
        w2c=w2c[placement.order],
        moments=placement.moments,
        clock=placement.clock,
        name=numbering.what,
        clock_by=placement.clock_by,
        name_advice=placement.name_advice,
    )
    return track, placement.words


def resample(trajectory: CameraTrajectory, frames: Frames) -> CameraTrajectory:
    """Resample a path at the times of other frames, or return it unchanged if they are its own.

    Raises:
        EgoXInputError: the path does not reach over them.
    """
    if frames is trajectory.frames:
        return trajectory
    times = trajectory.frames.times_s
    name = "path"
    later_mask = times.diff(prepend=times[:1] - 1) > 0  # uneven videos repeat a frame
    if trajectory.frames.source is not None:  # it stays a path of its own video
        frames = replace(frames.without_sizes, source=trajectory.frames.source)

    def resampled(camera: CameraPath) -> CameraPath:
        if not camera.stands:
            poses = validate_w2c(camera.w2c, f"poses of the {name}")[later_mask]
            track = PoseTrack(w2c=poses, moments=times[later_mask], clock="seconds", name=name)
            camera = replace(camera, w2c=track.of_frames(frames))
        return replace(camera, frames=frames.without_sizes)

    guessed = trajectory.guessed
    return replace(
        trajectory,
        ego=resampled(trajectory.ego),
        exo=None if trajectory.exo is None else resampled(trajectory.exo),
        guessed=None if guessed is None else flags_at(guessed, times, frames.times_s),
    )


def flags_at(flags: Tensor, times_s: Tensor, targets_s: Tensor) -> Tensor:
    """Look up flags [T] bool at other moments [M], each from the nearest moment."""
    nearest = (targets_s.double()[:, None] - times_s.double()).abs().argmin(1)
    return flags[nearest]


def adapted(
    trajectory: CameraTrajectory,
    *,
    camera: CameraModel | None = None,
    smooth_s: float = 0.0,
) -> CameraTrajectory:
    """Replace the ego camera of a path, and smooth the path.

    Where that camera is turned differently, the picture stays upright.
    """
    if camera not in (None, trajectory.ego.lens):
        trajectory = replace(trajectory, ego=trajectory.ego.with_lens(camera))
    return smoothed(trajectory, smooth_s) if smooth_s > 0 else trajectory


def smoothed(trajectory: CameraTrajectory, sigma_s: float) -> CameraTrajectory:
    """Smooth a path over time with a Gaussian window: centres by their mean, rotations by
    theirs."""
    times = trajectory.frames.times_s
    count = len(trajectory)
    if count < 2:
        return trajectory
    from scipy.spatial.transform import Rotation

    sigma_frames = sigma_s / float((times[-1] - times[0]) / (count - 1))
    w2c = trajectory.ego.w2c
    centres = camera_centre(w2c).numpy()
    turns = Rotation.from_matrix(w2c[:, :, :3].mT.numpy())
    reach_frames = max(1, int(np.ceil(3 * sigma_frames)))
    new_centres = np.empty_like(centres)
    new_turns = []
    for t in range(count):
        # The window stays symmetric towards the ends, so that a steady motion is not pulled
        # inwards.
        half_window = min(reach_frames, t, count - 1 - t)
        window = np.arange(t - half_window, t + half_window + 1)
        weights = np.exp(-0.5 * ((window - t) / sigma_frames) ** 2)
        new_centres[t] = weights @ centres[window] / weights.sum()
        new_turns.append(turns[window].mean(weights))
    smooth_w2c = _w2c(Rotation.concatenate(new_turns).as_matrix(), new_centres)
    return replace(trajectory, ego=replace(trajectory.ego, w2c=smooth_w2c))


def _w2c(c2w: np.ndarray, centres: np.ndarray) -> Tensor:
    """Convert c2w rotations [T, 3, 3] and centres [T, 3] to w2c [T, 3, 4]."""
    rotation = c2w.transpose(0, 2, 1)
    return torch.from_numpy(np.concatenate((rotation, -rotation @ centres[:, :, None]), axis=-1))
