"""Inputs of Depth Align: the depth file, the connected sockets, and what the take knows of the exo
camera.

A file counts while no socket is connected, or when its role is named. The take's own camera and
poses go before what a depth model estimated."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..cameras.model import CameraModel
from ..depth.adapters import DepthSocket, socket_sources
from ..depth.align import ADVICE
from ..depth.sources import DepthSource, camera_of_view, z_from_ray_depth
from ..errors import EgoXInputError
from ..progress import Progress, no_progress
from ..types import DepthKind, FrameSelection, TakeMeta
from .depth_files import load_depth_file
from .depth_readers import DepthFile, open_depth
from .exo_camera import exo_camera_of_size, exo_poses
from .same_take import check_same_count, other_takes_video

FileRole = Literal["auto", "metric depth", "metric ray depth", "video depth", "video disparity"]
RAY_DEPTH: FileRole = "metric ray depth"
FILE_ROLES: Mapping[FileRole, DepthKind] = {
    "auto": "metric z",
    "metric depth": "metric z",
    RAY_DEPTH: "metric z",
    "video depth": "relative z",
    "video disparity": "disparity",
}
"""Kind of numbers in a depth file, by the role that the user gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFileInput:
    """A depth file and how it is to be read."""

    path: Path
    role: FileRole = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthInputs:
    """The first three arguments of :func:`depth.roles.align_sources`."""

    sources: tuple[DepthSource, ...]  # by priority
    camera: (
        CameraModel | None
    )  # exo camera at the frames' size, where the take knows it; None: the sources' own
    exo_w2c: (
        Tensor | None
    )  # [3, 4] or [T, 3, 4] float64, where the take knows it; None: the sources' own


def file_counts(role: FileRole, sockets: Collection[str]) -> bool:
    """Check whether a depth file is used: a file of role auto (one left in the workflow) gives way
    to the sockets."""
    return role != "auto" or not sockets


def depth_inputs(
    file: DepthFileInput | None,
    meta: TakeMeta | None,  # what is known of the exo camera
    frames: FrameSelection | None,  # the frames in use
    sockets: Mapping[str, DepthSocket],  # the connected ones, see depth.adapters
    *,
    fov_deg: float = 0.0,  # above 0: what the exo camera sees across, where the take doesn't say
    progress: Progress = no_progress,
) -> DepthInputs:
    """All depths to align, and the exo camera where the take knows better than they do.

    Raises:
        EgoXInputError: the file of another take, as :func:`file_source` and the sockets' adapters.
    """
    if file is not None and file.role == "auto" and frames is not None:
        with depth_advice():
            check_same_take(file.path, frames.source_path)
            with open_depth(file.path) as depth:
                check_depth_count(depth, frames)
    knows_lens = meta is not None and meta.exo_camera is not None
    camera = None if frames is None else _exo_camera(meta, frames, frames.size)
    if frames is not None and fov_deg > 0 and not knows_lens:
        camera = camera_of_view(*frames.size, fov_deg)
    sources: list[DepthSource] = []
    if file is not None:
        with depth_advice():
            sources.append(file_source(file, meta, frames, progress=progress))
    sources += socket_sources(sockets, camera)
    if fov_deg > 0 and not knows_lens and camera is None:
        camera = camera_of_view(*sources[0].depth.camera.stored_size, fov_deg)
    if meta is None or not sockets:  # a file alone brings camera and poses itself
        return DepthInputs(
            sources=tuple(sources), camera=None if knows_lens else camera, exo_w2c=None
        )
    if frames is None and knows_lens:
        camera = _exo_camera(meta, frames, sources[0].depth.camera.stored_size)
    return DepthInputs(sources=tuple(sources), camera=camera, exo_w2c=exo_poses(meta, frames))


@contextmanager
def depth_advice() -> Generator[None]:
    """Whatever is wrong with a depth file, a user with a video of their own needs another depth:
    errors say so."""
    try:
        yield
    except EgoXInputError as error:
        raise EgoXInputError(
            error.what, got=error.got, expected=error.expected, fix=f"{error.fix}; {ADVICE}"
        ) from error


def check_same_take(depth_path: Path, video_path: Path | None) -> None:
    """Refuse the depth of a take folder whose own video is another one than the video in use.

    A workflow that was opened with its sample keeps naming the sample's depth when the user chooses
    a video of their own, and nothing in the numbers would tell. Only folders laid out as a take (a
    meta.json and a video) say whose depth they hold; a copy of the same video elsewhere counts as
    the same.

    Raises:
        EgoXInputError: another video.
    """
    other = other_takes_video(depth_path, video_path)
    if other is None or video_path is None:
        return
    raise EgoXInputError(
        f"depth file {depth_path.name}",
        got=f"the depth of {other}, while the video in use is {video_path.name}",
        expected="depth of the video in use",
        fix="choose its own depth file or empty the field; if it does belong to this video, set "
        "file_role to 'metric depth'",
    )


def check_depth_count(depth: DepthFile, frames: FrameSelection) -> None:
    """Refuse depth of another frame rate or length than the video's.

    Raises:
        EgoXInputError: another count of maps than the video has frames.
    """
    check_same_count(
        f"depth {depth.name}",
        depth.frame_count,
        frames,
        "compute depth for every frame of this video; if map i does belong to frame i, set file_role to "
        "'metric depth'",
    )


def file_source(
    file: DepthFileInput,
    meta: TakeMeta
    | None,  # what is known of the exo camera; without intrinsics the camera is a guess
    frames: FrameSelection | None = None,
    *,
    progress: Progress = no_progress,
) -> DepthSource:
    """A depth file as an input of the alignment.

    Raises:
        EgoXInputError: as :func:`depth_files.load_depth_file`; ray depth without intrinsics.
    """
    has_camera, name = meta is not None and meta.exo_camera is not None, file.path.name
    depth, report = load_depth_file(
        file.path, meta, frames, kind=FILE_ROLES[file.role], guess_camera=True, progress=progress
    )
    notes = tuple(str(report).splitlines())
    if file.role == RAY_DEPTH:
        if not has_camera:
            raise EgoXInputError(
                f"depth file {name}",
                got="ray depth, but no camera",
                expected="the exo camera's intrinsics",
                fix="give a camera_file",
            )
        depth = z_from_ray_depth(depth)
        notes += ("distances along the rays were turned into z depth",)
    return DepthSource(depth=depth, name=name, camera_known=has_camera, notes=notes)


def _exo_camera(
    meta: TakeMeta | None, frames: FrameSelection | None, size: tuple[int, int]
) -> CameraModel | None:
    return (
        None if meta is None or meta.exo_camera is None else exo_camera_of_size(meta, frames, size)
    )
