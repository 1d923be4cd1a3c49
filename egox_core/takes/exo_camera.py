"""The exo camera and its pose from a take's meta.json, for depth that did not come from the take's own file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..cameras.model import CameraModel, crop
from ..depth.resample import depth_window, window_camera
from ..depth.sources import DepthSource, guessed_camera, z_from_ray_depth
from ..errors import EgoXInputError
from ..progress import Progress, no_progress
from ..trajectory.path import numbered_track, poses_of_frames
from ..trajectory.poses import validate_w2c
from ..types import DepthKind, FrameSelection, TakeMeta
from .depth_files import load_depth_file
from .depth_readers import open_depth
from .meta import depth_camera

META_NAME = "meta.json"
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
ASPECT_TOLERANCE = 0.005


def meta_beside(depth_path: Path) -> Path | None:
    """The meta.json in the folder of a depth file, or inside (else beside) a depth folder; None where there is none.

    A link that leads to another folder is not followed: the depth's place was allowed, its target's was not.
    """
    folders = (depth_path, depth_path.parent) if depth_path.is_dir() else (depth_path.parent,)
    found = (folder / META_NAME for folder in folders)
    return next((path for path in found if path.is_file() and path.resolve().parent == path.parent.resolve()), None)


def check_same_take(depth_path: Path, video_path: Path | None) -> None:
    """Refuse the depth of a take folder whose own video is another one than the video in use.

    A workflow that was opened with its sample keeps naming the sample's depth when the user chooses a video of their
    own, and nothing in the numbers would tell. Only folders laid out as a take (a meta.json and a video) say whose
    depth they hold; a copy of the same video elsewhere counts as the same.

    Raises:
        EgoXInputError: another video.
    """
    folder = depth_path.parent
    if video_path is None or meta_beside(depth_path) is None:
        return
    # The ground truth and the prior are no videos that depth is made for, but they sit beside the one that is.
    videos = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if not videos or any(path.samefile(video_path) or path.stat().st_size == video_path.stat().st_size
                         for path in videos):
        return
    raise EgoXInputError(f"depth file {depth_path.name}", got=f"the depth of {folder.name}/{videos[0].name}, while the "
                         f"video in use is {video_path.name}", expected="depth of the video in use",
                         fix="choose its own depth file or empty the field; if it does belong to this video, set "
                             "file_role to 'metric depth'")


def file_source(
    depth_path: Path,
    meta: TakeMeta | None,  # what is known of the exo camera; None: nothing, so that a guess is made
    frames: FrameSelection | None = None,
    *,
    kind: DepthKind = "metric z",
    along_rays: bool = False,  # the file holds distances from the camera's centre instead of z
    png_scale_m: float = 0.001,
    progress: Progress = no_progress,
) -> DepthSource:
    """A depth file as an input of the alignment; without intrinsics its camera is a guess, and said to be one.

    Raises:
        EgoXInputError: as :func:`depth_files.load_depth_file`; ray depth without intrinsics.
    """
    known = meta is not None and meta.exo_camera is not None
    if not known:
        meta = TakeMeta(name=depth_path.name, prompt="", camera_intrinsics=None,
                        camera_extrinsics=None if meta is None else meta.camera_extrinsics, ego_intrinsics=None,
                        ego_extrinsics=None, exact_exo_camera=guessed_camera(*_map_size(depth_path, png_scale_m)))
    depth, report = load_depth_file(depth_path, meta, frames, kind=kind, png_scale_m=png_scale_m, progress=progress)
    notes = tuple(str(report).splitlines())
    if along_rays:
        if not known:
            raise EgoXInputError(f"depth file {depth_path.name}", got="ray depth, but no camera",
                                 expected="the exo camera's intrinsics", fix="give a camera_file")
        depth = z_from_ray_depth(depth)
        notes += ("distances along the rays were turned into z depth",)
    return DepthSource(depth=depth, name=depth_path.name, camera_known=known, notes=notes)


def camera_of_size(meta: TakeMeta, frames: FrameSelection | None, size: tuple[int, int]) -> CameraModel:
    """The take's exo camera in pixels of the exo frames, or of a picture of ``size`` (width, height) without them.

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
        if aspect > (1 + ASPECT_TOLERANCE) * width / height:
            full_width = round(height * aspect)
    camera, _ = depth_camera(meta, (full_width, height))
    camera = crop(camera, (full_width - width) // 2, 0, width, height) if full_width != width else camera
    return camera if frames is None else window_camera(camera, depth_window((width, height), frames, meta.name))


def poses_of_take(meta: TakeMeta, frames: FrameSelection | None) -> Tensor | None:
    """exo_from_world of the frames in use: [3, 4] of a fixed camera, [T, 3, 4] of a moving one, None if not told.

    Raises:
        EgoXInputError: a pose a frame, but no frame selection to choose them by.
    """
    poses = meta.camera_extrinsics
    if poses is None or poses.dim() == 2:
        return poses
    name = f"camera_extrinsics of {meta.name}"
    if frames is None:
        raise EgoXInputError(name, got="a pose a frame, without knowing which frames are in use",
                             expected="the frames output of Load Exo Video", fix="connect 'frames'")
    return poses_of_frames(numbered_track(validate_w2c(poses, name), name), frames)


def _map_size(path: Path, png_scale_m: float) -> tuple[int, int]:
    with open_depth(path, png_scale_m) as source:
        first, _ = next(iter(source.read([0])))
    return first.shape[1], first.shape[0]
