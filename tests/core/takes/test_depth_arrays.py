"""An npz of depth with more arrays, as depth models dump it: K and poses are used, a mask says what it
means, the rest is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.takes import load_depth_file
from egox_core.takes.take_cameras import same_lens
from egox_core.types import TakeMeta
from tests.refusals import refuses

T, H, W = 3, 24, 32
DEPTH = np.linspace(1, 4, T * H * W, dtype=np.float32).reshape(T, H, W)
K = np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
SHARES = K / np.array([[W], [H], [1]])
PIXELS = np.diag([10.0, 10, 1]) @ K + np.array([[0, 0, 4.5], [0, 0, 4.5], [0, 0, 0]])  # of 320x240
MOVING = np.tile(np.eye(3, 4), (T, 1, 1))
MOVING[:, 0, 3] = 1.0, 1.5, 2.0
SQUARE = np.concatenate([MOVING, np.tile([[[0.0, 0, 0, 1]]], (T, 1, 1))], 1)


def load(tmp_path, meta: TakeMeta | None = None, **arrays):
    np.savez(tmp_path / "depth.npz", **({"depth": DEPTH} | arrays))
    source = load_depth_file(tmp_path / "depth.npz", meta, guess_camera=True)
    return source.depth, "\n".join(map(str, source.notes))


@pytest.mark.parametrize(
    "arrays",
    [
        {"K": K},
        {"intrinsics": np.tile(K, (T, 1, 1)), "extrinsics": MOVING},  # Depth Anything 3
        {"intrinsic": np.tile(K, (1, T, 1, 1)), "extrinsic": MOVING[None]},  # VGGT
        {"intrinsics": K[None], "confidence": DEPTH},  # UniDepth
        {"intrinsic": K, "cam_c2w": SQUARE, "images": DEPTH},  # MegaSaM
        {"intrinsics": SHARES},  # MoGe
        {"intrinsics": np.stack([K, K, 9 * K])},
        {"cam_K": PIXELS},
    ],
)
def test_k_of_the_file_is_used(tmp_path, arrays):
    depth, notes = load(tmp_path, **arrays)
    lens = depth.exo.camera
    assert not depth.exo.lens_guessed and "K of depth.npz" in notes
    assert (lens.fx, lens.fy) == pytest.approx((30, 30), rel=0.01)
    assert (lens.cx, lens.cy) == pytest.approx((15.5, 11.5), abs=0.6)


@pytest.mark.parametrize(
    ("arrays", "x"),
    [
        ({}, [0]),
        ({"extrinsics": MOVING}, [0]),
        ({"w2c": MOVING}, [0, 0.5, 1]),
        ({"extrinsics_w2c": SQUARE}, [0, 0.5, 1]),
        ({"cam_c2w": SQUARE}, [0, -0.5, -1]),
        ({"c2w": SQUARE[:1]}, [0]),
        ({"w2c": np.tile(MOVING[1], (T, 1, 1))}, [0]),
    ],
)
def test_poses_are_used_where_their_key_says_the_direction(tmp_path, arrays, x):
    depth, notes = load(tmp_path, **arrays)
    assert depth.exo.w2c[:, 0, 3].tolist() == pytest.approx(x) and depth.exo.world == "exo"
    assert ("rename it to w2c" in notes) == ("extrinsics" in arrays)


def test_the_meta_file_wins_and_a_difference_is_named(tmp_path):
    meta = TakeMeta(name="take", camera_intrinsics=torch.from_numpy(K))
    near, notes = load(tmp_path, meta, K=K * [[1.01], [1.01], [1]])
    assert "differs" not in notes and near.exo.camera.fx == 30
    far, notes = load(tmp_path, meta, K=K * [[1.2], [1], [1]])
    assert "K of depth.npz differs by 20 %" in notes and far.exo.camera.fx == 30


def test_a_mask_says_what_it_means(tmp_path):
    mask = np.ones((T, H, W), bool)
    mask[:, :4] = False
    for key, dtype in (("mask", bool), ("mask", np.uint8), ("masks", bool)):
        with refuses("may mean what is valid or what moves.*valid or dynamic.*a.pop"):
            load(tmp_path, **{key: mask.astype(dtype)})
    # As MoGe writes it: the map itself has no value there.
    masked_depth, notes = load(tmp_path, mask=mask, depth=np.where(mask, DEPTH, np.inf))
    assert (
        torch.equal(masked_depth.valid, torch.from_numpy(mask)) and "mask leaves out what" in notes
    )
    valid_depth, _ = load(tmp_path, valid=mask)
    assert torch.equal(valid_depth.valid, torch.from_numpy(mask)) and valid_depth.dynamic is None
    moves, notes = load(tmp_path, dynamic=~mask, scale=np.array(2.0), conf=DEPTH)
    assert moves.dynamic is not None and bool(moves.dynamic[:, :4].all())
    assert "scale (2) isn't applied" in notes and "not used: conf" in notes
    with refuses("K of depth.npz: got.*expected"):
        load(tmp_path, K=np.eye(4))
    with refuses("2 poses for 3 maps"):
        load(tmp_path, w2c=MOVING[:2])


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [(-0.12, 0.2, False), (-0.12, -0.12, True), (0.0, 1e-7, True), (0.0, 0.05, False)],
)
def test_distortion_is_compared(one, two, same):
    lens = CameraModel(lens="opencv", width=64, height=48, fx=50, fy=50, cx=31.5, cy=23.5)
    first, second = (replace(lens, distortion=(k, 0.0, 0.0, 0.0)) for k in (one, two))
    assert same_lens(first, second) is same
