"""Points as a PLY file (binary, little endian): what MeshLab, Blender, CloudCompare and the host's preview read."""

from __future__ import annotations

from typing import IO

import numpy as np

from .types import PointSet

VERTEX = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])


def write_ply(points: PointSet, file: IO[bytes], *, y_up: bool = False) -> None:
    """Write positions (metres, scene frame: x right, y down, z forward) and colours.

    ``y_up`` turns them half around x (y up, z backward), the way 3D viewers stand.
    """
    vertices = np.empty(len(points), dtype=VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        sign = -1 if y_up and axis else 1
        vertices[name] = sign * points.xyz[:, axis].numpy()
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = points.rgb[:, channel].numpy()
    lines = ["ply", "format binary_little_endian 1.0"]
    lines.append(f"element vertex {len(points)}")
    lines += [f"property {'float' if name in 'xyz' else 'uchar'} {name}" for name in VERTEX.names]
    file.write(("\n".join(lines) + "\nend_header\n").encode("ascii"))
    file.write(vertices.tobytes())


def read_ply(file: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`write_ply` wrote: (xyz [N, 3] float32, rgb [N, 3] uint8)."""
    count = 0
    for line in iter(file.readline, b"end_header\n"):
        if line.startswith(b"element vertex"):
            count = int(line.split()[-1])
        if not line:
            raise ValueError("not a PLY file of this pack: no end_header")
    vertices = np.frombuffer(file.read(count * VERTEX.itemsize), dtype=VERTEX)
    return (np.stack([vertices[n] for n in ("x", "y", "z")], axis=-1),
            np.stack([vertices[n] for n in ("red", "green", "blue")], axis=-1))

