"""Read the arrays beside the maps of a depth npz: K, poses, masks and a scale.

K is used, and poses whose key says w2c or c2w. A mask has to say what it means, unless it marks
what the maps mark themselves. All else is named."""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..archives import read_array
from ..arrays import as_tensor
from ..cameras import invert, validate_w2c
from ..depth import median_camera
from ..errors import EgoXInputError
from ..facts import StatedLens, Statement, unread_fields
from ..remarks import Remark
from .meta import fit_k_camera, own_camera

K_KEYS = ("intrinsics", "intrinsic", "camera_intrinsics", "cam_intrinsics", "K", "cam_K")
WORLD_TO_CAMERA = ("w2c", "world2cam", "world_to_cam", "cam_from_world")
CAMERA_TO_WORLD = ("c2w", "cam2world", "cam_to_world", "world_from_cam")
EXTRINSIC_KEYS = ("extrinsics", "extrinsic", "camera_extrinsics")
"""Poses from world to camera, as Depth Anything 3 and VGGT write them."""
POSE_KEYS = ("poses", "pose", "camera_poses")
VALID_KEYS = ("valid", "valid_mask", "mask_valid")
DYNAMIC_KEYS = ("dynamic", "dynamic_mask", "moving_mask")
MASK_KEYS = ("mask", "masks")
"""Masks of which the name doesn't say what they mark."""
MAX_BYTES = 2**24
"""Size of an array of K, poses or a scale: 49 hours of poses are more."""


class DepthArrays(NamedTuple):
    """Contents of the arrays beside a depth file's maps."""

    lens: StatedLens | None  # in px of the maps
    w2c: Tensor | None  # [T, 3, 4] or [1, 3, 4] float64, of a world that nobody knows
    # Keys of the masks of what is valid, of what moves, and of one of the two; empty without them.
    valid: str
    dynamic: str
    mask: str
    notes: tuple[Remark, ...]
    statements: tuple[Statement, ...] = ()  # of the maps' numbers


def read_depth_arrays(
    archive: zipfile.ZipFile,
    members: Mapping[str, str],  # key -> member, without the maps' own
    shape: tuple[int, int, int],  # [T, H, W] of the maps
    name: str,
) -> DepthArrays:
    """Read the arrays of an npz that describe its depth maps.

    Raises:
        EgoXInputError: no K, poses of another count.
    """
    count, height, width = shape
    valid_key, dynamic_key, mask_key = (
        next((key for key in keys if key in members), "")
        for keys in (VALID_KEYS, DYNAMIC_KEYS, MASK_KEYS)
    )
    notes = []
    used_keys = {valid_key, dynamic_key, mask_key}

    def read_camera_array(key: str) -> np.ndarray:
        used_keys.add(key)
        if archive.getinfo(members[key]).file_size > MAX_BYTES:
            raise EgoXInputError(
                f"{key} of {name}",
                got="an array as large as maps",
                expected="numbers of the camera",
                fix="rename it where it is something else",
            )
        return read_array(archive, key, f"{key} of {name}")

    lens = None
    key = next((key for key in K_KEYS if key in members), None)
    if key is not None:
        label = f"{key} of {name}"
        k = _intrinsics_in_px(read_camera_array(key), (width, height), label)
        median, lens_notes = median_camera(k, width, height, label)
        own = own_camera(median.intrinsics, (width, height), label)
        stated = fit_k_camera(own, (width, height), label, "file")
        by = f"K of {name}"
        lens = replace(stated, by=by, note=f"exo camera: {by}, {stated.lens.words}")
        notes += [*lens_notes, *map(Remark, filter(None, [stated.note]))]
    poses = {key: states_direction(key) for key in members if states_direction(key) is not None}
    w2c = None
    if poses:
        key, is_camera_to_world = next(iter(poses.items()))
        w2c = _poses_of_array(
            read_camera_array(key), count, f"{key} of {name}", inverse=bool(is_camera_to_world)
        )
        use_text = f"{name}: {key} is used as the motion of the exo camera"
        if key in EXTRINSIC_KEYS:
            use_text += ", world to camera by its name; else rename it to c2w"
        notes.append(Remark(use_text))
    for key in POSE_KEYS:
        if key in members:
            used_keys.add(key)
            advice = "rename it to w2c or c2w (as MegaSaM writes)"
            notes.append(
                Remark(f"{name}: {key} isn't used, since its direction is unknown; {advice}")
            )
    if "scale" in members:
        values = read_camera_array("scale").reshape(-1)
        value_text = (
            f" ({float(values[0]):.4g})" if values.size and values.dtype.kind in "fiu" else ""
        )
        notes.append(
            Remark(f"{name}: scale{value_text} isn't applied; the maps are taken to be in metres")
        )
    statements = []
    if "is_metric" in members and not bool(np.all(read_camera_array("is_metric"))):
        statements.append(Statement("depth.metric", "no", f"is_metric of {name}"))
    if {"pose_enc", "world_points"} <= members.keys():
        statements.append(Statement("depth.metric", "no", f"{name} of VGGT, whose scale is free"))
    if mask_key:
        notes.append(
            Remark(f"{name}: {mask_key} leaves out what the maps leave out, and isn't used")
        )
    unused_keys = sorted(members.keys() - used_keys)
    notes.extend(unread_fields(unused_keys, name))
    return DepthArrays(lens, w2c, valid_key, dynamic_key, mask_key, tuple(notes), tuple(statements))


def check_mask(
    mask: np.ndarray,  # [H, W], not 0: marked
    depth: np.ndarray,  # [H, W] as stored
    key: str,
    name: str,
) -> None:
    """Refuse a mask of unclear meaning that leaves out valid pixels of its map.

    Raises:
        EgoXInputError: a valid pixel that isn't marked.
    """
    if bool((np.isfinite(depth) & (depth > 0) & (mask == 0)).any()):
        raise EgoXInputError(
            f"{key} of {name}",
            got="a mask that may mean what is valid or what moves",
            expected="its meaning in its name, valid or dynamic",
            fix="rename it, in Python: a = dict(numpy.load('depth.npz')); "
            f"a['valid'] = a.pop('{key}'); numpy.savez_compressed('depth.npz', **a)",
        )


def states_direction(key: str) -> bool | None:
    """Check by a key's name if its poses are camera-to-world, or return None without a hint."""
    if key in EXTRINSIC_KEYS:
        return False
    lower_key = key.lower()
    for is_camera_to_world, names in ((False, WORLD_TO_CAMERA), (True, CAMERA_TO_WORLD)):
        if any(part in lower_key for part in names):
            return is_camera_to_world
    return None


def _intrinsics_in_px(
    values: np.ndarray, size: tuple[int, int], name: str
) -> Tensor:  # [N, 3, 3] float64
    """Convert K of depth maps to px, where it is in shares of the picture's size."""
    k = as_tensor(values.reshape(-1, *values.shape[-2:]).copy(), name, None, 3, 3).double()
    if float(k[:, :2, 2].median()) <= 1:
        k = k * torch.tensor([[size[0]], [size[1]], [1.0]], dtype=torch.float64)
    return k


def _poses_of_array(
    values: np.ndarray, count: int, name: str, *, inverse: bool
) -> Tensor:  # [T or 1, 3, 4]
    poses = validate_w2c(values.reshape(-1, *values.shape[-2:]).copy(), name)
    if len(poses) not in (1, count):
        raise EgoXInputError(
            name,
            got=f"{len(poses)} poses for {count} maps",
            expected="one per map",
            fix="save the poses of these very maps",
        )
    return invert(poses) if inverse else poses
