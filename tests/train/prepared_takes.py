"""Write small takes in several folder layouts."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from egox_core.cameras.gopro import undistorted_focal
from egox_core.cameras.model import CameraModel
from egox_core.safe_files import read_json, write_json
from egox_train.data.manifest import ClipRecord, read_manifest
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import PrepareOptions
from egox_train.options import TrainingSetOptions
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take

FRAMES = 5
SMALL_OPTIONS = PrepareOptions(frames=5, stride=5, exo_size=(64, 32), ego_size=32, device="cpu")
"""Prepare options for the takes that :func:`write_synthetic` writes."""
ALL_TRAIN = TrainingSetOptions(validation=0, test=0)
HALF_HELD_OUT = TrainingSetOptions(validation=0.5, test=0)
TAKE = "cmu_bike08_2"


def prepare_and_read(
    source: Path, out: Path, options: PrepareOptions = SMALL_OPTIONS, **set_options
) -> tuple[list[ClipRecord], dict]:
    """Run ``prepare`` and read the records and report that it writes."""
    prepare_outcome = prepare(source, out, options, replace(ALL_TRAIN, **set_options))
    return read_manifest(prepare_outcome.manifest), read_json(out / "report.json")


def reasons_by_item(report: dict) -> dict[str, str]:
    """Map each skipped item of a report to the reason why it was skipped."""
    return {item: row["why"] for row in report["skipped"] for item in row["what"]}


def write_synthetic(folder: Path, count: int, *, frames: int = FRAMES) -> Path:
    """Write synthetic takes of a few frames."""
    for seed in range(count):
        spec = SyntheticSpec(
            seed=seed,
            frames=frames,
            exo_width=64,
            exo_height=32,
            ego_size=32,
            texture="plain",
            clutter="calm",
            edge_samples=1,
        )
        write_take(make_take(spec), folder / f"synthetic_{seed:03d}")
    return folder


IN_CM = ("depth.unit=cm", "ego.unit=cm", "exo.unit=cm")
"""Facts of what :func:`write_in_cm` writes."""


def write_in_cm(take: Path, folder: Path, **fields) -> None:
    """Copy a take with its depth and poses in centimetres, which no file states."""
    shutil.copytree(take, folder, dirs_exist_ok=True)
    with np.load(take / "depth.npz") as arrays:
        others = {name: arrays[name] for name in arrays.files if name != "depth_m"}
        np.savez(folder / "depth.npz", depth=100 * arrays["depth_m"].astype(np.float32), **others)
    content = read_json(take / "meta.json")
    for key in ("camera_extrinsics", "ego_extrinsics"):
        poses = np.array(content[key])
        poses[..., 3] *= 100
        content[key] = poses.tolist()
    write_json(folder / "meta.json", content | fields)


def write_depth(root: Path, name: str, frames: int = 12, size: tuple[int, int] = (112, 64)) -> None:
    """Write depth maps of a slanted wall for one camera of a take."""
    root.mkdir(exist_ok=True)
    depth_maps = np.full((frames, size[1], size[0]), 2, np.float16) + np.linspace(
        0, 1, size[0], dtype=np.float16
    )
    np.savez_compressed(root / f"{name}.npz", depth_m=depth_maps)


def copy_raw(source: Path, target: Path, alter_annotation: Callable[[dict], None]) -> Path:
    """Copy a data set with changed annotations."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        copied_file = target / file.relative_to(source)
        copied_file.parent.mkdir(parents=True, exist_ok=True)
        if file.parent.name == "camera_pose":
            annotation_content = read_json(file)
            alter_annotation(annotation_content)
            write_json(copied_file, annotation_content)
        else:
            try:
                copied_file.symlink_to(file)
            except OSError:
                shutil.copyfile(file, copied_file)
    return target


RAW_FOCAL = 1766.0  # px of a GoPro's raw lens at 3840 px
DISTORTION = (0.036902, 0.057131, -0.057154, 0.018458)
LAMP_POINTS = [(x, y, 2.5) for x in (-0.4, 0.0, 0.5) for y in (-0.45, 0.0, 0.3)]
"""Lamps in front of every drawn exo camera, in metres in the camera's frame."""
EXO_POSE = [
    [1.0, 0, 0, 0.2],
    [0, 0, -1.0, 1.2],
    [0, 1.0, 0, 2.5],
]  # level, looks along the world's y; z is up
EGO_POSE = [
    [0, 0, -1.0, 1.6],
    [-1.0, 0, 0, 0],
    [0, 1.0, 0, 0.5],
]  # likewise, of a sensor that is turned


def raw_lens(size: tuple[int, int]) -> CameraModel:
    """Build the lens with which :func:`write_egoexo4d` renders its videos."""
    full_size = (3840, 2160) if size[0] > size[1] else (2160, 3840)
    camera = CameraModel(
        lens="opencv_fisheye",
        width=full_size[0],
        height=full_size[1],
        fx=RAW_FOCAL,
        fy=RAW_FOCAL,
        cx=full_size[0] / 2,
        cy=full_size[1] / 2,
        distortion=DISTORTION,
        max_angle_deg=95.0,
    )
    return camera.rescale(*size)


def write_egoexo4d(
    root: Path,
    name: str,
    *,
    frames: int,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    split: str = "train",
) -> Path:
    """Write a take in Ego-Exo4D's folder layout, whose videos show white discs."""
    video_folder = root / "takes" / name / "frame_aligned_videos/downscaled/448"
    video_folder.mkdir(parents=True)
    annotation: dict = {"metadata": {"take_name": name, "take_uid": f"uid-{name}"}}
    for camera, size in (cameras or {"cam01": (112, 64)}).items():
        lens, full_size = raw_lens(size), (3840, 2160) if size[0] > size[1] else (2160, 3840)
        uv, _ = lens.project(torch.tensor(LAMP_POINTS, dtype=torch.float64))
        write_lamps(video_folder / f"{camera}.mp4", size, uv.tolist(), frames, 30)
        focal = undistorted_focal(RAW_FOCAL, full_size, DISTORTION)
        annotation[camera] = {
            "camera_intrinsics": [
                [focal, 0, full_size[0] / 2],
                [0, focal, full_size[1] / 2],
                [0, 0, 1],
            ],
            "camera_extrinsics": EXO_POSE,
            "distortion_coeffs": list(DISTORTION),
        }
    annotation["aria01"] = {
        "camera_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
        "camera_extrinsics": {str(i): EGO_POSE for i in range(frames)},
    }
    write_lamps(video_folder / "aria01_214-1.mp4", (64, 64), [], frames, 30)
    pose_folder = root / "annotations" / "ego_pose" / split / "camera_pose"
    pose_folder.mkdir(parents=True, exist_ok=True)
    write_json(pose_folder / f"uid-{name}.json", annotation)
    return root


LENS_COLUMNS = (
    "cam_uid,graph_uid,tx_world_cam,ty_world_cam,tz_world_cam,qx_world_cam,qy_world_cam,"
    "qz_world_cam,qw_world_cam,image_width,image_height,intrinsics_type,"
    + ",".join(f"intrinsics_{i}" for i in range(8))
    + ",start_frame_idx,end_frame_idx,quality"
)


def write_lens_table(path: Path, *rows: str) -> Path:
    """Write Ego-Exo4D's table of lenses, gopro_calibs.csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((LENS_COLUMNS, *rows)) + "\n", "utf-8")
    return path


def _poses(content: dict) -> dict:
    return content["aria01"]["camera_extrinsics"]


DAMAGES: Mapping[str, Callable[[dict], None]] = {
    "list_for_wearer": lambda c: c.update(aria01=[1, 2]),
    "ragged_intrinsics": lambda c: c["aria01"].update(camera_intrinsics=[[150, 0], [0]]),
    "huge_number": lambda c: c["aria01"].update(camera_intrinsics=[[10**400]]),
    "far_frame": lambda c: _poses(c).update({"10000000000": EGO_POSE}),
    "several_poses_for_one": lambda c: _poses(c).update({"0": [EGO_POSE] * 2}),
    "short_distortion": lambda c: c["cam01"].update(distortion_coeffs=[0.1, 0.2]),
    "long_name": lambda c: c["metadata"].update(take_name="9" * 400),
}
"""Functions that damage an annotation, by the name of the damage."""


def write_damaged(root: Path) -> None:
    """Write one take for each kind of damaged annotation."""
    for name, damage in DAMAGES.items():
        write_egoexo4d(root, name, frames=5)
        file = root / "annotations" / "ego_pose" / "train" / "camera_pose" / f"uid-{name}.json"
        annotation_content = read_json(file)
        damage(annotation_content)
        write_json(file, annotation_content)


def write_lamps(
    file: Path, size: tuple[int, int], centres: Sequence[Sequence[float]], frames: int, fps: int
) -> None:
    """Write a still video of white discs on a grey background."""
    width, height = size
    v, u = np.mgrid[:height, :width].astype(np.float32)
    picture = np.full((height, width, 3), 70, np.uint8)
    for x, y in centres:
        picture[(u - x) ** 2 + (v - y) ** 2 <= (max(size) / 80) ** 2] = 255
    write_video(file, torch.from_numpy(picture).expand(frames, -1, -1, -1), fps, quality=8)
