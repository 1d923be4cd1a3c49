"""Test LPIPS, CLIP-I and motion metrics with small random networks."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model

from egox_train.metrics.perceptual import ClipImage, Lpips
from egox_train.metrics.temporal import (
    RaftFlow,
    is_dynamic,
    mean_of_largest,
    scaled_threshold_px,
    thin_frames,
)
from tests.refusals import refuses

pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lpips_file(network_writers, tmp_path_factory):
    """Write a weight file for LPIPS with random weights."""
    file = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    save_file({**network_writers.alexnet(), "classifier.6.bias": torch.zeros(3)}, file)
    return file


def test_lpips_is_zero_for_equal_pictures_and_grows(network_writers, lpips_file, pictures):
    lpips = Lpips(lpips_file)
    other_pictures = torch.rand(pictures.shape)
    distances = [
        float(lpips((1 - s) * pictures + s * other_pictures, pictures).mean()) for s in (0, 0.2, 1)
    ]
    assert distances[0] == pytest.approx(0, abs=1e-6) and distances[0] < distances[1] < distances[2]
    assert torch.allclose(
        lpips(pictures, other_pictures), lpips(other_pictures, pictures), atol=1e-6
    )
    half_changed_pictures = pictures.clone()
    half_changed_pictures[:, :, :16] = other_pictures[:, :, :16]
    distance_map = lpips(half_changed_pictures, pictures, spatial=True)
    assert distance_map.shape == pictures.shape[:3]
    assert distance_map[..., :8].mean() > 10 * distance_map[..., -8:].mean()
    weights, network_state = load_file(lpips_file), lpips.model.net.state_dict()
    for number, layer in enumerate(("0", "3", "6", "8", "10"), start=1):
        layer_weight = network_state[f"slice{number}.{layer}.weight"]
        assert torch.equal(layer_weight, weights[f"features.{layer}.weight"])


def test_clip_i_is_one_for_equal_pictures(network_writers, tmp_path, pictures):
    pytest.importorskip("transformers")
    network_writers.write_clip(tmp_path / "clip")
    clip_image = ClipImage(tmp_path / "clip")
    assert clip_image(pictures, pictures).tolist() == pytest.approx([1, 1], abs=1e-5)
    wide_pictures = torch.rand(2, 40, 90, 3)
    similarities = clip_image(wide_pictures, wide_pictures.flip(2))
    assert similarities.shape == (2,) and similarities.abs().max() < 0.99999
    # The middle square is what CLIP sees: what lies at the sides changes nothing.
    darkened_pictures = wide_pictures.clone()
    darkened_pictures[:, :, :15] = 0
    assert clip_image(darkened_pictures, wide_pictures).tolist() == pytest.approx([1, 1], abs=1e-5)
    with refuses("CLIP folder"):
        ClipImage(tmp_path)


def test_top_mean_averages_the_largest_twentieth():
    motion_lengths = torch.zeros(10, 20)
    motion_lengths[0, :10] = torch.arange(1.0, 11)  # 200 values: the ten largest
    assert mean_of_largest(motion_lengths) == 5.5


def test_clip_is_dynamic_with_enough_moving_frame_pairs():
    pair_motion = torch.tensor([3.1] * 4 + [2.9] * 11)  # four of 16 frames must move
    assert scaled_threshold_px(128) == 3.0
    assert is_dynamic(pair_motion, 16, 3.0) and not is_dynamic(pair_motion, 16, 6.0)
    assert not is_dynamic(pair_motion[1:], 16, 3.0) and is_dynamic(pair_motion[1:], 12, 3.0)
    assert not is_dynamic(torch.tensor([]), 1, 3.0)
    frames = torch.arange(49.0).view(49, 1, 1, 1)
    assert thin_frames(frames, 30).flatten().tolist() == list(range(0, 49, 4))
    assert len(thin_frames(frames, 8)) == len(thin_frames(frames, 2)) == 49


def test_raft_refuses_other_weights(tmp_path):
    from torchvision.models.optical_flow import raft_large

    save_model(raft_large(weights=None), tmp_path / "raft.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    raft_flow = RaftFlow(tmp_path / "raft.safetensors")
    motion = raft_flow(torch.rand(2, 128, 130, 3))
    assert motion.shape == (1,) and 0 < float(motion) < math.inf
    with refuses("128x128"):
        raft_flow(torch.rand(2, 64, 64, 3))
    with refuses("a different model"):
        RaftFlow(tmp_path / "other.safetensors")
