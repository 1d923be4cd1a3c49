"""Points of a scene as a PLY file, binary and little endian, which MeshLab, Blender, CloudCompare and
the host's preview read."""

from typing import IO

import numpy as np

from ..types import PointSet

VERTEX: np.dtype = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)


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
