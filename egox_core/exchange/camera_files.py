"""Read camera paths of other programs, for the ego and the exo camera alike.

To add a form: a reader here, by the end of a file's name or by the keys of its JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from ..archives import open_zip, read_array, read_npy_header
from ..arrays import as_matrix, as_poses
from ..cameras import CameraModel, CameraPath, look_at
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..facts import Declared, StatedPoses, Statement, settle, settle_numbering, settle_poses
from ..frames import Frames, Numbering
from ..frozen import frozen
from ..remarks import FactRow, Remark
from ..safe_files import atomic_write, read_json, read_optional, require_file
from ..takes import ENTRY_KEYS, LIST_KEYS, parse_meta, read_poses, states_direction
from ..trajectory import PoseTrack, placed_track
from ..types import DepthVideo
from .blender import blender_camera, blender_times, opengl_c2w, read_blender, unread_remarks
from .colmap import read_pictures
from .pose_tables import poses_of_lines, read_csv, read_table_text, stated_unit_s
from .scans import POLYCAM_KEY, holds_matrices, poses_of_matrices, read_polycam, read_record3d

FORMAT = "egox_trajectory"
"""Of our own JSON."""
MAX_ARRAY_BYTES = 64 * 2**20
NUKE_ORDER = "zxy"
"""Axes about which a camera of Nuke is turned, the first one first (its knob's default); its file
has the angles about x, y and z."""
FORMS = (
    "images.txt or images.bin of COLMAP, an npz of ViPE or GVHMR, meta.json, a trajectory JSON, "
    "transforms.json, TUM's or KITTI's text, a .csv of EuRoC, OptiTrack or Aria, a .chan of Nuke, "
    "metadata of Record3D, a camera of Polycam, matrices as .npy or JSON, a scene of OmniCam"
)


@frozen
class CameraFile:
    """Camera path in the world of its file."""

    name: str
    stated: StatedPoses  # of the upright picture
    numbering: Numbering
    rows: tuple[FactRow, ...] = ()  # of the facts that were settled
    settled_path: CameraPath | None = None

    @classmethod
    def of_stated(cls, stated: StatedPoses) -> CameraFile:
        """Make a camera path file from poses as a file states them."""
        count = 1 if stated.poses.ndim == 2 else len(stated.poses)
        return cls(
            name=stated.name,
            stated=stated,
            numbering=Numbering(what=stated.name, count=count, **stated.moments),
        )

    @property
    def lens(self) -> Callable[[], CameraModel] | None:
        """Reader of the file's lens, if it has one: it is read when asked for, and may be any."""
        return self.stated.read_lens

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """Remarks on what of the file isn't read."""
        return self.stated.remarks

    @property
    def path(self) -> CameraPath:
        """Camera path in metres and OpenCV's axes.

        Raises:
            EgoXInputError: what its poses are isn't settled yet.
        """
        if self.settled_path is None:
            raise EgoXInputError(
                f"camera path {self.name}",
                got="poses as the file has them",
                expected="settled ones, in metres and OpenCV's axes",
                fix="call its settled first, with what the user declares",
            )
        return self.settled_path

    def settled(self, declared: Declared, camera: Literal["ego", "exo"] = "ego") -> CameraFile:
        """Settle axes, unit, clock and world of the file's poses, with the rows of these facts.

        Raises:
            EgoXInputError: no rigid poses; a clock for poses that have no times.
        """
        path, rows = settle_poses(self.stated, declared, camera)
        numbering, moment_rows = settle_numbering(self.numbering, declared, camera)
        rows = (*rows, *moment_rows)
        return replace(self, settled_path=path, numbering=numbering, rows=rows)

    @classmethod
    def read(cls, path: Path, what: str = "exo path") -> CameraFile:
        """Read a camera path in any of :data:`FORMS`, the exo camera's of a file with both.

        Raises:
            EgoXInputError: another form, damaged, no rigid poses.
        """
        require_file(path, what)
        if path.suffix.lower() == ".json":
            return cls.parse(read_json(path, what), path.name, path.parent)
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise _unknown_format(path.name)
        return cls.of_stated(reader(path))

    @classmethod
    def parse(cls, content: object, name: str, folder: Path | None = None) -> CameraFile:
        """Parse a camera path from JSON content, of which ``folder`` may hold more files.

        Raises:
            EgoXInputError: as :meth:`read`.
        """
        file_form = identify_form(content)
        times_s = None
        if isinstance(content, Mapping) and POLYCAM_KEY in content:
            return cls.of_stated(read_polycam(content, name, folder))
        if callable(file_form):
            return cls.of_stated(file_form(content, name))
        if not isinstance(content, Mapping):
            raise _unknown_format(name)
        if file_form == "ours":
            times_s = as_matrix(content.get("times_s"), f"times_s of {name}", "numbers")
            w2c = read_optional(content, name, "exo_w2c", as_poses)
        elif {*LIST_KEYS, *ENTRY_KEYS} & content.keys():
            w2c = parse_meta(content, Path(name)).exo.pose
        else:
            w2c = None
        if w2c is None:
            raise _unknown_format(name)
        stated = StatedPoses(
            name=name,
            poses=w2c,
            camera_to_world=False,
            world="take",
            moments={"times_s": times_s, "times_of_video": file_form == "ours"},
        )
        return cls.of_stated(stated)

    def track(self, frames: Frames | None, **declared: Any) -> tuple[PoseTrack, str]:
        """Assign the file's poses to moments of the video, and describe how the moments were found.

        ``declared`` are fields of Numbering that the user sets.

        Raises:
            EgoXInputError: as :func:`placed_track`.
        """
        return placed_track(self.path.w2c, replace(self.numbering, **declared), frames)

    def clock_rows(self, track: PoseTrack) -> tuple[FactRow, ...]:
        """Record where nothing ties the clock of the file's times to the video's."""
        if not track.clock_by:
            return ()
        advice = "nothing ties this clock to the video's, declare ego.time_offset_s if you know it"
        first_s = float(track.moments[0])
        return (settle("ego.time_offset_s", (), Declared(), first_s, track.clock_by, advice)[1],)

    def for_depth(self, depth: DepthVideo, **declared: Any) -> tuple[CameraPath, str]:
        """Assign the file's exo poses to the frames of a depth video, and describe how.

        Raises:
            EgoXInputError: as :meth:`track`; fewer.
        """
        frames, path = depth.frames, self.path
        if path.stands:
            return replace(path, w2c=path.poses(len(frames)), frames=frames), ""
        numbering = replace(self.numbering, what=f"exo path {self.name}", **declared)
        track, note = placed_track(path.w2c, numbering, frames)
        return replace(path, w2c=track.of_frames(frames), frames=frames), note


def write_chan(file: Path, path: CameraPath, frames: Tensor) -> None:
    """Write a .chan file of Nuke: frame number from 1, position, rotation in degrees, vertical
    field of view."""
    c2w = opengl_c2w(path.upright_w2c).numpy()
    camera = path.camera.upright()
    angle_z, angle_x, angle_y = (
        scipy.spatial.transform.Rotation.from_matrix(c2w[:, :3, :3])
        .as_euler(NUKE_ORDER, degrees=True)
        .T
    )
    fov_deg = np.full(len(c2w), 2 * math.degrees(math.atan(camera.height / 2 / camera.fy)))
    chan_rows = np.c_[frames.numpy() + 1, c2w[:, :3, 3], angle_x, angle_y, angle_z, fov_deg]
    with atomic_write(file) as temporary:
        np.savetxt(temporary, chan_rows, fmt=["%d", *["%.9g"] * 7])


def _unknown_format(name: str, content_text: str = "which contains none") -> EgoXInputError:
    return EgoXInputError(
        "camera path",  # of ego or exo: it is one reader
        got=f"{name}, {content_text}",
        expected=FORMS,
        fix="export it as one of them, or save its matrices: numpy.save('poses.npy', matrices)",
    )


def _rows_of_lines(lines: list[str], name: str, *counts: int) -> np.ndarray:  # [N, count]
    """Read the lines of a text file as rows of numbers."""
    lines = [line for line in lines if line.partition("#")[0].strip()]
    if lines and not re.search(r"\d", re.sub(r"[a-zA-Z_]\w*", "", lines[0])):
        lines = lines[1:]  # names of the columns
    with intact(name, (ValueError,), expected=f"{counts[0]} numbers per line"):
        rows = np.loadtxt(lines, ndmin=2) if lines else np.empty((0, 0))
    if rows.shape[1] not in counts:
        raise _unknown_format(name, f"lines of {rows.shape[1]} numbers")
    return rows


def _text_lines(path: Path) -> list[str]:
    return read_table_text(path).replace(",", " ").splitlines()


def _read_text(path: Path) -> StatedPoses:
    if path.name in ("images.txt", "cameras.txt"):
        return read_pictures(path)
    lines = _text_lines(path)
    pose_rows = _rows_of_lines(lines, path.name, 8, 12, 13, 16, 17)
    if pose_rows.shape[1] != 8:
        table = poses_of_lines(pose_rows, path.name)
        if table is None:
            raise _unknown_format(path.name, f"lines of {pose_rows.shape[1]} numbers")
        return table
    # TUM's: time, place, quaternion
    order, statements, unit_s = "xyzw", (), None
    for header_line in lines[:10]:
        header_line = header_line.lower()
        # without units
        header_words = re.sub(r"\[.*?\]|\(.*?\)|#", " ", header_line).split()
        quaternion_words = [word for word in header_words if word.startswith("q")]
        if len(header_words) == 8 and len(quaternion_words) == 4:
            if quaternion_words[0].endswith("w"):  # some programs write it first, and say so
                pose_rows = pose_rows[:, [*range(4), 5, 6, 7, 4]]
                order = "wxyz"
            statements = (Statement("quaternion", order, f"header of {path.name}"),)
            unit_s = stated_unit_s(header_line.partition(header_words[1])[0], pose_rows[:, 0])
            break
    pose_rows = pose_rows[np.abs(pose_rows[:, 4:]).sum(1) > 0]  # of lost frames they are 0
    with intact(path.name, (ValueError,), expected="time, place and a quaternion per line"):
        rotations = scipy.spatial.transform.Rotation.from_quat(pose_rows[:, 4:])
        c2w = _c2w(rotations, pose_rows)
    return StatedPoses(
        name=path.name,
        poses=c2w,
        camera_to_world=True,
        statements=statements,
        quaternion=order,
        moments={"times_s": torch.from_numpy(pose_rows[:, 0]), "time_unit_s": unit_s},
    )


def _read_npy(path: Path) -> StatedPoses:
    with path.open("rb") as file:
        size = path.stat().st_size
        shape, dtype = read_npy_header(file, f"camera path {path.name}", size)
        if size > MAX_ARRAY_BYTES or dtype.kind not in "fiu":
            raise _unknown_format(path.name, f"{dtype} of shape {shape}")
        values = np.frombuffer(file.read(), dtype).reshape(shape)
    return poses_of_matrices(values, path.name)


def _read_chan(path: Path) -> StatedPoses:
    # 8 numbers with an angle of view, 9 with a focal length
    pose_rows = _rows_of_lines(_text_lines(path), path.name, 8, 7, 9)
    rotations = scipy.spatial.transform.Rotation.from_euler(
        NUKE_ORDER, pose_rows[:, [6, 4, 5]], degrees=True
    )
    names = tuple(f"{number:.0f}" for number in pose_rows[:, 0])
    return StatedPoses(
        name=path.name,
        poses=_c2w(rotations, pose_rows),
        camera_to_world=True,
        axes="opengl",
        moments={"names": names},
    )


def _c2w(turns: scipy.spatial.transform.Rotation, rows: np.ndarray) -> Tensor:  # [N, 3, 4]
    """Make c2w poses from rotations, and positions in the second to fourth column of a file."""
    return torch.from_numpy(np.concatenate([turns.as_matrix(), rows[:, 1:4, None]], 2))


def _read_npz(path: Path) -> StatedPoses:
    with open_zip(path, "camera path", MAX_ARRAY_BYTES) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        key = next((key for key in sorted(names) if states_direction(key) is not None), None)
        if not names & {"data", "inds", "R_w2c", "t_w2c"} and key is not None:
            values = read_array(archive, key, f"{key} of {path.name}")
            label = f"{key} of {path.name}"
            return StatedPoses(
                name=path.name,
                poses=as_poses(values.reshape(-1, *values.shape[-2:]).copy(), label),
                camera_to_world=states_direction(key),
                label=label,
            )
        if not names & {"data", "inds", "R_w2c", "t_w2c"}:
            raise _unknown_format(
                path.name, f"an npz of {', '.join(sorted(names)[:8]) or 'nothing'}"
            )
        if {"R_w2c", "t_w2c"} <= names:
            arrays = {key: read_array(archive, key, path.name) for key in ("R_w2c", "t_w2c")}
            return _parse_gvhmr(arrays, path.name)
    w2c = read_poses(path)
    return StatedPoses(
        name=path.name,
        poses=w2c,
        camera_to_world=False,
        world="take",
        gravity=False,
        moments={"numbers": torch.arange(len(w2c))},
    )


READERS: Mapping[str, Callable[[Path], StatedPoses]] = {
    ".txt": _read_text,
    ".tum": _read_text,
    ".bin": read_pictures,
    ".chan": _read_chan,
    ".csv": read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
"""By the end of a file's name."""


def identify_form(
    content: object,
) -> Callable[[Any, str], StatedPoses] | Literal["ours", "keyframes", "meta"]:
    """Identify the format of a camera path's JSON content."""
    if holds_matrices(content):
        return poses_of_matrices
    if isinstance(content, list):
        return "keyframes"
    if not isinstance(content, Mapping):
        return "meta"
    if content.get("format") == FORMAT:
        return "ours"
    if "keyframes" in content:
        return "keyframes"
    if "R_w2c" in content:
        return _parse_gvhmr
    if "cameras" in content and "timeline" in content:
        return _parse_omnicam
    if POLYCAM_KEY in content:
        return read_polycam
    if "poses" in content and {"K", "perFrameIntrinsicCoeffs"} & content.keys():
        return read_record3d
    return _parse_transforms if isinstance(content.get("frames"), list) else "meta"


def _parse_transforms(content: Mapping, name: str) -> StatedPoses:
    parsed = dict(content)
    stated, times_s = read_blender(parsed, name), blender_times(parsed, name)
    names = tuple(frame.get("file_path") for frame in parsed["frames"])

    def lens() -> CameraModel:
        return blender_camera(parsed, name)

    return replace(
        stated,
        moments={"times_s": times_s, "times_in_shares": True, "names": names},
        read_lens=lens,
        remarks=unread_remarks(parsed, name),
    )


def _parse_gvhmr(content: Mapping, name: str) -> StatedPoses:
    with intact("camera path", (*NO_NUMBERS, KeyError, RuntimeError), expected="R_w2c and t_w2c"):
        rotations, translations = (
            torch.tensor(np.array(content[key])).double() for key in ("R_w2c", "t_w2c")
        )
        poses = torch.cat((rotations, translations[..., None]), -1)
        return StatedPoses(name=name, poses=poses, camera_to_world=False)


def _parse_omnicam(content: Mapping, name: str) -> StatedPoses:
    """Read the keyframes of the active camera in an OmniCam scene, interpolated linearly."""
    expected_form = (
        "cameras[].track.keyframes[] with frame, and position, target and roll of a camera"
    )
    with intact(f"camera path {name}", (*NO_NUMBERS, KeyError, IndexError), expected=expected_form):
        cameras = content["cameras"]
        active_id = content.get("active_camera_id")
        track = next(
            (each_camera for each_camera in cameras if each_camera["id"] == active_id), cameras[0]
        )["track"]
        keyframes = sorted(track["keyframes"], key=lambda key: key["frame"])
        camera_states = np.array(
            [
                (
                    *keyframe["camera"]["position"],
                    *keyframe["camera"]["target"],
                    keyframe["camera"].get("roll", 0.0),
                )
                for keyframe in keyframes
            ],
            dtype=float,
        )
        frame_numbers = np.arange(int(track["duration_frames"]))
        interpolated_columns = [
            np.interp(frame_numbers, [key["frame"] for key in keyframes], column)
            for column in camera_states.T
        ]
    up = (0.0, 1.0, 0.0)
    w2c = [
        look_at(state[:3], state[3:6], up, roll_deg=-state[6])
        for state in np.stack(interpolated_columns, 1)
    ]
    return StatedPoses(name=name, poses=torch.stack(w2c), camera_to_world=False)
