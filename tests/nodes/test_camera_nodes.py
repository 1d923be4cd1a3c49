"""Rank Exo Cameras, Fuse Scenes, Undistort Exo and Save Trajectory as the host calls them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def takes(pack: ModuleType, comfy_host) -> Path:
    """Two takes before a wall 3 m ahead of the wearer: one camera beside the wearer, one turned away."""
    root = comfy_host.input / "exo_takes"
    count, depth = 5, np.full((5, 48, 80), 3.0, np.float16)
    ego = np.eye(3, 4)
    ego[:, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]  # upright along z, turned as Aria's sensor
    for name, sideways in (("near", 0.3), ("off", 4.5)):
        folder = root / name
        folder.mkdir(parents=True)
        exo = np.eye(3, 4)
        exo[0, 3] = -sideways
        meta = {"prompt": name, "camera_intrinsics": [[60, 0, 40], [0, 60, 24], [0, 0, 1]],
                "camera_extrinsics": exo.tolist(), "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
                "ego_extrinsics": [ego.tolist()] * (count + 1)}
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        np.savez(folder / "depth.npz", depth_m=depth)
    return root


@pytest.mark.parametrize("use_depth", [True, False])
def test_ranking(pack: ModuleType, takes: Path, use_depth: bool) -> None:
    from egox_pack.nodes.exo_cameras import EgoXRankExoCameras

    names = "exo_takes/off\nexo_takes/near\n"
    best, coverage, report = EgoXRankExoCameras.execute(names, use_depth, 2, "as given").args
    assert best == "exo_takes/near" and 0.1 < coverage < 1
    assert report.splitlines()[0].startswith("1. exo_takes/near") and report.splitlines()[1].startswith("2. ")
    assert f"judged by {'depth' if use_depth else 'poses'}" in report


def test_ranking_refuses(pack: ModuleType, takes: Path) -> None:
    from egox_pack.egox_core.errors import EgoXInputError
    from egox_pack.nodes.exo_cameras import EgoXRankExoCameras

    for text, message in (("", "no folder"), ("exo_takes/none", "not there"), ("../exo_takes", "leads out")):
        with pytest.raises(EgoXInputError, match=message):
            EgoXRankExoCameras.execute(text, True, 2, "as given")
    with pytest.raises(EgoXInputError, match="Ego-Exo4D"):  # this K is no GoPro's
        EgoXRankExoCameras.execute("exo_takes/near", True, 2, "raw")


def test_fusing(pack: ModuleType, takes: Path) -> None:
    from egox_pack.egox_core.scene.build import build_scene
    from egox_pack.egox_core.takes.depth_files import load_depth_file
    from egox_pack.egox_core.takes.meta import read_meta
    from egox_pack.nodes.scene import EgoXFuseScenes

    scenes = []
    for name in ("near", "off"):
        depth, _ = load_depth_file(takes / name / "depth.npz", read_meta(takes / name / "meta.json"))
        scenes.append(build_scene(torch.rand(5, 48, 80, 3), depth))
    fused = EgoXFuseScenes.execute(*scenes).args[0]
    assert len(fused.static) == sum(len(s.static) for s in scenes)
    # Points of both stand on the one wall of the shared world.
    assert torch.allclose(fused.static.xyz[:, 2], torch.tensor(3.0), atol=1e-4)
    assert fused.static.xyz[:, 0].max() - fused.static.xyz[:, 0].min() > 1.4 * (
        scenes[0].static.xyz[:, 0].max() - scenes[0].static.xyz[:, 0].min())


def test_undistorting(pack: ModuleType) -> None:
    from egox_pack.egox_core.cameras.model import calibrated_fisheye, camera_from_json
    from egox_pack.egox_core.errors import EgoXInputError
    from egox_pack.nodes.exo_cameras import EgoXUndistortExo

    calibration = (800.0, 0.0, 480.0, 262.0, 960, 0.02, 0.01, 0.0, 0.0)
    frames, seen, camera = EgoXUndistortExo.execute(torch.rand(2, 68, 120, 3), *calibration, "inside").args
    assert frames.shape == (2, 68, 120, 3) and seen.shape == (2, 68, 120) and bool(seen.all())
    assert camera_from_json(json.loads(camera)).lens == "pinhole"
    eighth = calibrated_fisheye((120, 68), (800.0, 800.0), (480.0, 262.0), 960, (0, 0, 0, 0))
    assert eighth.fx == 100 and eighth.cx == pytest.approx(480.5 / 8 - 0.5)
    middle = calibrated_fisheye((120, 68), (100.0, 100.0), (-1.0, -1.0), 120, (0, 0, 0, 0))
    assert (middle.cx, middle.cy) == (59.5, 33.5)
    with pytest.raises(EgoXInputError, match="principal point"):
        calibrated_fisheye((120, 68), (100.0, 100.0), (480.0, 262.0), 120, (0, 0, 0, 0))


def test_saving_and_reading_again(pack: ModuleType, takes: Path, comfy_host) -> None:
    from egox_pack.egox_core.takes.colmap import read_colmap
    from egox_pack.nodes.ego_pose import BLENDER, COLMAP, OWN, EgoXEgoPoseInput, EgoXSaveTrajectory

    def pose(file: str):
        return EgoXEgoPoseInput.execute("file", file, "", "auto", 48, 0.0, *[0.0] * 6, "[]", "pinhole", 24.0, 20.0,
                                        20.0).args[0]

    path = pose("exo_takes/near/meta.json")
    first = EgoXSaveTrajectory.execute(path, "egox/path", OWN).args[0]
    second = EgoXSaveTrajectory.execute(path, "egox/path", OWN).args[0]
    assert first != second and first.startswith("egox/path_") and (comfy_host.output / first).is_file()
    again = pose(f"{first} [output]")
    assert torch.equal(again.w2c, path.w2c) and again.camera == path.camera and again.prompt == "near"
    folder = EgoXSaveTrajectory.execute(path, "egox/path", COLMAP).args[0]
    assert read_colmap(comfy_host.output / folder)[1].shape == (6, 3, 4)
    transforms = EgoXSaveTrajectory.execute(path, "egox/path", BLENDER).args[0]
    assert len(json.loads((comfy_host.output / transforms).read_text(encoding="utf-8"))["frames"]) == 6
    with pytest.raises(Exception, match="(?i)outside|invalid|not allowed|save"):
        EgoXSaveTrajectory.execute(replace(path), "../../outside", OWN)
