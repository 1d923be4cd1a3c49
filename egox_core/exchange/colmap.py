"""Read and write camera paths as COLMAP's files (cameras.txt and images.txt, or binary).

COLMAP knows no turned sensors and puts pixel centres at half integers: cameras are written upright
(quarter turns worked into intrinsics and pose, the same pixels) and with 0.5 added to the
centre."""

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cameras import LENSES, CameraModel, CameraPath, one_camera
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..facts import StatedPoses
from ..safe_files import atomic_write, decode_text, require_file

MAX_TEXT_BYTES, MAX_BINARY_BYTES = 64 * 2**20, 512 * 2**20  # binary files keep all points
HEAD_LINES = 10  # of a file, comments among them
NAMES_FRAMES = "# NAME has the frame of the source video, counted from 0"
BINARY_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)
"""Models by their number in binary files, and how many numbers each has."""


def write_colmap(folder: Path, path: CameraPath, frames: Tensor) -> None:
    """Write a camera path as COLMAP's cameras.txt, images.txt and an empty points3D.txt.

    Pictures are named by ``frames`` [T] of the source video, and the file says so.

    Raises:
        EgoXInputError: COLMAP has no such lens.
    """
    camera = path.camera.upright()
    from scipy.spatial.transform import Rotation  # half of torch's time

    lens = LENSES[camera.lens]
    if lens.colmap is None:
        raise EgoXInputError(
            "camera for COLMAP",
            got=f"a {camera.lens} lens",
            expected=(
                "one of "
                f"{', '.join(sorted(entry.colmap for entry in LENSES.values() if entry.colmap))}"
            ),
            fix="write transforms.json",
        )
    distortion = camera.distortion or (0.0,) * lens.distortion_count
    intrinsic_values = (camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5, *distortion)
    camera_row = " ".join(
        (
            f"1 {lens.colmap} {camera.width} {camera.height}",
            *(repr(float(intrinsic)) for intrinsic in intrinsic_values),
        )
    )
    _write_lines(folder / "cameras.txt", ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS", camera_row])
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points (none)"]
    lines.append(NAMES_FRAMES)
    for index, (number, pose) in enumerate(
        zip(frames.long().tolist(), path.upright_w2c, strict=True)
    ):
        qx, qy, qz, qw = Rotation.from_matrix(pose[:, :3].numpy()).as_quat()
        pose_values = " ".join(
            repr(float(value)) for value in (qw, qx, qy, qz, *pose[:, 3].tolist())
        )
        lines += [f"{index + 1} {pose_values} 1 frame_{number:06d}.png", ""]
    _write_lines(folder / "images.txt", lines)
    _write_lines(folder / "points3D.txt", ["# POINT3D_ID X Y Z R G B ERROR TRACK"])


def read_pictures(path: Path) -> StatedPoses:
    """Read the poses (w2c [N, 3, 4], upright) and picture names of images.txt or images.bin.

    Raises:
        EgoXInputError: files missing, malformed, no picture; by the camera's reader: cameras that
            differ, an unknown lens.
    """
    from scipy.spatial.transform import Rotation

    colmap_folder = path.parent
    suffix = path.suffix.lower()
    cameras = set()
    pose_by_name = {}
    with _colmap_errors(colmap_folder):
        rows = (
            _binary_pictures(colmap_folder) if suffix == ".bin" else _text_pictures(colmap_folder)
        )
        for qw, qx, qy, qz, x, y, z, camera, name in rows:
            quaternion = [float(value) for value in (qx, qy, qz, qw)]
            if not any(quaternion):  # as some write for a picture that they lost
                continue
            translation = np.array([[float(x)], [float(y)], [float(z)]])
            cameras.add(int(camera))
            pose_by_name[name] = np.concatenate(
                (Rotation.from_quat(quaternion).as_matrix(), translation), 1
            )
        if not pose_by_name:
            raise ValueError("no picture")
        poses = torch.from_numpy(np.stack([*pose_by_name.values()]))

    def lens() -> CameraModel:
        with _colmap_errors(colmap_folder):
            if suffix == ".bin":
                rows = _binary_cameras(colmap_folder)
            else:
                rows = [line.split() for line in _read_lines(colmap_folder / "cameras.txt") if line]
            used_cameras = [
                _camera_of_row(row[1:], colmap_folder) for row in rows if int(row[0]) in cameras
            ]
        return one_camera(used_cameras, f"COLMAP folder {colmap_folder.name}")

    return StatedPoses(
        name=colmap_folder.name,
        poses=poses,
        camera_to_world=False,
        gravity=False,
        moments={"names": tuple(pose_by_name), "frames_named": names_frames(path)},
        read_lens=lens,
    )


def names_frames(path: Path) -> bool:
    """Check whether the picture names of an images.txt state frame numbers of the source video."""
    if path.suffix.lower() != ".txt":
        return False
    with (path.parent / "images.txt").open(encoding="utf-8", errors="replace") as file:
        return NAMES_FRAMES in map(str.rstrip, islice(file, HEAD_LINES))


def _camera_of_row(row: list[str], folder: Path) -> CameraModel:
    model, width, height, *numbers = row
    # By model: the lens, its focal lengths, its numbers of distortion.
    models = {
        entry.colmap: (lens, 2, entry.distortion_count)
        for lens, entry in LENSES.items()
        if entry.colmap
    }
    models |= {
        name: (lens, 1, count)
        for lens, entry in LENSES.items()
        for name, count in entry.simpler.items()
    }
    lens, focal_count, count = models.get(model, ("", 0, 0))
    if not lens or len(numbers) != focal_count + 2 + count:
        raise EgoXInputError(
            f"COLMAP folder {folder.name}",
            got=f"model {model} with {len(numbers)} numbers",
            expected=f"one of {', '.join(sorted(models))}",
            fix="undistort the images to PINHOLE in COLMAP, or give stages.path a camera",
        )
    parameters = [float(number) for number in numbers]
    cx, cy, *distortion = parameters[focal_count:]
    return CameraModel(
        lens=lens,
        width=int(width),
        height=int(height),
        fx=parameters[0],
        fy=parameters[focal_count - 1],
        cx=cx - 0.5,
        cy=cy - 0.5,
        distortion=(*distortion, *[0.0] * (LENSES[lens].distortion_count - count)),
    )


def _text_pictures(folder: Path) -> Iterator[list[str]]:
    """Yield the rows of images.txt, each from the quaternion on.

    A line of points after each picture, which other writers leave out, has numbers by three.
    """
    for line in _read_lines(folder / "images.txt"):
        words = line.split()
        if words and not (len(words) % 3 == 0 and words[-1].lstrip("-").isdigit()):
            _, *picture_fields = line.split(maxsplit=9)
            yield picture_fields


def _binary_pictures(folder: Path) -> Iterator[list]:
    """Yield the rows of images.bin, each from the quaternion on."""
    file_bytes = _read_bytes(folder / "images.bin")
    offset = 8
    for _ in range(*struct.unpack_from("<Q", file_bytes)):
        _, *pose, camera = struct.unpack_from("<I7dI", file_bytes, offset)
        name_end = file_bytes.index(b"\0", offset + 64)
        point_count = struct.unpack_from("<Q", file_bytes, name_end + 1)[0]
        yield [*pose, camera, file_bytes[offset + 64 : name_end].decode("utf-8", "replace")]
        offset = name_end + 9 + 24 * point_count
        if offset > len(file_bytes):
            raise ValueError("an end within a picture")


def _binary_cameras(folder: Path) -> list[list]:
    """List the rows of cameras.bin in the layout of cameras.txt."""
    file_bytes = _read_bytes(folder / "cameras.bin")
    offset = 8
    rows = []
    for _ in range(*struct.unpack_from("<Q", file_bytes)):
        camera_id, model, width, height = struct.unpack_from("<IiQQ", file_bytes, offset)
        name, count = BINARY_MODELS[model]
        rows.append(
            [
                camera_id,
                name,
                width,
                height,
                *struct.unpack_from(f"<{count}d", file_bytes, offset + 24),
            ]
        )
        offset += 24 + 8 * count
    return rows


def _read_bytes(path: Path) -> bytes:
    require_file(path, "COLMAP file", MAX_BINARY_BYTES)
    return path.read_bytes()


def _colmap_errors(folder: Path) -> AbstractContextManager[None]:
    return intact(
        f"COLMAP folder {folder.name}",
        (*NO_NUMBERS, IndexError, struct.error),
        expected="COLMAP's text or binary format",
        fix="export the model again",
    )


def _write_lines(path: Path, lines: list[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _read_lines(path: Path) -> list[str]:
    require_file(path, "COLMAP file", MAX_TEXT_BYTES)
    lines = decode_text(path.read_bytes(), f"COLMAP file {path.name}").splitlines()
    return [line.strip() for line in lines if not line.lstrip().startswith("#")]
