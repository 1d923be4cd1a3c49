"""Test that commands which read depth by themselves make z of maps along rays."""

import shutil

import numpy as np
import pytest

from egox_core.file_names import DEPTH, META
from egox_core.prior import ExoCandidate
from egox_core.safe_files import read_json, write_json
from egox_core.take import load_take
from tests.train.prepared_takes import SMALL_OPTIONS, prepare_and_read, write_synthetic


@pytest.fixture(scope="module")
def take_folders(tmp_path_factory):
    """Write a take with z, and the same one with distances along rays, which its meta.json says."""
    folder = tmp_path_factory.mktemp("takes")
    write_synthetic(folder / "z", 1)
    shutil.copytree(folder / "z", folder / "rays")
    (take_folder,) = (folder / "rays").iterdir()
    lens = load_take(take_folder, frame_count=None).depth.exo.camera
    with np.load(take_folder / DEPTH) as arrays:
        values = dict(arrays)
    height, width = values["depth_m"].shape[1:]
    rays = values["depth_m"] * lens.rescale(width, height).ray_lengths().numpy()
    np.savez(take_folder / DEPTH, **values | {"depth_m": rays.astype(np.float32)})
    content = read_json(take_folder / META) | {"declared": {"depth.kind": "ray"}}
    write_json(take_folder / META, content)
    return folder / "z", folder / "rays"


def test_prepare_makes_z_of_rays(take_folders, tmp_path):
    maps = []
    for folder in take_folders:
        records, _ = prepare_and_read(folder, tmp_path / folder.name, SMALL_OPTIONS)
        with np.load(tmp_path / folder.name / records[0].folder / DEPTH) as arrays:
            maps.append(arrays["depth_m"].astype(np.float32))
    step_m = np.spacing(maps[0].astype(np.float16)).astype(np.float32)  # kept as half floats
    assert np.nanmax(np.abs(maps[0] - maps[1]) - step_m) < 1e-3


def test_rank_makes_z_of_rays(take_folders):
    depths = []
    for folder in take_folders:
        (take_folder,) = folder.iterdir()
        depths.append(ExoCandidate.of_take(take_folder, "a").depth.depth_m)
    assert float((depths[0] - depths[1]).abs().nan_to_num(0).max()) < 1e-3
