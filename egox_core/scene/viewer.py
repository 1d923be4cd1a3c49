"""Export scene and ego camera to files for 3-D viewers.

Units are metres, x right, y up, with the exo camera of frame 0 at the origin."""

import math
from dataclasses import replace
from io import BytesIO
from typing import IO

import numpy as np
import scipy
import torch
from torch import Tensor

from ..cameras import CameraModel, invert
from ..types import CameraTrajectory, PointCloud, PointSet

VERTEX: np.dtype = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)
FLIP = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
"""From x right, y down, z forward, and back."""
WIDEST_DEG = 120.0
"""Of a viewer, which has no fisheye."""


def viewer_ply(scene: PointCloud) -> BytesIO:
    """Write the scene at frame 0 as a PLY file."""
    points = scene.points(0)
    pose = scene.exo.at(0)
    viewer_xyz = (points.xyz.double() @ pose[:, :3].T + pose[:, 3]) * FLIP
    ply_buffer = BytesIO()
    write_ply(replace(points, xyz=viewer_xyz.float()), ply_buffer)
    return ply_buffer


def write_ply(points: PointSet, file: IO[bytes]) -> None:
    """Write positions and colours as a binary little-endian PLY file.

    Positions are in metres, in the scene's frame: x right, y down, z forward.
    """
    vertices = np.empty(len(points), dtype=VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = points.xyz[:, axis].numpy()
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = points.rgb[:, channel].numpy()
    header_lines = ["ply", "format binary_little_endian 1.0"]
    header_lines.append(f"element vertex {len(points)}")
    header_lines += [
        f"property {'float' if name in 'xyz' else 'uchar'} {name}" for name in VERTEX.names or ()
    ]
    file.write(("\n".join(header_lines) + "\nend_header\n").encode("ascii"))
    file.write(vertices.tobytes())


def viewer_camera(trajectory: CameraTrajectory) -> dict[str, object]:
    """Describe the upright ego camera of frame 0 as ComfyUI's LOAD3D_CAMERA, {} if unknown."""
    if trajectory.exo is None:
        return {}
    camera = trajectory.ego.camera.upright()
    pose = trajectory.exo.at(0)
    world_from_ego = invert(trajectory.ego.upright_w2c[0])
    position, rotation = (
        pose[:, :3] @ world_from_ego[:, 3] + pose[:, 3],
        pose[:, :3] @ world_from_ego[:, :3],
    )
    position = FLIP * position
    rotation = FLIP[:, None] * rotation * FLIP
    return {
        "position": _axis_values(position),
        "target": _axis_values(position - rotation[:, 2]),
        "quaternion": _axis_values(
            torch.from_numpy(
                scipy.spatial.transform.Rotation.from_matrix(rotation.numpy()).as_quat()
            )
        ),
        "zoom": 1,
        "cameraType": "perspective",
        "fov": viewer_fov_deg(camera),
        "aspect": camera.width / camera.height,
    }


def viewer_fov_deg(camera: CameraModel) -> float:
    """Compute the vertical field of view of an upright camera's picture without its distortion."""
    return min(WIDEST_DEG, math.degrees(2 * math.atan(camera.height / 2 / camera.fy)))


def _axis_values(values: Tensor) -> dict[str, float]:
    return dict(zip("xyzw", values.tolist(), strict=False))
