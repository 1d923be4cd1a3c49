"""Find the pose of a fixed camera from pictures, or from the tracked head of the wearer if pictures
don't suffice."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel, sensor_from_upright
from egox_core.trajectory import worn_points

from ..options import CalibrateOptions
from ..takes.head_files import read_keypoints, select_all_frames
from .frames import frames_at
from .lenses import make_lens
from .moving_point import (
    MOST_RELATIVE_SD,
    MOST_ROTATION_SD_DEG,
    SolvedCamera,
    camera_from_point,
    residual_deg,
)
from .picture_sd import jackknife_sds, picture_sds
from .pictures import FEWEST_POINTS
from .recording_files import EGO, ExoFile
from .results import SolvedExo
from .sound import NEAR_SDS, Clocks, clocks_by_sound, read_mono, sound_travel_sd_s
from .structure import ordered_parts
from .world import World, camera_centres

MOST_EAR_ERROR_DEG = 5.0
"""Half of the ears, by the path and the camera by pictures, may be off by more, and the rest may be
anything, since a detector follows other people at times."""
EAR_POINTS = slice(2, 4)  # of a head's points
LEAST_HEAD_MOTION_M = 0.05
"""A head that moves by less (standard deviation) is no target."""
MOST_LAG_S, LAG_STEP_S = 6.0, 0.1
DEFAULT_DISTANCE_M = 5.0  # of sound, to a camera whose distance isn't known
SHUTTER_READOUT_S = 0.016
"""A rolling shutter reads a picture's rows in 8 to 25 ms: phones, action cameras, Aria."""


def solve_exo(
    exo: ExoFile,
    ego_video: Path,
    world: World,
    clocks: Clocks | None,
    clock_failure: str,  # why sound tells none
    lenses: Mapping[str, CameraModel],
    options: CalibrateOptions,
) -> SolvedExo:
    """Find the pose and the clock of one fixed camera, from pictures or from the wearer's head.

    Of the offsets that sound which repeats fits at, the one that the head tells is taken."""
    picture_size = exo.info.width, exo.info.height
    picture_name = f"{exo.name}/still.png"
    lens = lenses[exo.name].rescale(*picture_size) if exo.name in lenses else None
    if lens is None and options.exo_lens not in ("free", "phone", "fisheye"):
        lens, _ = make_lens(options.exo_lens, *picture_size)
    head_solution, head_failure = _solve_by_head(exo, world, clocks, lens)
    if clocks is None and head_solution is not None and head_solution.is_certain:
        clocks, clock_failure = _clocks_by_head(exo, ego_video, head_solution, clock_failure)
    reconstruction = world.structure
    point_count = (
        0 if reconstruction is None else len(reconstruction.point_indices.get(picture_name, ()))
    )
    notes = []
    points_text = (
        f"{point_count} points by pictures, {FEWEST_POINTS} needed"
        if point_count
        else "not by pictures"
    )
    if clocks is None:
        return SolvedExo(
            name=exo.name,
            w2c=None,
            lens=lens,
            clocks=None,
            how_found=(
                f"the clocks' offset is not known: {clock_failure}, and {head_failure}. "
                "Give --offset"
            ),
        )
    if reconstruction is not None and point_count >= FEWEST_POINTS and lens is not None:
        pose = world.pose_in_world(reconstruction.w2c[picture_name])
        head_positions = camera_centres(world.w2c[np.isfinite(world.w2c[:, 0, 0])])
        distance_m = float(
            np.median(np.linalg.norm(head_positions - camera_centres(pose[None])[0], axis=1))
        )
        lens_type = "phone" if options.exo_lens == "free" else options.exo_lens
        _, free_parameters = make_lens(lens_type, *picture_size)
        sd_units, sd_deg = picture_sds(
            reconstruction, picture_name, f"{EGO}/", lenses[exo.name], free_parameters
        )
        shutter_rad = math.radians(world.rotation_speed_deg_s()) * SHUTTER_READOUT_S / math.sqrt(12)
        sd_deg = math.hypot(sd_deg, math.degrees(shutter_rad))
        sd_m = math.hypot(sd_units * world.world_from_structure[0], shutter_rad * distance_m)
        scale_sd_m = 0.0 if world.scale.metres_per_unit is None else world.scale.sd * distance_m
        ear_errors_deg = _ear_errors(exo, world, clocks, pose, lens)
        if ear_errors_deg is not None:
            notes.append(
                f"half of the ears are off by up to {ear_errors_deg[0]:.1f} degrees, 90 % by up to "
                f"{ear_errors_deg[1]:.1f}"
            )
        if ear_errors_deg is not None and ear_errors_deg[0] > MOST_EAR_ERROR_DEG:
            return SolvedExo(
                name=exo.name,
                w2c=None,
                lens=lens,
                clocks=clocks,
                how_found=f"pictures and the wearer's head don't agree ({notes[-1]})"
                + _other_clock(exo, world, clocks, lens),
            )
        if sd_m <= MOST_RELATIVE_SD * distance_m and sd_deg <= MOST_ROTATION_SD_DEG:
            return SolvedExo(
                name=exo.name,
                w2c=pose,
                lens=lens,
                clocks=_with_travel_time(clocks, distance_m),
                how_found=f"by pictures, {point_count} points",
                sd_m=math.hypot(sd_m, scale_sd_m),
                sd_deg=sd_deg,
                distance_m=distance_m,
                notes=tuple(notes),
            )
        points_text = (
            f"{point_count} points by pictures tell it to {100 * sd_m / distance_m:.0f} % of its "
            f"distance and {sd_deg:.1f} degrees (sd) only"
            if math.isfinite(sd_m)
            else f"{point_count} points by pictures don't tell it without any fifth of them"
        )
    if head_solution is not None and head_solution.is_certain:
        return SolvedExo(
            name=exo.name,
            w2c=head_solution.w2c,
            lens=lens,
            clocks=_with_travel_time(clocks, head_solution.distance_m),
            how_found=f"by the wearer's head ({points_text})",
            sd_m=head_solution.sd_m,
            sd_deg=head_solution.sd_deg,
            distance_m=head_solution.distance_m,
            notes=(f"ears off by {head_solution.residual_deg[0]:.1f} degrees (median)",),
        )
    return SolvedExo(
        name=exo.name,
        w2c=None,
        lens=lens,
        clocks=clocks and _with_travel_time(clocks, DEFAULT_DISTANCE_M),
        how_found=f"not known: {points_text}, and {head_failure}"
        + _other_clock(exo, world, clocks, lens),
    )


def _clocks_by_head(
    exo: ExoFile, ego_video: Path, head_solution: SolvedCamera, clock_failure: str
) -> tuple[Clocks, str]:
    """Take the offset of the sound that is nearest to the head's, or the head's own."""
    head_offset = head_solution.lag_s, head_solution.lag_sd_s
    exo_sound, ego_sound = read_mono(exo.video), read_mono(ego_video)
    if exo_sound is not None and ego_sound is not None:
        clocks, clock_failure = clocks_by_sound(exo_sound, ego_sound, head_offset)
        if clocks is not None:
            return replace(clocks, how_found=f"{clocks.how_found}, near the head's path"), ""
    return Clocks(
        offset_s=head_offset[0], drift=0.0, sd_s=head_offset[1], how_found="by the head's path"
    ), clock_failure


def _other_clock(exo: ExoFile, world: World, clocks: Clocks, lens: CameraModel | None) -> str:
    """Say by how much the wearer's head contradicts a clock, if it tells another one."""
    head_solution, _ = _solve_by_head(exo, world, None, lens)
    if head_solution is None or not head_solution.is_certain:
        return ""
    sd_s = math.hypot(clocks.sd_s, head_solution.lag_sd_s)
    if abs(head_solution.lag_s - clocks.offset_s) <= NEAR_SDS * sd_s:
        return ""
    return (
        f". The clock may be what is wrong: {clocks.how_found}, the offset is "
        f"{clocks.offset_s:.2f} s, by the head's path {head_solution.lag_s:.2f} ± "
        f"{head_solution.lag_sd_s:.2f} s. Give --offset"
    )


def _solve_by_head(
    exo: ExoFile, world: World, clocks: Clocks | None, lens: CameraModel | None
) -> tuple[SolvedCamera | None, str]:
    """Find the pose of a fixed camera from the wearer's detected ears, or explain why that is
    impossible."""
    if exo.keypoints is None:
        return None, f"there are no key points ({exo.name}_keypoints.json)"
    if lens is None:
        return None, "the lens is not known (--exo-lens)"
    if world.scale.metres_per_unit is None:
        return None, "the scale is not known"
    known_positions = camera_centres(world.w2c[np.isfinite(world.w2c[:, 0, 0])])
    if np.sqrt(known_positions.var(axis=0).sum()) < LEAST_HEAD_MOTION_M:
        return None, "the head stands still"
    ears_uv, exo_times_s = _read_ears(exo)
    if not len(ears_uv):
        return None, "both ears are never seen"
    moments_s = exo_times_s
    lags_s: np.ndarray | None = np.arange(-MOST_LAG_S, MOST_LAG_S + LAG_STEP_S / 2, LAG_STEP_S)
    if clocks is not None:
        ears_uv, moments_s = _select_known_moments(world, ears_uv, clocks.ego_s(exo_times_s))
        lags_s = None
    head_pose_function = world.head_pose_function()

    def solve(kept: np.ndarray, tried_lags_s: np.ndarray | None) -> SolvedCamera | None:
        return camera_from_point(
            lens,
            ears_uv[kept],
            moments_s[kept],
            head_pose_function,
            point_between_ears(),
            lags_s=tried_lags_s,
            lag_sd_s=0.02 if clocks is None else max(clocks.sd_s, 0.02),
        )

    solved_camera = solve(np.ones(len(ears_uv), bool), lags_s)
    # A detector that puts a hidden ear on the other one is wrong for as long as the head stays
    # turned, which the errors' own spread doesn't tell, nor always a part of the time.
    if solved_camera is not None and solved_camera.is_certain:
        found_lag_s = None if lags_s is None else np.array([solved_camera.lag_s])
        yaws_rad = _head_yaws(head_pose_function(moments_s + solved_camera.lag_s)[1])
        for order in (np.arange(len(ears_uv)), np.argsort(yaws_rad)):
            if solved_camera is not None:
                solved_camera = _widen_by_parts(
                    solved_camera, lambda kept: solve(kept, found_lag_s), order
                )
    if solved_camera is None:
        return None, "the head's path doesn't tell it"
    if not solved_camera.is_certain:
        return solved_camera, (
            f"the head tells it to {100 * solved_camera.sd_m:.0f} cm and "
            f"{solved_camera.sd_deg:.1f} degrees (sd) at {solved_camera.distance_m:.1f} m only"
        )
    return solved_camera, ""


def _widen_by_parts(
    solved_camera: SolvedCamera,
    solve: Callable[[np.ndarray], SolvedCamera | None],  # from the moments [N] bool that are kept
    order: np.ndarray,  # [N] the moments, in an order in which errors go together
) -> SolvedCamera | None:
    """Widen a camera's standard deviations to what solving without each part of the moments tells,
    or return None if a part can't be solved."""
    centres, rotation_vectors = [], []
    for part in ordered_parts(len(order)):
        kept = np.ones(len(order), bool)
        kept[order[part]] = False
        partial_camera = solve(kept)
        if partial_camera is None:
            return None
        centres.append(camera_centres(partial_camera.w2c[None])[0])
        rotation_vectors.append(
            Rotation.from_matrix(partial_camera.w2c[:, :3] @ solved_camera.w2c[:, :3].T).as_rotvec()
        )
    part_sd_m, part_sd_deg = jackknife_sds(centres, rotation_vectors)
    return replace(
        solved_camera,
        sd_m=max(solved_camera.sd_m, part_sd_m),
        sd_deg=max(solved_camera.sd_deg, part_sd_deg),
    )


def _head_yaws(head_rotations: np.ndarray) -> np.ndarray:  # [N, 3, 3] -> [N] radians
    """Compute the head's turns about its mean vertical axis, against its mean direction."""
    down, ahead = head_rotations[:, :, 1].mean(axis=0), head_rotations[:, :, 2]
    mean_ahead = ahead.mean(axis=0)
    return np.arctan2(ahead @ np.cross(down, mean_ahead), ahead @ mean_ahead)


def point_between_ears() -> np.ndarray:  # [3] metres
    """Compute the point between the ears in the head camera's upright axes."""
    sensor_point = worn_points(torch.eye(3, 4, dtype=torch.float64)[None])[0, EAR_POINTS].mean(
        dim=0
    )
    return (sensor_from_upright(1).T @ sensor_point).numpy()


def _read_ears(exo: ExoFile) -> tuple[np.ndarray, np.ndarray]:
    """Read the pixels [N, 2] of the point between the ears, and the times [N] of these frames."""
    assert exo.keypoints is not None
    head_points = read_keypoints(exo.keypoints, select_all_frames(exo.info, exo.video))
    head_points = head_points.resized((exo.info.width, exo.info.height))
    both_visible_mask = head_points.seen[:, EAR_POINTS].all(dim=1).numpy()
    ears_uv = head_points.uv[:, EAR_POINTS].mean(dim=1).numpy()[both_visible_mask]
    return ears_uv, np.asarray(exo.info.times_s)[: len(both_visible_mask)][both_visible_mask]


def _select_known_moments(
    world: World, pixels_uv: np.ndarray, moments: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Select the pixels and moments for which the head camera's pose is known."""
    known_mask = np.isfinite(world.w2c[:, 0, 0])
    frame_times_s = world.frames.times_s.numpy()
    frame_indices = frames_at(frame_times_s, moments)
    inside_mask = (
        known_mask[frame_indices] & (moments >= frame_times_s[0]) & (moments <= frame_times_s[-1])
    )
    return pixels_uv[inside_mask], moments[inside_mask]


def _ear_errors(
    exo: ExoFile, world: World, clocks: Clocks, pose: np.ndarray, lens: CameraModel
) -> tuple[float, float] | None:
    if exo.keypoints is None or world.scale.metres_per_unit is None:
        return None
    ears_uv, exo_times_s = _read_ears(exo)
    ears_uv, ego_moments_s = _select_known_moments(world, ears_uv, clocks.ego_s(exo_times_s))
    if len(ears_uv) < 12:
        return None
    head_positions, head_rotations = world.head_pose_function()(ego_moments_s)
    errors_deg = residual_deg(
        pose, lens, ears_uv, head_positions + head_rotations @ point_between_ears()
    )
    return float(np.median(errors_deg)), float(np.percentile(errors_deg, 90))


def _with_travel_time(clocks: Clocks, distance_m: float) -> Clocks:
    if not clocks.how_found.startswith("by sound"):
        return clocks
    return replace(clocks, sd_s=math.hypot(clocks.sd_s, sound_travel_sd_s(distance_m)))
