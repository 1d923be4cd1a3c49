"""Test depth npz files that contain intrinsics, poses, masks and other arrays."""

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraPath
from egox_core.takes import load_depth_file
from egox_core.types import TakeMeta
from tests.refusals import refuses

FRAME_COUNT, HEIGHT, WIDTH = 3, 24, 32
DEPTH = np.linspace(1, 4, FRAME_COUNT * HEIGHT * WIDTH, dtype=np.float32).reshape(
    FRAME_COUNT, HEIGHT, WIDTH
)
INTRINSICS = np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
NORMALIZED_INTRINSICS = INTRINSICS / np.array([[WIDTH], [HEIGHT], [1]])
LARGE_INTRINSICS = np.diag([10.0, 10, 1]) @ INTRINSICS + np.array(
    [[0, 0, 4.5], [0, 0, 4.5], [0, 0, 0]]
)  # of 320x240
MOVING_W2C = np.tile(np.eye(3, 4), (FRAME_COUNT, 1, 1))
MOVING_W2C[:, 0, 3] = 1.0, 1.5, 2.0
MOVING_MATRICES = np.concatenate([MOVING_W2C, np.tile([[[0.0, 0, 0, 1]]], (FRAME_COUNT, 1, 1))], 1)


def save_and_load(tmp_path, meta: TakeMeta | None = None, **arrays):
    np.savez(tmp_path / "depth.npz", **({"depth": DEPTH} | arrays))
    depth_source = load_depth_file(tmp_path / "depth.npz", meta, guess_camera=True)
    return depth_source.depth, "\n".join(map(str, depth_source.notes))


@pytest.mark.parametrize(
    "arrays",
    [
        {"K": INTRINSICS},
        {
            "intrinsics": np.tile(INTRINSICS, (FRAME_COUNT, 1, 1)),
            "extrinsics": MOVING_W2C,
        },  # Depth Anything 3
        {
            "intrinsic": np.tile(INTRINSICS, (1, FRAME_COUNT, 1, 1)),
            "extrinsic": MOVING_W2C[None],
        },  # VGGT
        {"intrinsics": INTRINSICS[None], "confidence": DEPTH},  # UniDepth
        {"intrinsic": INTRINSICS, "cam_c2w": MOVING_MATRICES, "images": DEPTH},  # MegaSaM
        {"intrinsics": NORMALIZED_INTRINSICS},  # MoGe
        {"intrinsics": np.stack([INTRINSICS, INTRINSICS, 9 * INTRINSICS])},
        {"cam_K": LARGE_INTRINSICS},
    ],
)
def test_intrinsics_of_the_file_are_used(tmp_path, arrays):
    depth, depth_notes = save_and_load(tmp_path, **arrays)
    lens = depth.exo.camera
    assert not depth.exo.lens_guessed
    assert "K of depth.npz" in depth_notes
    assert (lens.fx, lens.fy) == pytest.approx((30, 30), rel=0.01)
    assert (lens.cx, lens.cy) == pytest.approx((15.5, 11.5), abs=0.6)


@pytest.mark.parametrize(
    ("arrays", "expected_x"),
    [
        ({}, [0]),
        ({"poses": MOVING_W2C}, [0]),
        ({"extrinsics": MOVING_W2C}, [0, 0.5, 1]),
        ({"w2c": MOVING_W2C}, [0, 0.5, 1]),
        ({"extrinsics_w2c": MOVING_MATRICES}, [0, 0.5, 1]),
        ({"cam_c2w": MOVING_MATRICES}, [0, -0.5, -1]),
        ({"c2w": MOVING_MATRICES[:1]}, [0]),
        ({"w2c": np.tile(MOVING_W2C[1], (FRAME_COUNT, 1, 1))}, [0]),
    ],
)
def test_poses_are_used_if_their_key_names_the_direction(tmp_path, arrays, expected_x):
    depth, depth_notes = save_and_load(tmp_path, **arrays)
    assert depth.exo.w2c[:, 0, 3].tolist() == pytest.approx(expected_x)
    assert depth.exo.world == "exo"
    assert ("rename it to w2c" in depth_notes) == ("poses" in arrays)
    posed_meta = TakeMeta(name="take", exo=CameraPath.of_exo(None, torch.eye(3, 4)))
    posed_depth, _ = save_and_load(tmp_path, posed_meta, **arrays)
    assert posed_depth.exo.world == "take" and posed_depth.exo.w2c[:, 0, 3].tolist() == [0]


def test_masks_need_a_key_that_names_their_meaning(tmp_path):
    mask = np.ones((FRAME_COUNT, HEIGHT, WIDTH), bool)
    mask[:, :4] = False
    for key, dtype in (("mask", bool), ("mask", np.uint8), ("masks", bool)):
        with refuses("may mean what is valid or what moves.*valid or dynamic.*a.pop"):
            save_and_load(tmp_path, **{key: mask.astype(dtype)})
    # As MoGe writes it: the map itself has no value there.
    masked_depth, depth_notes = save_and_load(
        tmp_path, mask=mask, depth=np.where(mask, DEPTH, np.inf)
    )
    assert (
        torch.equal(masked_depth.valid, torch.from_numpy(mask))
        and "mask leaves out what" in depth_notes
    )
    valid_depth, _ = save_and_load(tmp_path, valid=mask)
    assert torch.equal(valid_depth.valid, torch.from_numpy(mask))
    assert valid_depth.dynamic is None
    dynamic_depth, depth_notes = save_and_load(
        tmp_path, dynamic=~mask, scale=np.array(2.0), conf=DEPTH
    )
    assert dynamic_depth.dynamic is not None
    assert bool(dynamic_depth.dynamic[:, :4].all())
    assert "scale (2) isn't applied" in depth_notes
    for unread_scale in (np.array([]), np.array("auto")):
        assert "scale isn't applied" in save_and_load(tmp_path, scale=unread_scale)[1]
    assert "not read: conf" in depth_notes
    with refuses("K of depth.npz: got.*expected"):
        save_and_load(tmp_path, K=np.eye(4))
    with refuses("2 poses for 3 maps"):
        save_and_load(tmp_path, w2c=MOVING_W2C[:2])
