"""Rules for wide, holed and other depth, on a plain scene: a wall 2 m in front of the exo camera,
ego beside it.

The goldens of real takes are compared in test_fidelity.py.
"""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import compose, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.gga.geometry import exo_points, gga_geometry
from egox_core.types import DepthVideo, of_frames
from tests.poses import path_of, still, with_exo
from tests.refusals import refuses


def plain_scene(device, scale: int = 1):
    height, width = 64 * scale, 96 * scale
    exo = CameraModel.pinhole(width, height, 80.0 * scale)
    w2c = still(9)
    w2c[:, 0, 3] = torch.linspace(0, -0.5, 9, dtype=torch.float64)
    camera, exo_w2c = preset_camera("pinhole", 64), w2c[0].to(device)
    trajectory = path_of(w2c.to(device), camera, 30, exo_w2c=exo_w2c)
    return DepthVideo(
        depth_m=torch.full((9, height, width), 2.0, device=device), exo=CameraPath.of_exo(exo)
    ), trajectory


SIZES = {"frames": 9, "exo_size": (96, 64), "ego_size": (64, 64)}
EXACT = "exact"


def test_exact_rays_point_at_what_they_see(device):
    depth, trajectory = plain_scene(device)
    geometry = gga_geometry(depth, trajectory, EXACT, **SIZES)
    assert geometry.grid == (3, 4, 6, 4) and geometry.tokens == 120
    # An ego camera in the exo camera's place, frame 0: the key in a query's direction is the one
    # that it sees.
    cos = (
        (geometry.query_dirs[0] @ geometry.key_dirs[0].T)
        .unflatten(0, (4, 4))
        .unflatten(2, (3, 4, 10))[:, :, 0]
    )
    best = cos[..., :6].flatten(2).argmax(-1)
    keys = geometry.key_dirs[0].unflatten(0, (3, 4, 10))[0, :, :6].reshape(-1, 3)
    gap = 1 - torch.nn.functional.cosine_similarity(
        keys[best], geometry.query_dirs[0].unflatten(0, (4, 4)), dim=-1
    )
    assert gap[1:3, 1:3].max() < 0.02  # within a token of the middle


def test_wide_depth_is_cropped_in_the_middle(device):
    depth, trajectory = plain_scene(device)
    wide = DepthVideo(
        depth_m=torch.nn.functional.pad(depth.depth_m, (6, 6), value=9.0),
        exo=CameraPath.of_exo(depth.exo.camera.crop(-6, 0, 108, 64)),
    )
    ours, same = (gga_geometry(d, trajectory, EXACT, **SIZES) for d in (wide, depth))
    assert torch.equal(ours.key_dirs, same.key_dirs)


def test_depth_of_another_resolution_is_sampled(device):
    depth, trajectory = plain_scene(device)
    twice, _ = plain_scene(device, 2)
    ours, same = (gga_geometry(d, trajectory, EXACT, **SIZES) for d in (twice, depth))
    assert (
        ours.key_dirs - same.key_dirs
    ).abs().max() < 1e-5  # a flat wall: any sampling of it is exact


def test_missing_depth_takes_no_side_and_is_not_trusted(device):
    depth, trajectory = plain_scene(device)
    holed = depth.depth_m.clone()
    holed[:, :16, :16] = float("nan")  # one token
    holed[:, :16, 16:20] = float("inf")
    geometry = gga_geometry(replace(depth, depth_m=holed), trajectory, EXACT, **SIZES)
    full = gga_geometry(depth, trajectory, EXACT, **SIZES)
    trust = geometry.key_trust.unflatten(0, (3, 4, 10))
    assert trust[0, 0, 0] == 0 and 0 < trust[0, 0, 1] < 1 and (trust[0, 1:, :6] == 1).all()
    keys = geometry.key_dirs.unflatten(1, (3, 4, 10))
    assert not keys[:, :, 0, 0].any() and torch.isfinite(geometry.key_dirs).all()
    assert torch.equal(keys[:, :, 1:], full.key_dirs.unflatten(1, (3, 4, 10))[:, :, 1:])


def test_trust_of_the_depth_is_pooled(device):
    depth, trajectory = plain_scene(device)
    trust = torch.full_like(depth.depth_m, 0.5)
    geometry = gga_geometry(replace(depth, trust=trust), trajectory, EXACT, **SIZES)
    assert torch.allclose(geometry.key_trust.unflatten(0, (3, 4, 10))[..., :6], torch.tensor(0.5))


def test_moving_exo_camera_moves_the_points(device):
    depth, trajectory = plain_scene(device)
    moved = still(9)
    moved[4:, 2, 3] = 1.0
    points, _ = exo_points(with_exo(depth, moved), trajectory, torch.tensor([0, 4, 8]), (96, 64))
    assert torch.allclose(points[0, ..., 2], torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(points[1:, ..., 2], torch.tensor(1.0, dtype=torch.float64))


def test_a_motion_in_the_exo_cameras_frame_goes_into_the_paths_world():
    """Estimated poses begin with the exo camera's own frame, and the path's world tells where that
    is."""
    _, trajectory = plain_scene("cpu")
    pose, moved = look_at([0.3, 0.0, -1.0], [0.0, 0.0, 2.0]), still(9)
    moved[4:, 2, 3] = 1.0
    estimated = CameraPath(lens=None, w2c=moved, world="exo")
    path = replace(trajectory, exo=CameraPath.of_exo(None, pose))
    assert torch.equal(path.exo_of(estimated).w2c, compose(moved, pose))
    assert path.exo_of(CameraPath.of_exo(None)) == path.exo


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 8}, "frame count"),
        ({"frames": 13}, "depth: got 9 frames"),
        ({"exo_size": (100, 64)}, "exo size"),
        ({"ego_size": (64, 80)}, "ego height"),
        ({"exo_size": (128, 64)}, "depth size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message, device):
    with refuses(message):
        gga_geometry(*plain_scene(device), EXACT, **{**SIZES, **change})


def test_short_trajectory_and_unknown_modes_are_refused(device):
    depth, trajectory = plain_scene(device)
    unknown = replace(trajectory, ego=replace(trajectory.ego, world="unknown"), exo=None)
    for posed in (depth, with_exo(depth, still(9))):
        with refuses("world of another program"):
            gga_geometry(posed, unknown, EXACT, **SIZES)
    with refuses("ego trajectory"):
        gga_geometry(depth, of_frames(trajectory, slice(5)), EXACT, **SIZES)
    with refuses("metric z depth"):
        gga_geometry(replace(depth, kind="disparity"), trajectory, EXACT, **SIZES)
    with refuses("exo camera of the depth"):
        gga_geometry(replace(depth, depth_m=depth.depth_m[:, :, 2:]), trajectory, EXACT, **SIZES)
    with refuses("ray geometry"):
        gga_geometry(depth, trajectory, "true", **SIZES)


def test_cancel_passes_through(device):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gga_geometry(*plain_scene(device), EXACT, progress=stop, **SIZES)
