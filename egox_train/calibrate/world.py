"""Convert a reconstruction to metres: the head camera's path and the static points of a recording."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from egox_core.cameras import CameraModel
from egox_core.exchange import read_trajectory
from egox_core.frozen import frozen
from egox_core.progress import Progress
from egox_core.video import VideoInfo

from ..data.depth_model import metric_depth
from ..options import CalibrateOptions
from ..takes.head_files import all_frames
from .frames import track_poses, write_still
from .lenses import lens_of
from .moving_point import Place
from .pictures import FEWEST_POINTS
from .recording_files import EGO, ExoFile
from .scale import Scale, find_up, floor_scale, similarity
from .structure import Structure
from .written import still_depth

LEAST_PARALLAX = 3.0
"""The way of the head, as seen from the points, against the errors of their pixels."""
DEPTH_SD = 0.03  # share, of a network's metric depth as a whole
OFTEN = 4  # pictures that show a point, for it to tell the floor


@frozen
class World:
    """Path of the head camera in metres with z up, and the static points."""

    w2c: np.ndarray  # [T, 3, 4] by ego frame
    lens: CameraModel | None  # upright, of the whole ego video
    scale: Scale
    points: np.ndarray  # [P, 3]
    structure: Structure | None
    # world = scale turn structure's + shift
    from_structure: tuple[float, np.ndarray, np.ndarray]
    times_s: np.ndarray  # [T] of the ego video
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        structure: Structure | None,
        given: np.ndarray | None,
        ego: VideoInfo,
        video: Path,
        lenses: Mapping[str, CameraModel],
        options: CalibrateOptions,
        by_depth: tuple[float, float, str] | None,
        progress: Progress,
    ) -> "World":
        times, notes = np.asarray(ego.times_s), []
        whole = ego.width, ego.height
        lens = None if EGO not in lenses else lenses[EGO].rescale(*whole)
        poses = np.full((len(times), 3, 4), np.nan)
        if structure is not None:
            solved = {
                int(name.split("/")[1].split(".")[0]): (
                    pose,
                    structure.points[structure.rows[name]],
                    structure.pixels[name] - 0.5,
                )
                for name, pose in structure.w2c.items()
                if name.startswith(f"{EGO}/")
            }
            span = range(min(solved), max(solved) + 1)
            poses[span.start : span.stop] = track_poses(
                video, ego, span, lenses[EGO], solved, progress
            )
        same = (1.0, np.eye(3), np.zeros(3))
        if given is not None:
            scale = Scale(
                metres=1.0, sd=0.01, up=_up_of(given), how=f"the path of {_name(options)}"
            )
            if structure is not None:
                both = np.isfinite(poses[:, 0, 0]) & np.isfinite(given[:, 0, 0])
                same = similarity(centres(poses[both]), centres(given[both]))
                off = np.linalg.norm(
                    same[0] * centres(poses[both]) @ same[1].T + same[2] - centres(given[both]),
                    axis=1,
                )
                notes.append(f"path by pictures and as given: {100 * np.median(off):.1f} cm apart")
            points = np.zeros((0, 3)) if structure is None else structure.points
            return cls(
                w2c=given,
                lens=lens,
                scale=scale,
                structure=structure,
                from_structure=same,
                points=same[0] * points @ same[1].T + same[2],
                times_s=times,
                notes=tuple(notes),
            )
        assert structure is not None
        known = poses[np.isfinite(poses[:, 0, 0])]
        up = find_up(known[:, 0, :3], known[:, 1, :3])
        sure = _often_seen(structure)
        scale = floor_scale(structure.points[sure], centres(known), up, options.eye_height_m)
        if by_depth is not None:
            metres, sd, how = by_depth
            scale = replace(scale, metres=metres, sd=sd, how=how)
        metres = scale.metres or 1.0
        turn = _turn_to_z(scale.up)
        origin = centres(known).mean(axis=0)
        shift = -metres * turn @ origin
        moved = np.concatenate([poses[:, :, :3] @ turn.T, metres * poses[:, :, 3:]], axis=2)
        moved[:, :, 3] -= np.einsum("tij,j->ti", moved[:, :, :3], shift)
        return cls(
            w2c=moved,
            lens=lens,
            scale=scale,
            structure=structure,
            from_structure=(metres, turn, shift),
            points=metres * structure.points @ turn.T + shift,
            times_s=times,
        )

    def pose_of(self, w2c: np.ndarray) -> np.ndarray:
        """Convert a pose of the reconstruction to this world."""
        scale, turn, shift = self.from_structure
        rotation = w2c[:, :3] @ turn.T
        return np.concatenate([rotation, (scale * w2c[:, 3] - rotation @ shift)[:, None]], axis=1)

    def turning_deg_s(self) -> float:
        """Measure the median rotation speed of the head camera in degrees per second."""
        pair = np.isfinite(self.w2c[:, 0, 0])
        pair = np.flatnonzero(pair[1:] & pair[:-1])
        turns = Rotation.from_matrix(self.w2c[pair + 1, :, :3] @ self.w2c[pair, :, :3].mT)
        return float(np.degrees(np.median(turns.magnitude() / np.diff(self.times_s)[pair])))

    def carrier(self) -> Place:
        """Build a function that interpolates the head camera's pose between its known poses."""
        known = np.isfinite(self.w2c[:, 0, 0])
        times = self.times_s[known]
        turns = Rotation.from_matrix(self.w2c[known][:, :, :3].transpose(0, 2, 1))
        slerp, places = Slerp(times, turns), centres(self.w2c[known])

        def place(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            moments = np.clip(moments, times[0], times[-1])
            where = np.stack([np.interp(moments, times, places[:, i]) for i in range(3)], axis=1)
            return where, slerp(moments).as_matrix()

        return place


def given_path(
    options: CalibrateOptions, ego: VideoInfo, video: Path, notes: list[str]
) -> tuple[np.ndarray, CameraModel]:
    """Read poses of the upright head camera from a file, one for each frame of its video."""
    assert options.path is not None
    plain, _ = lens_of("fisheye", ego.width, ego.height)
    named = options.ego_lens != "free"
    lens = lens_of(options.ego_lens, ego.width, ego.height)[0] if named else plain
    trajectory, said = read_trajectory(options.path, lens, all_frames(ego, video), lens=not named)
    camera = trajectory.ego.camera
    notes.append(f"path of {options.path.name}" + (f", {said.placed}" if said.placed else ""))
    own = camera if camera.stored_size == (ego.width, ego.height) else lens
    w2c = trajectory.ego.upright_w2c.numpy()
    return w2c, own.upright()


def scale_by_depth(
    structure: Structure,
    exos: Sequence[ExoFile],
    lenses: Mapping[str, CameraModel],
    options: CalibrateOptions,
    work: Path,
) -> tuple[float, float, str] | None:
    """Compare reconstructed points with a fixed camera's metric depth. Returns the metres per unit,
    the relative standard deviation, and a description."""
    shares = []
    for exo in exos:
        name = f"{exo.name}/still.png"
        if len(structure.rows.get(name, ())) < FEWEST_POINTS:
            continue
        if exo.depth is not None:
            depth = still_depth(exo.depth)
        elif options.depth_model is not None:
            frames = range(exo.info.frame_count)
            still = write_still(exo.video, exo.info, frames, work / f"{exo.name}_still.png")
            (of_model,) = metric_depth(options.depth_model, torch.from_numpy(still)[None], None)
            depth = of_model.numpy()
        else:
            continue
        size = lenses[exo.name].stored_size
        scale = np.array([depth.shape[1], depth.shape[0]]) / np.array(size)
        column, row = np.floor(structure.pixels[name] * scale).astype(int).T
        pose = structure.w2c[name]
        z = structure.points[structure.rows[name]] @ pose[2, :3] + pose[2, 3]
        inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
        metres = depth[row[inside], column[inside]] / z[inside]
        shares.append(metres[np.isfinite(metres) & (metres > 0)])
    every = np.concatenate(shares) if shares else np.zeros(0)
    if len(every) < FEWEST_POINTS / 2:
        return None
    middle = float(np.median(every))
    spread = 1.48 * float(np.median(np.abs(every - middle))) / middle
    sd = math.hypot(1.25 * spread / math.sqrt(len(every)), DEPTH_SD)
    return middle, sd, f"by exo's metric depth at {len(every)} points, which differ by {spread:.0%}"


def parallax(structure: Structure, lens: CameraModel) -> float:
    """Compute the ratio of the angle that the head camera's movement spans at the points to the
    angle of the points' pixel errors."""
    own = [pose for name, pose in structure.w2c.items() if name.startswith(f"{EGO}/")]
    if not own:
        return 0.0
    heads = centres(np.stack(own))
    distance = np.median(np.linalg.norm(structure.points - heads.mean(axis=0), axis=1))
    way = float(np.sqrt(heads.var(axis=0).sum()) / max(distance, 1e-12))
    return way / max(structure.error_px / lens.fx, 1e-12)


def _often_seen(structure: Structure) -> np.ndarray:  # [P] bool
    """Select points that are visible in several pictures, since others are inaccurate along the
    line of sight."""
    rows = np.concatenate([*structure.rows.values()])
    return np.bincount(rows, minlength=len(structure.points)) >= OFTEN


def centres(w2c: np.ndarray) -> np.ndarray:  # [N, 3, 4] -> [N, 3]
    return -np.einsum("nji,nj->ni", w2c[:, :, :3], w2c[:, :, 3])


def _turn_to_z(up: np.ndarray) -> np.ndarray:  # [3, 3]
    """Compute a rotation that turns ``up`` to the z axis."""
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [up])[0].as_matrix()


def _up_of(w2c: np.ndarray) -> np.ndarray:
    known = w2c[np.isfinite(w2c[:, 0, 0])]
    return find_up(known[:, 0, :3], known[:, 1, :3])


def _name(options: CalibrateOptions) -> str:
    return "" if options.path is None else options.path.name
