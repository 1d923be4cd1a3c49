"""Lay out the files that a way begins with."""

import shutil
from pathlib import Path

import numpy as np

from egox_core.file_names import DEPTH, EXO, HANDS, META, TRUTH
from egox_core.safe_files import read_json, write_json
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.paths import ROOT
from tools.setup.base_dir import link_folder

AUTHORS_POSES = 9
SMALL_SPEC = SyntheticSpec(
    seed=4, frames=10, fps=20.0, exo_width=112, exo_height=64, ego_size=64, edge_samples=1
)
AUTHORS_KEYS = (
    "prompt",
    "camera_intrinsics",
    "camera_extrinsics",
    "ego_intrinsics",
    "ego_extrinsics",
)


def lay_out_sample(folder: Path) -> None:
    """Lay out the shipped takes, as a clone has them."""
    link_folder(ROOT / "sample", folder / "sample")
    link_folder(ROOT / "models", folder / "models")


def lay_out_authors_take(folder: Path) -> None:
    """Lay out a drawn take as the authors' own are, and the truth as if it had been generated.

    The videos hold a frame more than poses and depth, and meta.json states no lens beside K."""
    take_folder = folder / "takes" / "covid"
    write_take(make_take(SMALL_SPEC), take_folder)
    (take_folder / HANDS).unlink()
    (folder / "generated").mkdir()
    shutil.copy(take_folder / TRUTH, folder / "generated" / "covid.mp4")
    meta = {key: read_json(take_folder / META)[key] for key in AUTHORS_KEYS}
    meta["ego_extrinsics"] = meta["ego_extrinsics"][:AUTHORS_POSES]
    write_json(take_folder / META, meta)
    with np.load(take_folder / DEPTH) as arrays:
        depth = arrays["depth_m"][:AUTHORS_POSES]
    np.savez_compressed(take_folder / DEPTH, depth_m=depth)


def lay_out_tracked_take(folder: Path) -> None:
    """Lay out a take whose ego poses a tracker wrote, which ended a frame before the video."""
    lay_out_authors_take(folder)
    take_folder = folder / "takes" / "covid"
    meta = {key: value for key, value in read_json(take_folder / META).items() if "ego" not in key}
    write_json(take_folder / META, meta)
    times = (number / SMALL_SPEC.fps for number in range(AUTHORS_POSES))
    rows = [f"{time_s:.3f} 0 0 0.5 0 0 0 1\n" for time_s in times]
    (take_folder / "poses.tum").write_text("".join(rows), "utf-8")


def lay_out_own_files(folder: Path) -> None:
    """Lay out a user's own video, its depth and a path of the pose editor, as single files, and
    a list of takes as the authors' camera_params.json."""
    take_folder = folder / "drawn"
    write_take(make_take(SMALL_SPEC), take_folder)
    shutil.copy(take_folder / EXO, folder / "own.mp4")
    shutil.copy(take_folder / DEPTH, folder / "own_depth.npz")
    keyframe = {"frame": 0, "position": [0, 0, 0.5], "look_at": [0, 0.3, 2]}
    write_json(folder / "path.json", {"keyframes": [keyframe]})
    entry = {key: read_json(take_folder / META)[key] for key in AUTHORS_KEYS}
    others = [entry | {"path": f"videos/{name}.mp4"} for name in ("sit", "own")]
    write_json(folder / "camera_params.json", {"test_datasets": others})
    shutil.rmtree(take_folder)


STARTS = {
    "sample": lay_out_sample,
    "authors' take": lay_out_authors_take,
    "tracked take": lay_out_tracked_take,
    "own files": lay_out_own_files,
    "nothing": lambda folder: None,
}
