"""Exo paths of other programs, in files written by their public forms."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import compose, invert
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.colmap import write_colmap
from egox_core.exchange.exo_paths import ExoPath, write_chan
from egox_core.types import CameraTrajectory
from tests.poses import path_of
from tests.refusals import refuses

N = 12
TURNS = Rotation.from_rotvec(np.linspace([0.1, -0.2, 0.05], [0.3, 0.4, -0.2], N))  # c2w, OpenCV
PLACES = np.linspace([0.0, 1.0, -2.0], [0.5, 1.2, 1.0], N)


def w2c() -> torch.Tensor:  # [N, 3, 4]
    return invert(torch.from_numpy(np.concatenate([TURNS.as_matrix(), PLACES[..., None]], 2)))


def trajectory() -> CameraTrajectory:
    return path_of(w2c(), preset_camera("pinhole", 64))


def matrices() -> np.ndarray:  # [N, 4, 4]
    return np.stack([np.linalg.inv([*pose, (0, 0, 0, 1)]) for pose in w2c().numpy()])


def nuke() -> np.ndarray:
    """Turned about z, then x, then y, looking along -z."""
    y, x, z = (TURNS * Rotation.from_euler("x", 180, degrees=True)).as_euler("YXZ", degrees=True).T
    return np.c_[np.arange(N), PLACES, x, y, z]


def omnicam() -> str:
    """Right-handed with y up: right = forward x up, turned towards up by the roll."""
    keys = []
    for turn, place in zip(TURNS.as_matrix(), PLACES, strict=True):
        right, forward = turn[:, 0], turn[:, 2]
        level = np.cross(forward, [0, 1, 0]) / np.linalg.norm(np.cross(forward, [0, 1, 0]))
        roll = np.degrees(np.arctan2(right @ np.cross(level, forward), right @ level))
        camera = {"position": place.tolist(), "target": (place + forward).tolist(), "roll": roll}
        keys.append({"frame": len(keys), "camera": camera})
    track = {"duration_frames": N, "keyframes": keys}
    scene = {"timeline": {}, "cameras": [{"id": "a", "track": track}], "active_camera_id": "a"}
    return json.dumps(scene)


FORMS = {
    "images.txt": lambda file: write_colmap(file.parent, trajectory()),
    "tum.txt": lambda file: np.savetxt(file, np.c_[np.arange(N), PLACES, TURNS.as_quat()]),
    "vipe.npz": lambda file: np.savez(file, data=matrices(), inds=np.arange(N)),
    "gvhmr.npz": lambda file: np.savez(file, R_w2c=w2c()[..., :3], t_w2c=w2c()[..., 3]),
    "meta.json": lambda file: file.write_text(json.dumps({"camera_extrinsics": w2c().tolist()})),
    "ours.chan": lambda file: write_chan(file, trajectory()),
    "nuke.chan": lambda file: np.savetxt(file, nuke()),
    "omnicam.json": lambda file: file.write_text(omnicam()),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_path_is_read(name, tmp_path):
    FORMS[name](tmp_path / name)
    path = ExoPath.read(tmp_path / name)
    assert path.metric == (name in ("vipe.npz", "meta.json"))
    relative = [compose(poses, invert(poses[0])) for poses in (path.w2c, w2c())]
    assert torch.allclose(*relative, atol=1e-5)


def test_what_holds_no_path_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3\n")
    (tmp_path / "b.csv").write_text("")
    for name in ("a.txt", "b.csv"):
        with refuses(f"exo path: got {name}.*expected images.txt of COLMAP"):
            ExoPath.read(tmp_path / name)
    with refuses("exo path"):
        ExoPath.parse({"cameras": [{}], "timeline": {}}, "motion_scene")
