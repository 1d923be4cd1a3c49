"""Test that commands which read depth by themselves make z of what maps say."""

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


def test_prepare_tells_which_number_is_no_depth(take_folders, tmp_path):
    shutil.copytree(take_folders[0], tmp_path / "takes")
    (take_folder,) = (tmp_path / "takes").iterdir()
    with np.load(take_folder / DEPTH) as arrays:
        depth_mm = np.round(1000 * arrays["depth_m"].astype(np.float64))
    depth_mm[:, :20, :20] = 65535
    np.savez(take_folder / DEPTH, depth_mm=depth_mm.astype(np.uint16))
    (record, *_), report = prepare_and_read(tmp_path / "takes", tmp_path / "set", SMALL_OPTIONS)
    with np.load(tmp_path / "set" / record.folder / DEPTH) as arrays:
        assert np.isnan(arrays["depth_m"][:, 0, 0]).all() and np.nanmax(arrays["depth_m"]) < 60
    (lines,) = report["notes"].values()
    assert any("depth.far_m: 65.5345 m (by 65535" in line for line in lines)


def test_rank_makes_z_of_rays(take_folders):
    depths = []
    for folder in take_folders:
        (take_folder,) = folder.iterdir()
        depths.append(ExoCandidate.of_take(take_folder, "a").depth.depth_m)
    assert float((depths[0] - depths[1]).abs().nan_to_num(0).max()) < 1e-3
