"""Convert a reconstruction to metric coordinates with z up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel
from egox_core.exchange import read_trajectory
from egox_core.facts import Declared
from egox_core.frames import Frames
from egox_core.frozen import frozen
from egox_core.progress import Progress
from egox_core.video import VideoInfo

from ..data.depth_model import metric_depth
from ..options import CalibrateOptions
from ..takes.head_files import select_all_frames
from .frames import poses_at, track_poses, write_still
from .lenses import make_lens
from .moving_point import PoseFunction
from .pictures import FEWEST_POINTS
from .recording_files import EGO, ExoFile
from .scale import Scale, find_head_up, floor_scale, similarity
from .structure import Structure
from .written import still_depth

LEAST_PARALLAX = 3.0
"""The way of the head, as seen from the points, against the errors of their pixels."""
RELATIVE_DEPTH_SD = 0.03  # share, of a network's metric depth as a whole
FEWEST_PICTURES = 4  # pictures that show a point, for it to tell the floor


@frozen
class World:
    """Path of the head camera in metres with z up, and the static points."""

    w2c: np.ndarray  # [T, 3, 4] by ego frame
    lens: CameraModel | None  # upright, of the whole ego video
    scale: Scale
    points: np.ndarray  # [P, 3]
    structure: Structure | None
    # world = scale turn structure's + shift
    world_from_structure: tuple[float, np.ndarray, np.ndarray]
    frames: Frames  # [T] all of the ego video
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        structure: Structure | None,
        given_poses: np.ndarray | None,
        ego_info: VideoInfo,
        ego_video: Path,
        lenses: Mapping[str, CameraModel],
        options: CalibrateOptions,
        depth_scale: tuple[float, float, str] | None,
        progress: Progress,
    ) -> "World":
        ego_frames, notes = select_all_frames(ego_info, ego_video), []
        picture_size = ego_info.width, ego_info.height
        upright_lens = None if EGO not in lenses else lenses[EGO].rescale(*picture_size)
        poses = np.full((len(ego_frames), 3, 4), np.nan)
        if structure is not None:
            solved_poses = {
                int(name.split("/")[1].split(".")[0]): (
                    pose,
                    structure.points[structure.point_indices[name]],
                    structure.pixels[name] - 0.5,
                )
                for name, pose in structure.w2c.items()
                if name.startswith(f"{EGO}/")
            }
            solved_range = range(min(solved_poses), max(solved_poses) + 1)
            poses[solved_range.start : solved_range.stop] = track_poses(
                ego_video, ego_info, solved_range, lenses[EGO], solved_poses, progress
            )
        path_similarity = (1.0, np.eye(3), np.zeros(3))
        if given_poses is not None:
            scale = Scale(
                metres_per_unit=1.0,
                sd=0.01,
                up=_up_direction(_known_poses(given_poses)),
                how_found=f"the path of {_path_file_name(options)}",
            )
            if structure is not None:
                both_known_mask = np.isfinite(poses[:, 0, 0]) & np.isfinite(given_poses[:, 0, 0])
                path_similarity = similarity(
                    camera_centres(poses[both_known_mask]),
                    camera_centres(given_poses[both_known_mask]),
                )
                path_differences = np.linalg.norm(
                    path_similarity[0]
                    * camera_centres(poses[both_known_mask])
                    @ path_similarity[1].T
                    + path_similarity[2]
                    - camera_centres(given_poses[both_known_mask]),
                    axis=1,
                )
                notes.append(
                    f"path by pictures and as given: {100 * np.median(path_differences):.1f} "
                    "cm apart"
                )
            points = np.zeros((0, 3)) if structure is None else structure.points
            return cls(
                w2c=given_poses,
                lens=upright_lens,
                scale=scale,
                structure=structure,
                world_from_structure=path_similarity,
                points=path_similarity[0] * points @ path_similarity[1].T + path_similarity[2],
                frames=ego_frames.without_sizes,
                notes=tuple(notes),
            )
        assert structure is not None
        known_poses = _known_poses(poses)
        up_estimate = _up_direction(known_poses)
        reliable_mask = _reliable_points(structure)
        scale = floor_scale(
            structure.points[reliable_mask],
            camera_centres(known_poses),
            up_estimate,
            options.eye_height_m,
        )
        if depth_scale is not None:
            metres_per_unit, sd, scale_source = depth_scale
            scale = replace(scale, metres_per_unit=metres_per_unit, sd=sd, how_found=scale_source)
        metres_per_unit = scale.metres_per_unit or 1.0
        z_up_rotation = _z_up_rotation(scale.up)
        mean_position = camera_centres(known_poses).mean(axis=0)
        world_shift = -metres_per_unit * z_up_rotation @ mean_position
        metric_poses = np.concatenate(
            [poses[:, :, :3] @ z_up_rotation.T, metres_per_unit * poses[:, :, 3:]], axis=2
        )
        metric_poses[:, :, 3] -= np.einsum("tij,j->ti", metric_poses[:, :, :3], world_shift)
        return cls(
            w2c=metric_poses,
            lens=upright_lens,
            scale=scale,
            structure=structure,
            world_from_structure=(metres_per_unit, z_up_rotation, world_shift),
            points=metres_per_unit * structure.points @ z_up_rotation.T + world_shift,
            frames=ego_frames.without_sizes,
        )

    def pose_in_world(self, w2c: np.ndarray) -> np.ndarray:
        """Convert a camera pose from the reconstruction's coordinates to this metric world."""
        scale, rotation_matrix, translation = self.world_from_structure
        rotation = w2c[:, :3] @ rotation_matrix.T
        return np.concatenate(
            [rotation, (scale * w2c[:, 3] - rotation @ translation)[:, None]], axis=1
        )

    def rotation_speed_deg_s(self) -> float:
        """Measure the median rotation speed of the head camera in degrees per second."""
        known_pairs = np.isfinite(self.w2c[:, 0, 0])
        known_pairs = np.flatnonzero(known_pairs[1:] & known_pairs[:-1])
        frame_rotations = Rotation.from_matrix(
            self.w2c[known_pairs + 1, :, :3] @ self.w2c[known_pairs, :, :3].mT
        )
        frame_durations_s = self.frames.times_s.diff().numpy()[known_pairs]
        return float(np.degrees(np.median(frame_rotations.magnitude() / frame_durations_s)))

    def head_pose_function(self) -> PoseFunction:
        """Build a function that interpolates the head camera's pose at any moment."""
        frame_times_s = self.frames.times_s.numpy()

        def place(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            poses = poses_at(frame_times_s, self.w2c, moments)
            return camera_centres(poses), poses[:, :, :3].transpose(0, 2, 1)

        return place


def read_given_path(
    options: CalibrateOptions, ego_info: VideoInfo, ego_video: Path, notes: list[str]
) -> tuple[np.ndarray, CameraModel]:
    """Read the head camera's pose in each video frame from a file."""
    assert options.path is not None
    fisheye_lens, _ = make_lens("fisheye", ego_info.width, ego_info.height)
    has_named_lens = options.ego_lens != "free"
    assumed_lens = (
        make_lens(options.ego_lens, ego_info.width, ego_info.height)[0]
        if has_named_lens
        else fisheye_lens
    )
    declared = Declared.of("\n".join(options.declare), own=("ego.",))
    trajectory, path_notes = read_trajectory(
        options.path,
        assumed_lens,
        select_all_frames(ego_info, ego_video),
        lens=not has_named_lens,
        declared=declared,
    )
    declared.check_applied(trajectory.facts, f"poses of {options.path.name}")
    camera = trajectory.ego.camera
    notes.append(
        f"path of {options.path.name}" + (f", {path_notes.placed}" if path_notes.placed else "")
    )
    video_lens = camera if camera.stored_size == (ego_info.width, ego_info.height) else assumed_lens
    w2c = trajectory.ego.upright_w2c.numpy()
    return w2c, video_lens.upright()


def scale_by_depth(
    structure: Structure,
    exo_files: Sequence[ExoFile],
    lenses: Mapping[str, CameraModel],
    options: CalibrateOptions,
    work_folder: Path,
) -> tuple[float, float, str] | None:
    """Compute the metric scale of a reconstruction by comparing it with a fixed camera's depth map.

    Returns the metres per unit, the relative standard deviation, and a description."""
    scale_ratios = []
    for exo_file in exo_files:
        picture_name = f"{exo_file.name}/still.png"
        if len(structure.point_indices.get(picture_name, ())) < FEWEST_POINTS:
            continue
        if exo_file.depth is not None:
            depth_map_m = still_depth(exo_file.depth)
        elif options.depth_model is not None:
            frames = range(exo_file.info.frame_count)
            still_picture = write_still(
                exo_file.video, exo_file.info, frames, work_folder / f"{exo_file.name}_still.png"
            )
            (model_depth,) = metric_depth(
                options.depth_model, torch.from_numpy(still_picture)[None], None
            )
            depth_map_m = model_depth.numpy()
        else:
            continue
        picture_size = lenses[exo_file.name].stored_size
        pixel_scale = np.array([depth_map_m.shape[1], depth_map_m.shape[0]]) / np.array(
            picture_size
        )
        column, row = np.floor(structure.pixels[picture_name] * pixel_scale).astype(int).T
        pose = structure.w2c[picture_name]
        camera_depth = (
            structure.points[structure.point_indices[picture_name]] @ pose[2, :3] + pose[2, 3]
        )
        inside_mask = (
            (column >= 0)
            & (row >= 0)
            & (column < depth_map_m.shape[1])
            & (row < depth_map_m.shape[0])
        )
        metres_per_unit = (
            depth_map_m[row[inside_mask], column[inside_mask]] / camera_depth[inside_mask]
        )
        scale_ratios.append(metres_per_unit[np.isfinite(metres_per_unit) & (metres_per_unit > 0)])
    all_ratios = np.concatenate(scale_ratios) if scale_ratios else np.zeros(0)
    if len(all_ratios) < FEWEST_POINTS / 2:
        return None
    median_ratio = float(np.median(all_ratios))
    relative_spread = 1.48 * float(np.median(np.abs(all_ratios - median_ratio))) / median_ratio
    scale_sd = math.hypot(1.25 * relative_spread / math.sqrt(len(all_ratios)), RELATIVE_DEPTH_SD)
    return (
        median_ratio,
        scale_sd,
        f"by exo's metric depth at {len(all_ratios)} points, which differ by {relative_spread:.0%}",
    )


def parallax(structure: Structure, lens: CameraModel) -> float:
    """Compute how far the head camera moves relative to the reconstruction's pixel errors."""
    ego_poses = [pose for name, pose in structure.w2c.items() if name.startswith(f"{EGO}/")]
    if not ego_poses:
        return 0.0
    head_positions = camera_centres(np.stack(ego_poses))
    median_distance = np.median(
        np.linalg.norm(structure.points - head_positions.mean(axis=0), axis=1)
    )
    path_angle = float(np.sqrt(head_positions.var(axis=0).sum()) / max(median_distance, 1e-12))
    return path_angle / max(structure.error_px / lens.fx, 1e-12)


def _reliable_points(structure: Structure) -> np.ndarray:  # [P] bool
    """Select the 3D points that are visible in several pictures, because others are inaccurate."""
    point_indices = np.concatenate([*structure.point_indices.values()])
    return np.bincount(point_indices, minlength=len(structure.points)) >= FEWEST_PICTURES


def camera_centres(w2c: np.ndarray) -> np.ndarray:  # [N, 3, 4] -> [N, 3]
    return -np.einsum("nji,nj->ni", w2c[:, :, :3], w2c[:, :, 3])


def _z_up_rotation(up: np.ndarray) -> np.ndarray:  # [3, 3]
    """Compute a rotation that turns ``up`` to the z axis."""
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [up])[0].as_matrix()


def _known_poses(w2c: np.ndarray) -> np.ndarray:  # [N, 3, 4] -> [M, 3, 4]
    return w2c[np.isfinite(w2c[:, 0, 0])]


def _up_direction(known_poses: np.ndarray) -> np.ndarray:  # [M, 3, 4] -> [3]
    return find_head_up(known_poses[:, 0, :3], known_poses[:, 1, :3])


def _path_file_name(options: CalibrateOptions) -> str:
    return "" if options.path is None else options.path.name
