"""Rays in the cache: those of the canvas, of each camera's own clip, also of a tile and of a mirrored clip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from egox_core.cameras.model import CameraModel
from egox_core.data.clip_rays import mirrored_rays, picture_camera, tile_camera, tile_pictures, view_rays
from egox_core.errors import EgoXInputError
from egox_core.types import Panels
from egox_core.wan.token_rays import canvas_rays
from lab.drawn import SyntheticSpec, make_take

FRAMES, WIDTH, SIZE = 5, 96, 64
CLOSE = 6e-4  # float16


@pytest.fixture(scope="module")
def take():
    return make_take(SyntheticSpec(seed=3, frames=FRAMES, exo_width=WIDTH, exo_height=SIZE, ego_size=SIZE,
                                   texture="plain", clutter="calm", edge_samples=1, exo_views=3))


def test_parts_of_single_clips_make_the_canvas_of_all_views(take) -> None:
    ego = take.trajectory()
    parts = [view_rays(view.exo_camera, view.exo_w2c, ego, FRAMES, tiles=True) for view in take.views]
    exo = [(view.exo_camera, view.exo_w2c) for view in take.views]
    full = torch.cat([*(part["exo_rays"] for part in parts), parts[0]["ego_rays"]], dim=2)
    assert (full - canvas_rays(exo, ego, Panels(views=3), FRAMES)).abs().max() < CLOSE
    tiles = [(tile_camera(camera), w2c) for camera, w2c in exo]
    mosaic = canvas_rays(tiles, ego, Panels(views=3, layout="mosaic"), FRAMES)
    height, width = parts[1]["tile_rays"].shape[1:3]
    assert (mosaic[:, :height, width : 2 * width] - parts[1]["tile_rays"]).abs().max() < CLOSE


def test_a_mirrored_clip_has_the_rays_of_the_mirrored_scene(take) -> None:
    ego, exo, w2c = take.trajectory(), take.exo_camera, take.exo_w2c
    assert ego.camera.quarter_turns == 1 and not ego.camera.distortion and not exo.quarter_turns
    across = torch.diag(torch.tensor([-1.0, 1, 1])).double()
    on_sensor = torch.diag(torch.tensor([1.0, -1, 1])).double()  # the ego picture is stored turned
    world = torch.block_diag(across, torch.ones(1, 1).double())
    there = view_rays(replace(exo, cx=exo.width - 1 - exo.cx), across @ w2c @ world, replace(
        ego, w2c=on_sensor @ ego.w2c @ world, camera=replace(ego.camera, cy=ego.camera.height - 1 - ego.camera.cy)),
        FRAMES, tiles=True)
    ours = mirrored_rays(view_rays(exo, w2c, ego, FRAMES, tiles=True), ego.camera.quarter_turns)
    for name, rays in there.items():
        assert (rays - ours[name]).abs().max() < 2 * CLOSE, name
        assert (rays - ours[name].flip(2)).abs().max() > 0.1


def test_a_tile_is_the_picture_halved_and_its_camera_looks_where_it_did() -> None:
    wide = CameraModel(lens="pinhole", width=112, height=64, fx=60.0, fy=60.0, cx=55.5, cy=31.5)
    tile = tile_camera(wide)
    assert tile.stored_size == (48, 32) and (tile.fx, tile.cx) == (30.0, 23.5)
    frames = torch.arange(112, dtype=torch.uint8).expand(2, 64, 112)[..., None].expand(-1, -1, -1, 3)
    pictures = tile_pictures(frames)
    assert pictures.shape == (2, 32, 48, 3)
    assert pictures[0, 0, :2, 0].tolist() == [8, 10], "four columns of the halved picture are cut off on each side"
    with pytest.raises(EgoXInputError, match="multiple of 32"):
        tile_pictures(frames[:, :48])
    depth = CameraModel(lens="pinhole", width=796, height=448, fx=400.0, fy=400.0, cx=397.5, cy=223.5)
    assert picture_camera(depth, (784, 448)).cx == 391.5
