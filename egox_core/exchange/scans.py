"""Read the camera paths that scans of a phone carry: Record3D's metadata, Polycam's cameras, and
bare matrices as of ARKit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy
import torch

from ..arrays import as_matrix
from ..cameras import CameraModel, by_rows
from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..facts import StatedPoses
from ..safe_files import read_json, visible_files

POLYCAM_KEY = "t_00"
MOST_FILES = 20_000


def poses_of_matrices(values: object, name: str) -> StatedPoses:
    """Read bare matrices [N, 4, 4] or [N, 3, 4], or their 16 or 12 numbers each.

    Nothing says their direction and axes. Columns that were written one after the other, as ARKit's
    are, are told by where the row (0, 0, 0, 1) stands.

    Raises:
        EgoXInputError: another shape, as :func:`.cameras.by_rows`.
    """
    expected = "matrices (N, 4, 4) or (N, 3, 4), or 16 or 12 numbers each"
    writable = values.copy() if isinstance(values, np.ndarray) else values
    matrices = as_matrix(writable, f"path {name}", expected)
    numbers = matrices.reshape(len(matrices), -1) if matrices.ndim > 1 else matrices[None]
    if numbers.shape[1] not in (12, 16):
        raise EgoXInputError(
            f"path {name}",
            got=f"an array of shape {tuple(matrices.shape)}",
            expected=expected,
            fix="save poses, one for each frame",
        )
    poses = numbers.reshape(len(numbers), -1, 4)
    if numbers.shape[1] == 16:
        poses = by_rows(poses, f"path {name}")
    return StatedPoses(name=name, poses=poses, camera_to_world=None, axes=None)


def read_record3d(content: Mapping, name: str) -> StatedPoses:
    """Read Record3D's metadata: its poses, its camera, and the times of its frames.

    Raises:
        EgoXInputError: no list of 7 numbers each; by the camera's reader: no K.
    """
    with intact(f"camera path {name}", NO_NUMBERS, expected="poses of qx, qy, qz, qw, x, y, z"):
        rows = np.array(content["poses"], dtype=float).reshape(-1, 7)
        rotations = scipy.spatial.transform.Rotation.from_quat(rows[:, :4]).as_matrix()
        times = np.array(content.get("frameTimestamps") or [], dtype=float)

    def lens() -> CameraModel:
        with intact(f"K of {name}", (*NO_NUMBERS, KeyError), expected="9 numbers, w and h"):
            columns = np.array(content["K"], dtype=float).reshape(3, 3)
            # Column by column, as Record3D writes it, unless a program has rewritten it.
            intrinsics = columns.T if columns[2, :2].any() else columns
            return CameraModel.from_intrinsics(intrinsics, int(content["w"]), int(content["h"]))

    has_times = times.shape == (len(rows),) and len(rows) > 1
    return StatedPoses(
        name=name,
        poses=torch.from_numpy(np.concatenate((rotations, rows[:, 4:, None]), 2)),
        camera_to_world=True,
        axes="opengl",
        moments={"times_s": torch.from_numpy(times)} if has_times else {},
        read_lens=lens,
    )


def read_polycam(content: Mapping, name: str, folder: Path | None = None) -> StatedPoses:
    """Read the cameras of a Polycam scan: one JSON for each picture, named by its time.

    Raises:
        EgoXInputError: one file without its folder, a file without a pose.
    """
    files = [] if folder is None else visible_files(folder, "*.json")[:MOST_FILES]
    cameras: list[tuple[str, Mapping]] = [(Path(name).stem, content)]
    if len(files) > 1:
        cameras = [(file.stem, _camera_content(file)) for file in files]
    numbered = sorted(
        ((float(stem), camera) for stem, camera in cameras if stem.isdigit()),
        key=lambda pair: pair[0],
    )
    if len(numbered) < 2:
        raise EgoXInputError(
            f"camera path {name}",
            got="one camera of a Polycam scan",
            expected="the folder keyframes/corrected_cameras, of which this is one file",
            fix="give the file in that folder",
        )
    with intact(f"camera path {name}", (*NO_NUMBERS, KeyError), expected="t_00 to t_23"):
        matrices = [
            [[float(camera[f"t_{row}{column}"]) for column in range(4)] for row in range(3)]
            for _, camera in numbered
        ]

    def lens() -> CameraModel:
        label = f"camera of {name}"
        with intact(label, (*NO_NUMBERS, KeyError), expected="fx, fy, cx, cy, width, height"):
            fields = ("fx", "fy", "cx", "cy", "width", "height")
            rows = [[float(camera[field]) for field in fields] for _, camera in numbered]
            fx, fy, cx, cy, width, height = np.median(rows, 0).tolist()
            return CameraModel(
                lens="pinhole", width=int(width), height=int(height), fx=fx, fy=fy, cx=cx, cy=cy
            )

    times = torch.tensor([time for time, _ in numbered], dtype=torch.float64)
    return StatedPoses(
        name=name,
        poses=torch.tensor(matrices, dtype=torch.float64),
        camera_to_world=True,
        axes="opengl",
        moments={"times_s": times},
        read_lens=lens,
    )


def holds_matrices(content: object) -> bool:
    """Check whether JSON content is a list of matrices, not of keyframes."""
    return isinstance(content, Sequence) and bool(content) and isinstance(content[0], list)


def _camera_content(file: Path) -> Mapping:
    content = read_json(file, "camera of a Polycam scan")
    return content if isinstance(content, Mapping) else {}
