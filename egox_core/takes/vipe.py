"""Read exo camera and poses in the form that ViPE writes: ``intrinsics/NAME.npz`` and
``pose/NAME.npz`` beside ``depth/NAME.zip``.

Both hold ``data`` (fx, fy, cx, cy a frame; camera-to-world 4x4 a frame) and ``inds``, the frame
numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..archives import open_zip, read_array
from ..cameras import CameraPath, invert, validate_w2c
from ..errors import EgoXInputError
from ..safe_files import require_file
from ..types import TakeMeta

STILL_M, STILL_RAD = 0.01, 0.002
"""Metres and radians: a camera that moves less over the clip stood still, as EgoX expects; SLAM
jitters by as much."""
MAX_ARRAY_BYTES = 64 * 2**20
MAX_KINDS_BYTES = 2**22


def read_vipe(path: Path) -> TakeMeta:
    """Read ViPE's exo camera from ``intrinsics/NAME.npz``, with its poses if ``pose/NAME.npz``
    exists.

    A pinhole camera is assumed, as in the runs that EgoX is used with. Intrinsics are averaged
    over the clip. The world is ViPE's, and a camera that stood still gets one pose.

    Raises:
        EgoXInputError: missing, malformed, frame numbers with gaps.
    """
    kinds_path = path.with_name(f"{path.stem}_camera.txt")
    if kinds_path.is_file() and kinds_path.resolve().parent == kinds_path.parent.resolve():
        require_file(kinds_path, "ViPE file", MAX_KINDS_BYTES)
        lens_kinds = {
            line.split()[-1].upper() for line in kinds_path.read_text("utf-8").splitlines() if line
        }
        _check_lens(path, lens_kinds - {"PINHOLE"})
    intrinsics = _read_data(path, (4,))
    fx, fy, cx, cy = intrinsics.mean(0).tolist()
    pose_path = path.parent.parent / "pose" / path.name
    # A link to somewhere else is not followed: the intrinsics' place was allowed, its target's was
    # not.
    extrinsics = (
        reduce_static_poses(read_poses(pose_path))
        if pose_path.is_file() and pose_path.resolve().parent == pose_path.parent.resolve()
        else None
    )
    return TakeMeta(
        name=path.stem,
        exo=replace(CameraPath.of_exo(None, extrinsics).numbered, gravity=False),
        camera_intrinsics=torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64),
    )


def _check_lens(path: Path, other_kinds: set[str]) -> None:
    """Refuse ViPE lenses other than pinholes."""
    if other_kinds:
        raise EgoXInputError(
            f"ViPE file {path.name}",
            got=f"a lens of kind {', '.join(sorted(other_kinds))}",
            expected="PINHOLE",
            fix="run ViPE with its pinhole camera, or on the undistorted video",
        )


def read_poses(path: Path) -> Tensor:  # [T, 3, 4]
    """Read the w2c poses of a ViPE file ``pose/NAME.npz``."""
    return invert(validate_w2c(_read_data(path, (4, 4)), f"poses of {path.name}"))


def reduce_static_poses(w2c: Tensor) -> Tensor:  # [T, 3, 4]
    """Reduce the poses of a camera that didn't move to one pose [3, 4], and return other poses
    unchanged."""
    c2w = invert(w2c)
    travel = (c2w[..., 3] - c2w[:1, :, 3]).norm(dim=-1).max()
    cosine = ((c2w[:, :, :3] * c2w[:1, :, :3]).sum((-1, -2)) - 1) / 2
    turn_rad = torch.arccos(cosine.clamp(-1, 1)).max()
    return w2c[0] if float(travel) < STILL_M and float(turn_rad) < STILL_RAD else w2c


def _read_data(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read the array ``data`` [T, *shape] of a ViPE file as float64, sorted by frame number."""
    with open_zip(path, "ViPE file", MAX_ARRAY_BYTES) as archive:
        arrays = {}
        for key in ("data", "inds"):
            if f"{key}.npy" not in archive.namelist():
                raise EgoXInputError(
                    f"ViPE file {path.name}",
                    got=f"arrays {archive.namelist()}",
                    expected="data and inds",
                    fix="give the npz that ViPE wrote",
                )
            arrays[key] = read_array(archive, key, f"ViPE file {path.name}")
    data, numbers = arrays["data"], arrays["inds"]
    if shape == (4,) and data.shape[1:] == (5,):
        _check_lens(path, {"MEI"})
    if (
        data.shape[1:] != shape
        or numbers.shape != data.shape[:1]
        or len(data) == 0
        or data.dtype.kind != "f"
        or numbers.dtype.kind not in "iu"
    ):
        raise EgoXInputError(
            f"ViPE file {path.name}",
            got=f"{data.dtype} of shape {data.shape}",
            expected=f"shape (T, {', '.join(map(str, shape))})",
            fix="give the npz that ViPE wrote",
        )
    order = np.argsort(numbers)
    if (numbers[order] != np.arange(len(order))).any():
        raise EgoXInputError(
            f"ViPE file {path.name}",
            got="frame numbers with gaps, or that don't start at 0",
            expected="every frame",
            fix="run ViPE on all frames of the clip",
        )
    return torch.from_numpy(data[order].astype(np.float64))
