"""Camera paths as COLMAP text files (cameras.txt, images.txt), which most 3D tools read.

COLMAP knows no turned sensors and puts pixel centres at half integers: cameras are written upright
(quarter turns worked into intrinsics and pose, the same pixels) and with 0.5 added to the
centre."""

import re
from pathlib import Path

import torch
from torch import Tensor

from ..cameras import LENSES, CameraModel
from ..errors import EgoXInputError
from ..safe_files import atomic_write, require_file
from ..trajectory import validate_w2c
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
            expected=f"one of {_models()}",
            fix="write transforms.json",
        )
    distortion = camera.distortion or (0.0,) * lens.distortion_count
    numbers = (camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5, *distortion)
    row = " ".join(
        (f"1 {lens.colmap} {camera.width} {camera.height}", *(repr(float(x)) for x in numbers))
    )
    _write(folder / "cameras.txt", ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS", row])
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points (none)"]
    for index, pose in enumerate(upright_poses(trajectory)):
        x, y, z, w = Rotation.from_matrix(pose[:, :3].numpy()).as_quat()
        values = " ".join(repr(float(v)) for v in (w, x, y, z, *pose[:, 3].tolist()))
        lines += [f"{index + 1} {values} 1 frame_{index:06d}.png", ""]
    _write(folder / "images.txt", lines)
    _write(folder / "points3D.txt", ["# POINT3D_ID X Y Z R G B ERROR TRACK"])


def _models() -> str:
    return ", ".join(sorted(lens.colmap for lens in LENSES.values() if lens.colmap))


def read_colmap(folder: Path) -> tuple[CameraModel, Tensor, tuple[str, ...]]:
    """The camera, the poses (w2c [N, 3, 4], upright) and the picture names, sorted by the numbers
    in the names.

    Raises:
        EgoXInputError: files missing, malformed, several cameras, an unknown lens, no picture.
    """
    from scipy.spatial.transform import Rotation

    cameras = [line.split() for line in _lines(folder / "cameras.txt") if line]
    images = _lines(folder / "images.txt")[::2]  # every second line lists points
    try:
        used = {int(line.split()[8]) for line in images if line}
        rows = [row for row in cameras if int(row[0]) in used]
        poses = {}
        for line in filter(None, images):
            _, qw, qx, qy, qz, *translation, _, name = line.split(maxsplit=9)
            if len(translation) != 3:
                raise ValueError(f"{len(translation)} numbers for a place")
            rotation = Rotation.from_quat([float(v) for v in (qx, qy, qz, qw)]).as_matrix()
            poses[name] = torch.cat(
                (
                    torch.from_numpy(rotation),
                    torch.tensor([[float(v)] for v in translation], dtype=torch.float64),
                ),
                dim=-1,
            )
        if len(rows) != 1 or not poses:
            raise EgoXInputError(
                f"COLMAP folder {folder.name}",
                got=f"{len(poses)} pictures of {len(rows)} cameras",
                expected="pictures of one camera",
                fix="export the ego camera alone",
            )
        _, model, width, height, *numbers = rows[0]
        lens = next((name for name, entry in LENSES.items() if entry.colmap == model), None)
        if lens is None or len(numbers) != 4 + LENSES[lens].distortion_count:
            raise EgoXInputError(
                f"COLMAP folder {folder.name}",
                got=f"model {model} with {len(numbers)} numbers",
                expected=f"one of {_models()}",
                fix="undistort the pictures to PINHOLE in COLMAP",
            )
        fx, fy, cx, cy, *distortion = (float(v) for v in numbers)
        size = int(width), int(height)
    except EgoXInputError:
        raise
    except (
        ValueError,
        IndexError,
    ) as error:  # of float and int, of too few columns, of scipy at a zero rotation
        raise EgoXInputError(
            f"COLMAP folder {folder.name}",
            got=f"malformed text ({error})",
            expected="COLMAP's text format",
            fix="export again with output type TXT",
        ) from error
    camera = CameraModel(
        lens=lens,
        width=size[0],
        height=size[1],
        fx=fx,
        fy=fy,
        cx=cx - 0.5,
        cy=cy - 0.5,
        distortion=tuple(distortion),
    )
    names = sorted(poses, key=lambda n: ([(len(d), d) for d in re.findall(r"0*(\d+)", n)], n))
    return (
        camera,
        validate_w2c(torch.stack([poses[n] for n in names]), "poses of images.txt"),
        tuple(names),
    )


def upright_poses(trajectory: CameraTrajectory) -> Tensor:  # [T, 3, 4] float64
    """w2c in the axes of the stored (upright) picture."""
    return trajectory.camera.upright_poses(trajectory.w2c)


def _write(path: Path, lines: list[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _lines(path: Path) -> list[str]:
    size = require_file(path, "COLMAP file").stat().st_size
    if size > MAX_TEXT_BYTES:
        raise EgoXInputError(
            f"COLMAP file {path.name}",
            got=f"{size / 2**20:.0f} MB",
            expected=f"at most {MAX_TEXT_BYTES / 2**20:.0f} MB",
            fix="export the ego camera alone",
        )
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise EgoXInputError(
            f"COLMAP file {path.name}",
            got="no text (binary export?)",
            expected="COLMAP's text format",
            fix="export again with output type TXT",
        ) from error
    return [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
