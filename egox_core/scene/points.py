"""Points of a scene: select, join, move to a device, write as a PLY file.

PLY is written binary and little endian, which MeshLab, Blender, CloudCompare and the host's preview
read."""

from typing import IO

import numpy as np
import torch
from torch import Tensor

from ..types import PointCloud, PointSet

FIELDS = ("xyz", "rgb", "steps", "edge", "stray", "depth_range", "instance", "coarse")
VERTEX: np.dtype = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)


def select(
    points: PointSet,
    keep: Tensor,  # [N] bool, or [M] int64 indices
) -> PointSet:
    """Some of the points."""
    return PointSet(**{name: getattr(points, name)[keep] for name in FIELDS})


def join(*sets: PointSet) -> PointSet:
    """All points in order; of the sets one at least."""
    full = [points for points in sets if len(points)] or sets[:1]
    if len(full) == 1:
        return full[0]
    return PointSet(**{name: torch.cat([getattr(each, name) for each in full]) for name in FIELDS})


def to_device(points: PointSet, device: torch.device) -> PointSet:
    """The points on a device; the same object where they are there already."""
    if points.xyz.device == device:
        return points
    return PointSet(**{name: getattr(points, name).to(device) for name in FIELDS})


def scene_points(scene: PointCloud, frame: int | None) -> PointSet:
    """The static points and, with a frame number, that frame's moving ones."""
    return scene.static if frame is None else join(scene.static, scene.moving[frame])


def write_ply(points: PointSet, file: IO[bytes]) -> None:
    """Write positions (metres, scene frame: x right, y down, z forward) and colours."""
    vertices = np.empty(len(points), dtype=VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = points.xyz[:, axis].numpy()
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = points.rgb[:, channel].numpy()
    lines = ["ply", "format binary_little_endian 1.0"]
    lines.append(f"element vertex {len(points)}")
    lines += [
        f"property {'float' if name in 'xyz' else 'uchar'} {name}" for name in VERTEX.names or ()
    ]
    file.write(("\n".join(lines) + "\nend_header\n").encode("ascii"))
    file.write(vertices.tobytes())
