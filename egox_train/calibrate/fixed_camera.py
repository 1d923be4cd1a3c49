"""Find the pose of a fixed camera from pictures, or from the tracked head of the wearer if pictures
don't suffice."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from egox_core.cameras import CameraModel, sensor_from_upright
from egox_core.trajectory import worn_points

from ..options import CalibrateOptions
from ..takes.head_files import all_frames, read_keypoints
from .frames import nearest_frames
from .lenses import lens_of
from .moving_point import MOST_DEG, SHARE, SolvedCamera, camera_from_point, residual_deg
from .picture_sd import picture_sds
from .pictures import FEWEST_POINTS
from .recording_files import EGO, ExoFile
from .results import SolvedExo
from .sound import Clocks, way_sd_s
from .world import World, centres

AGREES_DEG = 5.0
"""90 % of the ears, by the path and the camera by pictures, may be off by so much."""
EARS = slice(2, 4)  # of a head's points
ALONE_M = 0.05
"""A head that moves by less (standard deviation) is no target."""
SCAN_S, SCAN_STEP_S = 6.0, 0.1
USUAL_WAY_M = 5.0  # of sound, to a camera whose distance isn't known
READOUT_S = 0.016
"""A rolling shutter reads a picture's rows in 8 to 25 ms: phones, action cameras, Aria."""


def solve_exo(
    exo: ExoFile,
    world: World,
    clocks: Clocks | None,
    lenses: Mapping[str, CameraModel],
    options: CalibrateOptions,
) -> SolvedExo:
    """Find the pose and the clock of one fixed camera, from pictures or from the wearer's head."""
    picture_size = exo.info.width, exo.info.height
    name = f"{exo.name}/still.png"
    lens = lenses[exo.name].rescale(*picture_size) if exo.name in lenses else None
    if lens is None and options.exo_lens not in ("free", "phone", "fisheye"):
        lens, _ = lens_of(options.exo_lens, *picture_size)
    head_solution, head_failure = _by_head(exo, world, clocks, lens)
    if clocks is None and head_solution is not None and head_solution.solved:
        clocks = Clocks(
            offset_s=head_solution.lag_s,
            drift=0.0,
            sd_s=head_solution.lag_sd_s,
            how="by the head's path",
        )
    reconstruction = world.structure
    count = 0 if reconstruction is None else len(reconstruction.rows.get(name, ()))
    notes = []
    points_text = (
        f"{count} points by pictures, {FEWEST_POINTS} needed" if count else "not by pictures"
    )
    if clocks is None:
        return SolvedExo(
            name=exo.name,
            w2c=None,
            lens=lens,
            clocks=None,
            how=f"the clocks' offset is not known: no sound of one moment, and {head_failure}",
        )
    if reconstruction is not None and count >= FEWEST_POINTS and lens is not None:
        pose = world.pose_of(reconstruction.w2c[name])
        head_positions = centres(world.w2c[np.isfinite(world.w2c[:, 0, 0])])
        distance = float(np.median(np.linalg.norm(head_positions - centres(pose[None])[0], axis=1)))
        lens_type = "phone" if options.exo_lens == "free" else options.exo_lens
        _, free_parameters = lens_of(lens_type, *picture_size)
        sd_units, sd_deg = picture_sds(
            reconstruction, name, f"{EGO}/", lenses[exo.name], free_parameters
        )
        shutter_rad = math.radians(world.turning_deg_s()) * READOUT_S / math.sqrt(12)
        sd_deg = math.hypot(sd_deg, math.degrees(shutter_rad))
        sd_m = math.hypot(sd_units * world.from_structure[0], shutter_rad * distance)
        scale_sd_m = 0.0 if world.scale.metres is None else world.scale.sd * distance
        ear_errors_deg = _ears_off(exo, world, clocks, pose, lens)
        if ear_errors_deg is not None:
            notes.append(
                f"the ears are off by {ear_errors_deg[0]:.1f} / {ear_errors_deg[1]:.1f} degrees (90 %)"
            )
        if ear_errors_deg is not None and ear_errors_deg[1] > AGREES_DEG:
            return SolvedExo(
                name=exo.name,
                w2c=None,
                lens=lens,
                clocks=clocks,
                how=f"pictures and the wearer's head don't agree ({notes[-1]})",
            )
        if sd_m <= SHARE * distance and sd_deg <= MOST_DEG:
            return SolvedExo(
                name=exo.name,
                w2c=pose,
                lens=lens,
                clocks=_with_way(clocks, distance),
                how=f"by pictures, {count} points",
                sd_m=math.hypot(sd_m, scale_sd_m),
                sd_deg=sd_deg,
                distance_m=distance,
                notes=tuple(notes),
            )
        points_text = (
            f"{count} points by pictures tell it to {100 * sd_m / distance:.0f} % of its distance and "
            f"{sd_deg:.1f} degrees (sd) only"
        )
    if head_solution is not None and head_solution.solved:
        return SolvedExo(
            name=exo.name,
            w2c=head_solution.w2c,
            lens=lens,
            clocks=_with_way(clocks, head_solution.distance_m),
            how=f"by the wearer's head ({points_text})",
            sd_m=head_solution.sd_m,
            sd_deg=head_solution.sd_deg,
            distance_m=head_solution.distance_m,
            notes=(f"ears off by {head_solution.residual_deg[0]:.1f} degrees (median)",),
        )
    return SolvedExo(
        name=exo.name,
        w2c=None,
        lens=lens,
        clocks=clocks and _with_way(clocks, USUAL_WAY_M),
        how=f"not known: {points_text}, and {head_failure}",
    )


def _by_head(
    exo: ExoFile, world: World, clocks: Clocks | None, lens: CameraModel | None
) -> tuple[SolvedCamera | None, str]:
    """Find the pose of a fixed camera from the wearer's detected ears, or explain why that is
    impossible."""
    if exo.keypoints is None:
        return None, f"there are no key points ({exo.name}_keypoints.json)"
    if lens is None:
        return None, "the lens is not known (--exo-lens)"
    if world.scale.metres is None:
        return None, "the scale is not known"
    known_positions = centres(world.w2c[np.isfinite(world.w2c[:, 0, 0])])
    if np.sqrt(known_positions.var(axis=0).sum()) < ALONE_M:
        return None, "the head stands still"
    ears_uv, exo_times_s = _ears(exo)
    if not len(ears_uv):
        return None, "both ears are never seen"
    if clocks is not None:
        ego_moments_s = clocks.ego_s(exo_times_s)
        ears_uv, ego_moments_s = _known_at(world, ears_uv, ego_moments_s)
        solved_camera = camera_from_point(
            lens,
            ears_uv,
            ego_moments_s,
            world.carrier(),
            ears_middle(),
            lag_sd_s=max(clocks.sd_s, 0.02),
        )
    else:
        candidate_lags_s = np.arange(-SCAN_S, SCAN_S + SCAN_STEP_S / 2, SCAN_STEP_S)
        solved_camera = camera_from_point(
            lens, ears_uv, exo_times_s, world.carrier(), ears_middle(), lags_s=candidate_lags_s
        )
    if solved_camera is None:
        return None, "the head's path doesn't tell it"
    if not solved_camera.solved:
        return solved_camera, (
            f"the head tells it to {100 * solved_camera.sd_m:.0f} cm and {solved_camera.sd_deg:.1f} degrees (sd) "
            f"at {solved_camera.distance_m:.1f} m only"
        )
    return solved_camera, ""


def ears_middle() -> np.ndarray:  # [3] metres
    """Compute the point between the ears in the head camera's upright axes."""
    of_sensor = worn_points(torch.eye(3, 4, dtype=torch.float64)[None])[0, EARS].mean(dim=0)
    return (sensor_from_upright(1).T @ of_sensor).numpy()


def _ears(exo: ExoFile) -> tuple[np.ndarray, np.ndarray]:
    """Read the pixels [N, 2] of the point between the ears, and the times [N] of these frames."""
    assert exo.keypoints is not None
    points = read_keypoints(exo.keypoints, all_frames(exo.info, exo.video))
    points = points.resized((exo.info.width, exo.info.height))
    both_visible_mask = points.seen[:, EARS].all(dim=1).numpy()
    ears_uv = points.uv[:, EARS].mean(dim=1).numpy()[both_visible_mask]
    return ears_uv, np.asarray(exo.info.times_s)[: len(both_visible_mask)][both_visible_mask]


def _known_at(world: World, uv: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Select the pixels and moments for which the head camera's pose is known."""
    known_mask = np.isfinite(world.w2c[:, 0, 0])
    frame_times_s = world.frames.times_s.numpy()
    frame_indices = nearest_frames(frame_times_s, moments)
    inside_mask = (
        known_mask[frame_indices] & (moments >= frame_times_s[0]) & (moments <= frame_times_s[-1])
    )
    return uv[inside_mask], moments[inside_mask]


def _ears_off(
    exo: ExoFile, world: World, clocks: Clocks, pose: np.ndarray, lens: CameraModel
) -> tuple[float, float] | None:
    if exo.keypoints is None or world.scale.metres is None:
        return None
    ears_uv, exo_times_s = _ears(exo)
    ears_uv, ego_moments_s = _known_at(world, ears_uv, clocks.ego_s(exo_times_s))
    if len(ears_uv) < 12:
        return None
    head_positions, head_rotations = world.carrier()(ego_moments_s)
    errors_deg = residual_deg(pose, lens, ears_uv, head_positions + head_rotations @ ears_middle())
    return float(np.median(errors_deg)), float(np.percentile(errors_deg, 90))


def _with_way(clocks: Clocks, distance_m: float) -> Clocks:
    if not clocks.how.startswith("by sound"):
        return clocks
    return replace(clocks, sd_s=math.hypot(clocks.sd_s, way_sd_s(distance_m)))
