"""Paths of an exo camera from other programs, as files and as values of other packs' sockets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import scipy
import torch
from torch import Tensor

from ..archives import open_zip, read_array
from ..cameras import invert, look_at, validate_w2c
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..frozen import frozen
from ..safe_files import atomic_write, read_json, require_file
from ..takes import parse_meta, read_poses
from ..trajectory import ClipMoments
from ..types import UNTIMED_FPS, CameraTrajectory, DepthVideo
from .blender import SIGNS, opengl_c2w, read_blender
from .colmap import read_pictures
from .frame_numbers import numbers_of, place

MAX_ARRAY_BYTES = 64 * 2**20
Read = tuple[bool, object, Tensor | None]  # whether it is in metres, w2c, numbers or times
NUKE_ORDER = "zxy"
"""Axes about which a camera of Nuke is turned, the first one first (its knob's default); its file
has the angles about x, y and z."""
FORMS = (
    "images.txt of COLMAP, an npz of ViPE or GVHMR, meta.json, transforms.json, TUM's text, a .chan "
    "of Nuke, a scene of OmniCam"
)


@frozen
class ExoPath:
    """A path in a world of its own."""

    w2c: Tensor  # [N, 3, 4] float64, OpenCV axes, of the upright picture
    numbers: Tensor  # [N] of their frames, or times
    metric: bool  # in metres, and in the world of the ego path
    name: str

    @classmethod
    def read(cls, path: Path) -> ExoPath:
        """A path in any of :data:`FORMS`.

        Raises:
            EgoXInputError: another form, damaged, no rigid poses.
        """
        require_file(path, "exo path")
        if path.suffix.lower() == ".json":
            return cls.parse(read_json(path, "exo path"), path.name)
        read = READERS.get(path.suffix.lower())
        if read is None:
            raise _unknown(path.name)
        return _path(path.name, *read(path))

    @classmethod
    def parse(cls, content: object, name: str) -> ExoPath:
        """The same from parsed JSON, or from what a socket hands on.

        Raises:
            EgoXInputError: as :meth:`read`.
        """
        if not isinstance(content, Mapping):
            raise _unknown(name)
        metric, numbers = False, None
        if "R_w2c" in content:
            w2c = _gvhmr(content)
        elif "cameras" in content and "timeline" in content:
            w2c = _omnicam(content, name)
        elif isinstance(content.get("frames"), list):
            w2c, times, names = read_blender(dict(content), name)
            numbers = numbers_of(names, name) if times is None else times
        else:
            metric, w2c = True, parse_meta(content, Path(name)).camera_extrinsics
        return _path(name, metric, w2c, numbers)

    def of(self, depth: DepthVideo, every_nth: int = 0) -> tuple[Tensor, str]:  # [T, 3, 4]
        """The poses of the depth's frames, and a note on how these were found.

        Raises:
            EgoXInputError: as :func:`.frame_numbers.place`; fewer.
        """
        indices, times = depth.source_indices, depth.times_s
        indices = torch.arange(len(depth.depth_m)) if indices is None else indices
        times = indices / UNTIMED_FPS if times is None else times
        frames = ClipMoments(
            indices=indices.double(), times_s=times.double(), source_frames=depth.source_frames
        ).selection()
        track, note = place(self.w2c, self.numbers, frames, f"exo path {self.name}", every_nth)
        return track.of_frames(frames), note


def write_chan(path: Path, trajectory: CameraTrajectory) -> None:
    """Write Nuke's form: frame, place, turns in degrees, vertical field of view."""
    c2w, camera = opengl_c2w(trajectory.upright_w2c).numpy(), trajectory.camera.upright()
    z, x, y = (
        scipy.spatial.transform.Rotation.from_matrix(c2w[:, :3, :3])
        .as_euler(NUKE_ORDER, degrees=True)
        .T
    )
    fov = np.full(len(c2w), 2 * math.degrees(math.atan(camera.height / 2 / camera.fy)))
    rows = np.c_[np.arange(1, len(c2w) + 1), c2w[:, :3, 3], x, y, z, fov]
    with atomic_write(path) as temporary:
        np.savetxt(temporary, rows, fmt=["%d", *["%.9g"] * 7])


def _unknown(name: str) -> EgoXInputError:
    return EgoXInputError(
        "exo path",
        got=f"{name}, which contains none",
        expected=FORMS,
        fix="export it as one of them",
    )


def _path(name: str, metric: bool, w2c: object, numbers: Tensor | None = None) -> ExoPath:
    if w2c is None:
        raise _unknown(name)
    poses = validate_w2c(w2c, f"exo path {name}")
    poses = poses if poses.ndim == 3 else poses[None]
    numbers = torch.arange(len(poses)) if numbers is None else numbers
    return ExoPath(w2c=poses, numbers=numbers, metric=metric, name=name)


def _rows(path: Path, *counts: int) -> np.ndarray:  # [N, count]
    """Lines of a text file as numbers."""
    with intact(path.name, (ValueError,), expected=f"{counts[0]} numbers per line"):
        rows = np.loadtxt(path, ndmin=2, encoding="utf-8-sig")
    if rows.shape[1] not in counts:
        raise _unknown(path.name)
    return rows


def _text(path: Path) -> Read:
    if path.name in ("images.txt", "cameras.txt"):
        poses, names = read_pictures(path.parent)
        return False, poses, numbers_of(names, path.parent.name)
    rows = _rows(path, 8)  # TUM's: time, place, quaternion
    with intact(path.name, (ValueError,), expected="time, place and a quaternion per line"):
        turns = scipy.spatial.transform.Rotation.from_quat(rows[:, 4:])
        return False, invert(_c2w(turns, rows)), torch.from_numpy(rows[:, 0])


def _chan(path: Path) -> Read:
    rows = _rows(path, 8, 7)
    turns = scipy.spatial.transform.Rotation.from_euler(
        NUKE_ORDER, rows[:, [6, 4, 5]], degrees=True
    )
    return False, invert(SIGNS * _c2w(turns, rows)), torch.from_numpy(rows[:, 0])


def _c2w(turns: scipy.spatial.transform.Rotation, rows: np.ndarray) -> Tensor:  # [N, 3, 4]
    """Poses of the places in a file's second to fourth column."""
    return torch.from_numpy(np.concatenate([turns.as_matrix(), rows[:, 1:4, None]], 2))


def _npz(path: Path) -> Read:
    with open_zip(path, "exo path", MAX_ARRAY_BYTES) as archive:
        if "R_w2c.npy" in archive.namelist():
            arrays = {key: read_array(archive, key, path.name) for key in ("R_w2c", "t_w2c")}
            return False, _gvhmr(arrays), None
    return True, read_poses(path), None


READERS: Mapping[str, Callable[[Path], Read]] = {
    ".txt": _text,
    ".chan": _chan,
    ".npz": _npz,
}
"""By the end of a file's name."""


def _gvhmr(content: Mapping) -> Tensor:
    with intact("exo path", (*NO_NUMBERS, KeyError, RuntimeError), expected="R_w2c and t_w2c"):
        turns, places = (
            torch.tensor(np.array(content[key])).double() for key in ("R_w2c", "t_w2c")
        )
        return torch.cat((turns, places[..., None]), -1)


def _omnicam(content: Mapping, name: str) -> Tensor:
    """The active camera's keyframes; between two of them, place, target and roll go evenly."""
    form = "cameras[].track.keyframes[] with frame, and position, target and roll of a camera"
    with intact(f"exo path {name}", (*NO_NUMBERS, KeyError, IndexError), expected=form):
        cameras = content["cameras"]
        active = content.get("active_camera_id")
        track = next((c for c in cameras if c["id"] == active), cameras[0])["track"]
        keys = sorted(track["keyframes"], key=lambda key: key["frame"])
        states = np.array(
            [
                (*k["camera"]["position"], *k["camera"]["target"], k["camera"].get("roll", 0.0))
                for k in keys
            ],
            dtype=float,
        )
        at = np.arange(int(track["duration_frames"]))
        places = [np.interp(at, [key["frame"] for key in keys], column) for column in states.T]
    up = (0.0, 1.0, 0.0)
    return torch.stack([look_at(n[:3], n[3:6], up, roll_deg=-n[6]) for n in np.stack(places, 1)])
