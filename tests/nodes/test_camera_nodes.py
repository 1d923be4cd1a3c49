"""Rank Exo Cameras and Fuse Scenes as the host calls them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.safe_files import write_json


@pytest.fixture(scope="module")
def takes(pack, comfy_host) -> Path:
    """Two takes before a wall 3 m ahead of the wearer: one camera beside the wearer, one turned
    away."""
    root = comfy_host.input / "exo_takes"
    count, depth = 5, np.full((5, 48, 80), 3.0, np.float16)
    ego = np.eye(3, 4)
    ego[:, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]  # upright along z, turned as Aria's sensor
    for name, sideways in (("near", 0.3), ("off", 4.5)):
        folder = root / name
        folder.mkdir(parents=True)
        exo = np.eye(3, 4)
        exo[0, 3] = -sideways
        meta = {
            "prompt": name,
            "camera_intrinsics": [[60, 0, 40], [0, 60, 24], [0, 0, 1]],
            "camera_extrinsics": exo.tolist(),
            "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
            "ego_extrinsics": [ego.tolist()] * (count + 1),
        }
        write_json(folder / "meta.json", meta)
        np.savez(folder / "depth.npz", depth_m=depth)
    return root


def test_ranking(takes):
    from egox_pack.nodes.exo_cameras import EgoXRankExoCameras

    names = "exo_takes/off\nexo_takes/near\n"
    best, coverage, report = EgoXRankExoCameras.execute(names).args
    assert best == "exo_takes/near" and 0.1 < coverage < 1
    assert report.splitlines()[0].startswith("1. exo_takes/near") and report.splitlines()[
        1
    ].startswith("2. ")
    assert "judged by depth" in report


def test_fusing(takes):
    from egox_pack.egox_core.scene.build import build_scene
    from egox_pack.egox_core.takes.depth_files import load_depth_file
    from egox_pack.egox_core.takes.meta import read_meta
    from egox_pack.nodes.scene import EgoXFuseScenes

    scenes = []
    for name in ("near", "off"):
        depth, _ = load_depth_file(
            takes / name / "depth.npz", read_meta(takes / name / "meta.json")
        )
        scenes.append(build_scene(torch.rand(5, 48, 80, 3), depth))
    fused = EgoXFuseScenes.execute(*scenes).args[0]
    assert len(fused.static) == sum(len(s.static) for s in scenes)
    # Points of both stand on the one wall of the shared world.
    assert torch.allclose(fused.static.xyz[:, 2], torch.tensor(3.0), atol=1e-4)
    assert fused.static.xyz[:, 0].max() - fused.static.xyz[:, 0].min() > 1.4 * (
        scenes[0].static.xyz[:, 0].max() - scenes[0].static.xyz[:, 0].min()
    )
