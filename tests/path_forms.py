"""Write camera paths in ten file formats for tests."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Poses:
    """Camera path with one pose per video frame and a pinhole lens."""

    w2c: np.ndarray  # [N, 3, 4] OpenCV axes, of the upright picture
    intrinsics: np.ndarray  # [3, 3], pixel centres at integers
    size: tuple[int, int]
    fps: float
    exo_w2c: np.ndarray | None = None  # [N, 3, 4]; the exo part of a file that has both

    @property
    def c2w(self) -> np.ndarray:  # [N, 4, 4]
        square_w2c = np.zeros((len(self.w2c), 4, 4))
        square_w2c[:, :3], square_w2c[:, 3, 3] = self.w2c, 1
        return np.linalg.inv(square_w2c)

    @property
    def quaternions(self) -> np.ndarray:  # [N, 4] x y z w of w2c
        return Rotation.from_matrix(self.w2c[:, :, :3]).as_quat()

    @property
    def opengl_c2w(self) -> np.ndarray:  # [N, 4, 4] c2w, both frames turned
        axes_flip = np.diag([1.0, -1.0, -1.0, 1.0])
        return axes_flip @ self.c2w @ axes_flip


def _colmap_text(folder: Path, path: Poses) -> Path:
    (fx, _, cx), (_, fy, cy), _ = path.intrinsics.tolist()
    camera_line = (
        f"1 PINHOLE {path.size[0]} {path.size[1]} {fx!r} {fy!r} {cx + 0.5!r} {cy + 0.5!r}\n"
    )
    (folder / "cameras.txt").write_text(camera_line, "utf-8")
    lines = [
        (
            f"{i + 1} {w!r} {x!r} {y!r} {z!r} {' '.join(map(repr, translation))} 1 "
            f"frame_{i:06d}.png\n\n"
        )
        for i, ((x, y, z, w), translation) in enumerate(
            zip(path.quaternions.tolist(), path.w2c[:, :, 3].tolist(), strict=True)
        )
    ]
    (folder / "images.txt").write_text("".join(lines), "utf-8")
    return folder / "images.txt"


def _colmap_binary(folder: Path, path: Poses) -> Path:
    intrinsics, pinhole_model_id = path.intrinsics, 1
    lens_values = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2] + 0.5, intrinsics[1, 2] + 0.5
    content = struct.pack("<QIiQQ4d", 1, 1, pinhole_model_id, *path.size, *lens_values)
    (folder / "cameras.bin").write_bytes(content)
    content = struct.pack("<Q", len(path.w2c))
    for i, ((x, y, z, w), t) in enumerate(zip(path.quaternions, path.w2c[:, :, 3], strict=True)):
        content += struct.pack("<I7dI", i + 1, w, x, y, z, *t, 1)
        content += f"frame_{i:06d}.png".encode() + b"\0"
        content += struct.pack("<Q", 1) + struct.pack("<ddq", 3.5, 4.5, -1)
    (folder / "images.bin").write_bytes(content)
    return folder / "images.bin"


def _blender(folder: Path, path: Poses) -> Path:
    frame_entries = [
        {"file_path": f"images/frame_{i:06d}.png", "transform_matrix": matrix.tolist()}
        for i, matrix in enumerate(path.opengl_c2w)
    ]
    (fx, _, cx), (_, fy, cy), _ = path.intrinsics.tolist()
    lens_fields = {"fl_x": fx, "fl_y": fy, "cx": cx + 0.5, "cy": cy + 0.5}
    size_fields = {"w": path.size[0], "h": path.size[1]}
    return _write_json(
        folder / "transforms.json", lens_fields | size_fields | {"frames": frame_entries}
    )


def _tum(folder: Path, path: Poses) -> Path:
    c2w = path.c2w[:, :3]
    quaternions = Rotation.from_matrix(c2w[:, :, :3]).as_quat()
    np.savetxt(
        folder / "path.txt", np.c_[np.arange(len(c2w)) / path.fps, c2w[:, :, 3], quaternions]
    )
    return folder / "path.txt"


def _chan(folder: Path, path: Poses) -> Path:
    c2w = path.opengl_c2w[:, :3]
    y, x, z = Rotation.from_matrix(c2w[:, :, :3]).as_euler("YXZ", degrees=True).T
    np.savetxt(folder / "path.chan", np.c_[np.arange(len(c2w)), c2w[:, :, 3], x, y, z])
    return folder / "path.chan"


def _vipe(folder: Path, path: Poses) -> Path:
    for name in ("pose", "intrinsics"):
        (folder / name).mkdir(exist_ok=True)
    frame_numbers = np.arange(len(path.w2c))
    np.savez(folder / "pose" / "clip.npz", data=path.c2w, inds=frame_numbers)
    lens_values = np.array(
        [
            [
                path.intrinsics[0, 0],
                path.intrinsics[1, 1],
                path.intrinsics[0, 2],
                path.intrinsics[1, 2],
            ]
        ]
    )
    np.savez(
        folder / "intrinsics" / "clip.npz",
        data=lens_values.repeat(len(frame_numbers), 0),
        inds=frame_numbers,
    )
    return folder / "pose" / "clip.npz"


def _gvhmr(folder: Path, path: Poses) -> Path:
    np.savez(folder / "path.npz", R_w2c=path.w2c[:, :, :3], t_w2c=path.w2c[:, :, 3])
    return folder / "path.npz"


def _omnicam(folder: Path, path: Poses) -> Path:
    """Write a camera path as OmniCam's scene.json."""
    keyframes = []
    for frame, pose in enumerate(path.c2w):
        right_direction, forward_direction, position = pose[:3, 0], pose[:3, 2], pose[:3, 3]
        level_right = np.cross(forward_direction, [0, 1, 0]) / np.linalg.norm(
            np.cross(forward_direction, [0, 1, 0])
        )
        roll_deg = np.degrees(
            np.arctan2(
                right_direction @ np.cross(level_right, forward_direction),
                right_direction @ level_right,
            )
        )
        camera = {
            "position": position.tolist(),
            "target": (position + forward_direction).tolist(),
            "roll": roll_deg,
        }
        keyframes.append({"frame": frame, "camera": camera})
    camera_track = {"duration_frames": len(keyframes), "keyframes": keyframes}
    camera_entries = [{"id": "a", "track": camera_track}]
    return _write_json(
        folder / "scene.json", {"timeline": {}, "cameras": camera_entries, "active_camera_id": "a"}
    )


def _meta(folder: Path, path: Poses) -> Path:
    meta_content = {"ego_extrinsics": path.w2c.tolist(), "ego_intrinsics": path.intrinsics.tolist()}
    if path.exo_w2c is not None:
        meta_content["camera_extrinsics"] = path.exo_w2c.tolist()
    return _write_json(folder / "meta.json", meta_content)


def _egox_trajectory(folder: Path, path: Poses) -> Path:
    (fx, _, cx), (_, fy, cy), _ = path.intrinsics.tolist()
    camera_fields = dict(
        lens="pinhole", width=path.size[0], height=path.size[1], fx=fx, fy=fy, cx=cx
    )
    trajectory_content = {
        "format": "egox_trajectory",
        "version": 1,
        "camera": camera_fields | {"cy": cy},
        "times_s": (np.arange(len(path.w2c)) / path.fps).tolist(),
        "w2c": path.w2c.tolist(),
    }
    if path.exo_w2c is not None:
        trajectory_content["exo_w2c"] = path.exo_w2c.tolist()
    return _write_json(folder / "trajectory.json", trajectory_content)


def _write_json(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), "utf-8")
    return file


FORMS: Mapping[str, Callable[[Path, Poses], Path]] = {
    "colmap text": _colmap_text,
    "colmap binary": _colmap_binary,
    "transforms": _blender,
    "tum": _tum,
    "chan": _chan,
    "vipe": _vipe,
    "gvhmr": _gvhmr,
    "omnicam": _omnicam,
    "meta": _meta,
    "ours": _egox_trajectory,
}
"""Functions that write a path into a folder and return the file to open."""
FORMS_WITH_BOTH_CAMERAS = ("meta", "ours")
"""Formats that contain the ego and the exo camera in one world."""
