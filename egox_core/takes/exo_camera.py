"""What a take's meta.json says of the exo camera: its lens at the size of the frames, and its poses."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..cameras.model import CameraModel, crop
from ..depth.resample import depth_window, window_camera
from ..errors import EgoXInputError
from ..file_names import META
from ..sizes import centre_crop_left, same_aspect
from ..trajectory.path import numbered_track, poses_of_frames
from ..trajectory.poses import validate_w2c
from ..types import FrameSelection, TakeMeta
from .meta import depth_camera


def meta_beside(depth_path: Path) -> Path | None:
    """The meta.json in the folder of a depth file, or inside (else beside) a depth folder; None where there is none.

    A link that leads to another folder is not followed: the depth's place was allowed, its target's was not.
    """
    folders = (depth_path, depth_path.parent) if depth_path.is_dir() else (depth_path.parent,)
    paths = (folder / META for folder in folders)
    return next((path for path in paths if path.is_file() and path.resolve().parent == path.parent.resolve()), None)


def exo_camera_of_size(
    meta: TakeMeta,
    frames: FrameSelection | None,
    size: tuple[int, int],  # (width, height) px of the whole picture, where there are no frames
) -> CameraModel:
    """The take's exo camera in pixels of the exo frames, or of a picture of ``size`` without them.

    K belongs to a picture that it is centred in. If that picture is wider than the video (the Ego-Exo4D takes: 796
    against 784), the video is its middle, as for depth files.

    Raises:
        EgoXInputError: no intrinsics.
    """
    width, height = size if frames is None else frames.source_size
    k = meta.camera_intrinsics
    full_width = width
    if meta.exact_exo_camera is None and k is not None and float(k[1, 2]) > 0:
        aspect = float(k[0, 2]) / float(k[1, 2])
        if height * aspect > width and not same_aspect((aspect, 1), (width, height)):
            full_width = round(height * aspect)
    camera, _ = depth_camera(meta, (full_width, height))
    left = centre_crop_left((full_width, height), (width, height))
    camera = camera if left is None else crop(camera, left, 0, width, height)
    return camera if frames is None else window_camera(camera, depth_window((width, height), frames, meta.name))


def exo_poses(
    meta: TakeMeta | None,
    frames: FrameSelection | None,
    numbers: Tensor | None = None,  # [T] int64 source frames in use, where there is no selection
) -> Tensor | None:  # [3, 4] of a fixed camera or [T, 3, 4] of a moving one, float64, exo_from_world; None: not known
    """The exo camera's pose in the frames in use.

    Raises:
        EgoXInputError: a pose a frame, but fewer than frames in use, or neither frames nor numbers to choose them by.
    """
    poses = None if meta is None else meta.camera_extrinsics
    if poses is None or poses.ndim == 2:
        return poses
    name = f"camera_extrinsics of {meta.name}"
    poses = validate_w2c(poses, name)
    if frames is not None:
        return poses_of_frames(numbered_track(poses, name), frames)
    if numbers is None:
        raise EgoXInputError(name, got="a pose a frame, without knowing which frames are in use",
                             expected="the frames output of Load Exo Video", fix="connect 'frames'")
    if int(numbers.max()) >= len(poses):
        raise EgoXInputError(name, got=f"{len(poses)} poses", expected=f"{len(numbers)}, the frames in use",
                             fix="give one pose a frame, or one for all")
    return poses[numbers]
