"""Test that our network metrics equal those of the package cd-fvd, with the same random weights."""

import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from egox_train.metrics.fvd import MotionFeatures, VideoFeatures
from tests.refusals import refuses


@pytest.fixture(scope="module")
def video() -> Tensor:
    """Draw a video [5, 136, 152, 3] with motion, brightness changes and noise."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.random((20, 24, 3)), (200, 160), interpolation=cv2.INTER_CUBIC)
    frames = [scene[4 * n : 4 * n + 136, 6 * n : 6 * n + 152] * (0.7 + 0.05 * n) for n in range(5)]
    noise = 0.02 * rng.standard_normal((5, 136, 152, 3))
    return torch.from_numpy(((np.stack(frames) + noise).clip(0, 1) * 255).round() / 255).float()


def features_of_both(
    reference_function, network, egox_function, video
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the features of a video by cd-fvd and by our code."""
    byte_video = np.resize((video[:, :32, :36] * 255).round().byte().numpy(), (1, 16, 32, 36, 3))
    feature_stats = sys.modules["cdfvd.fvd"].FeatureStats(capture_all=True)
    reference_function(feature_stats, network, byte_video, device="cpu")
    return feature_stats.get_all()[0], egox_function(torch.from_numpy(byte_video[0]) / 255)


@pytest.mark.slow
def test_features_of_pictures_are_cd_fvds(video, tmp_path):
    cdfvd_module = pytest.importorskip("cdfvd.fvd")
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d

    network = InceptionI3d(400, in_channels=3).eval()
    weights = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(weights, tmp_path / "i3d.safetensors")
    egox_network = VideoFeatures(tmp_path / "i3d.safetensors")
    reference_features, our_features = features_of_both(
        cdfvd_module.get_i3d_logits, network, egox_network, video
    )
    np.testing.assert_allclose(our_features, reference_features, rtol=1e-5, atol=1e-9)
    with refuses("at least 9"):
        egox_network(video)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with refuses("a different model"):
        VideoFeatures(tmp_path / "other.safetensors")


def test_features_of_motion_are_cd_fvds(video, tmp_path, monkeypatch):
    """Check that our VideoMAE features equal those of the package cd-fvd."""
    cdfvd_module = pytest.importorskip("cdfvd.fvd")
    from cdfvd.third_party.VideoMAEv2 import utils
    from cdfvd.third_party.VideoMAEv2.videomaev2_finetune import VisionTransformer

    def make_small_network(pretrained: bool, **sizes) -> VisionTransformer:
        return VisionTransformer(patch_size=14, embed_dim=32, depth=1, num_heads=2, **sizes)

    monkeypatch.setattr(utils, "vit_giant_patch14_224", make_small_network)
    weights = make_small_network(
        False, img_size=224, num_classes=174, all_frames=16, tubelet_size=2, use_mean_pooling=True
    ).state_dict()
    torch.save({"model": weights}, tmp_path / "mae.pt")
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "mae.safetensors")
    network = utils.load_videomae_model(torch.device("cpu"), str(tmp_path / "mae.pt")).eval()
    egox_network = MotionFeatures(tmp_path / "mae.safetensors")
    reference_features, our_features = features_of_both(
        cdfvd_module.get_videomae_features, network, egox_network, video
    )
    np.testing.assert_allclose(our_features, reference_features, rtol=1e-5, atol=1e-6)
    with refuses("at least 16"):
        egox_network(video.repeat(3, 1, 1, 1))
