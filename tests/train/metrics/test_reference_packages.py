"""Metrics over networks against the packages whose figures are compared with ours.

The same random weights on both sides.
"""

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
    """[5, 136, 152, 3], whole levels: a picture that moves and brightens, with noise."""
    draw = np.random.default_rng(0)
    scene = cv2.resize(draw.random((20, 24, 3)), (200, 160), interpolation=cv2.INTER_CUBIC)
    frames = [scene[4 * n : 4 * n + 136, 6 * n : 6 * n + 152] * (0.7 + 0.05 * n) for n in range(5)]
    noise = 0.02 * draw.standard_normal((5, 136, 152, 3))
    return torch.from_numpy(((np.stack(frames) + noise).clip(0, 1) * 255).round() / 255).float()


def features_of_both(theirs, network, ours, video) -> tuple[np.ndarray, np.ndarray]:
    """[F] of a video of 16 frames, by a function of cd-fvd and by us."""
    levels = np.resize((video[:, :32, :36] * 255).round().byte().numpy(), (1, 16, 32, 36, 3))
    stats = sys.modules["cdfvd.fvd"].FeatureStats(capture_all=True)
    theirs(stats, network, levels, device="cpu")
    return stats.get_all()[0], ours(torch.from_numpy(levels[0]) / 255)


@pytest.mark.slow
def test_features_of_pictures_are_cd_fvds(video, tmp_path):
    package = pytest.importorskip("cdfvd.fvd")
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d

    network = InceptionI3d(400, in_channels=3).eval()
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(state, tmp_path / "i3d.safetensors")
    ours = VideoFeatures(tmp_path / "i3d.safetensors")
    theirs, own = features_of_both(package.get_i3d_logits, network, ours, video)
    np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-9)
    with refuses("at least 9"):
        ours(video)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with refuses("a different model"):
        VideoFeatures(tmp_path / "other.safetensors")


def test_features_of_motion_are_cd_fvds(video, tmp_path, monkeypatch):
    """VideoMAE's class with one narrow block instead of forty wide ones."""
    package = pytest.importorskip("cdfvd.fvd")
    from cdfvd.third_party.VideoMAEv2 import utils
    from cdfvd.third_party.VideoMAEv2.videomaev2_finetune import VisionTransformer

    def small(pretrained: bool, **sizes) -> VisionTransformer:
        return VisionTransformer(patch_size=14, embed_dim=32, depth=1, num_heads=2, **sizes)

    monkeypatch.setattr(utils, "vit_giant_patch14_224", small)
    state = small(
        False, img_size=224, num_classes=174, all_frames=16, tubelet_size=2, use_mean_pooling=True
    ).state_dict()
    torch.save({"model": state}, tmp_path / "mae.pt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "mae.safetensors")
    network = utils.load_videomae_model(torch.device("cpu"), str(tmp_path / "mae.pt")).eval()
    ours = MotionFeatures(tmp_path / "mae.safetensors")
    theirs, own = features_of_both(package.get_videomae_features, network, ours, video)
    np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-6)
    with refuses("at least 16"):
        ours(video.repeat(3, 1, 1, 1))
