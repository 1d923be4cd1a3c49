"""Camera paths as COLMAP text files (cameras.txt, images.txt), which most 3D tools read.

COLMAP knows no turned sensors and puts pixel centres at half integers: cameras are written upright
(quarter turns worked into intrinsics and pose, the same pixels) and with 0.5 added to the
centre."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cameras import LENSES, CameraModel, one_camera, validate_w2c
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..safe_files import atomic_write, require_file
from ..types import CameraTrajectory

MAX_TEXT_BYTES = 64 * 2**20


def write_colmap(folder: Path, trajectory: CameraTrajectory) -> None:
    """Write cameras.txt, images.txt and an empty points3D.txt.

    Raises:
        EgoXInputError: COLMAP has no such lens.
    """
    camera = trajectory.camera.upright()
    from scipy.spatial.transform import Rotation  # half of torch's time

    lens = LENSES[camera.lens]
    if lens.colmap is None:
        raise EgoXInputError(
            "camera for COLMAP",
            got=f"a {camera.lens} lens",
            expected=f"one of {', '.join(sorted(e.colmap for e in LENSES.values() if e.colmap))}",
            fix="write transforms.json",
        )
    distortion = camera.distortion or (0.0,) * lens.distortion_count
    numbers = (camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5, *distortion)
    row = " ".join(
        (f"1 {lens.colmap} {camera.width} {camera.height}", *(repr(float(x)) for x in numbers))
    )
    _write(folder / "cameras.txt", ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS", row])
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points (none)"]
    for index, pose in enumerate(trajectory.upright_w2c):
        x, y, z, w = Rotation.from_matrix(pose[:, :3].numpy()).as_quat()
        values = " ".join(repr(float(v)) for v in (w, x, y, z, *pose[:, 3].tolist()))
        lines += [f"{index + 1} {values} 1 frame_{index:06d}.png", ""]
    _write(folder / "images.txt", lines)
    _write(folder / "points3D.txt", ["# POINT3D_ID X Y Z R G B ERROR TRACK"])


def read_colmap(folder: Path) -> tuple[CameraModel, Tensor, tuple[str, ...]]:
    """The camera, the poses (w2c [N, 3, 4], upright) and the picture names.

    Raises:
        EgoXInputError: files missing, malformed, cameras that differ, an unknown lens, no picture.
    """
    used, poses, names = _pictures(folder)
    with _intact(folder):
        rows = [line.split() for line in _lines(folder / "cameras.txt") if line]
        cameras = [_camera(row[1:], folder) for row in rows if int(row[0]) in used]
    return one_camera(cameras, f"COLMAP folder {folder.name}"), poses, names


def read_pictures(folder: Path) -> tuple[Tensor, tuple[str, ...]]:
    """The same without the camera, so its lens may be any."""
    return _pictures(folder)[1:]


def _camera(row: list[str], folder: Path) -> CameraModel:
    model, width, height, *numbers = row
    # By model: the lens, its focal lengths, its numbers of distortion.
    known = {e.colmap: (lens, 2, e.distortion_count) for lens, e in LENSES.items() if e.colmap}
    known |= {
        name: (lens, 1, count) for lens, e in LENSES.items() for name, count in e.simpler.items()
    }
    lens, focals, count = known.get(model, ("", 0, 0))
    if not lens or len(numbers) != focals + 2 + count:
        raise EgoXInputError(
            f"COLMAP folder {folder.name}",
            got=f"model {model} with {len(numbers)} numbers",
            expected=f"one of {', '.join(sorted(known))}",
            fix="undistort the images to PINHOLE in COLMAP, or give stages.path a camera",
        )
    values = [float(number) for number in numbers]
    cx, cy, *distortion = values[focals:]
    return CameraModel(
        lens=lens,
        width=int(width),
        height=int(height),
        fx=values[0],
        fy=values[focals - 1],
        cx=cx - 0.5,
        cy=cy - 0.5,
        distortion=(*distortion, *[0.0] * (LENSES[lens].distortion_count - count)),
    )


def _pictures(folder: Path) -> tuple[set[int], Tensor, tuple[str, ...]]:
    """Numbers of the cameras, poses and names. A line of points after each picture, which other
    writers leave out, has numbers by three."""
    from scipy.spatial.transform import Rotation

    cameras, pictures = set(), {}
    with _intact(folder):
        for line in _lines(folder / "images.txt"):
            words = line.split()
            if not words or (len(words) % 3 == 0 and words[-1].lstrip("-").isdigit()):
                continue
            _, qw, qx, qy, qz, *place, camera, name = line.split(maxsplit=9)
            if len(place) != 3:
                raise ValueError(f"{len(place)} numbers for a place")
            turn = Rotation.from_quat([float(v) for v in (qx, qy, qz, qw)]).as_matrix()
            centre = np.array([[float(v)] for v in place])
            cameras.add(int(camera))
            pictures[name] = np.concatenate((turn, centre), 1)
        if not pictures:
            raise ValueError("no picture")
        poses = torch.from_numpy(np.stack([*pictures.values()]))
    return cameras, validate_w2c(poses, "poses of images.txt"), tuple(pictures)


def _intact(folder: Path) -> AbstractContextManager[None]:
    return intact(
        f"COLMAP folder {folder.name}",
        (*NO_NUMBERS, IndexError),
        expected="COLMAP's text format",
        fix="export again with output type TXT, not as binary files",
    )


def _write(path: Path, lines: list[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _lines(path: Path) -> list[str]:
    require_file(path, "COLMAP file", MAX_TEXT_BYTES)
    lines = path.read_text("utf-8-sig").splitlines()
    return [line.strip() for line in lines if not line.lstrip().startswith("#")]
