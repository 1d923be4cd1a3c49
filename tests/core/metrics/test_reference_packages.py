"""Metrics over networks against the packages whose figures are compared with ours.

The same random weights on both sides. vbench's start needs packages of other versions than ours:
its measures are imported without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

pytest.importorskip("torchmetrics")

from egox_core.errors import EgoXInputError  # noqa: E402
from egox_core.metrics.fvd import MotionFeatures, VideoFeatures, frechet_distance  # noqa: E402
from egox_core.metrics.temporal import (  # noqa: E402
    AMT_NETWORK,
    AmtBetween,
    RaftFlow,
    is_dynamic,
    motion_smoothness,
    temporal_flickering,
)

RAFT_NAMES = (  # torchvision's -> the authors'
    (r"^feature_encoder", "fnet"), (r"^context_encoder", "cnet"), (r"(downsample\.\d)", r"\1"),
    (r"convnormrelu\.0", "conv1"), (r"convnormrelu\.1", "norm1"),
    (r"(layer\d\.\d)\.convnormrelu(\d)\.0", r"\1.conv\2"),
    (r"(layer\d\.\d)\.convnormrelu(\d)\.1", r"\1.norm\2"), (r"net\.conv\.", "net.conv2."),
    (r"motion_encoder\.convcorr(\d)\.0", r"encoder.convc\1"),
    (r"motion_encoder\.convflow(\d)\.0", r"encoder.convf\1"),
    (r"motion_encoder\.conv\.0", "encoder.conv"),
    (r"recurrent_block\.convgru(\d)\.conv([zrq])", r"gru.conv\g<2>\1"),
    (r"^mask_predictor\.convrelu\.0", "update_block.mask.0"),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)


@pytest.fixture(scope="module")
def video() -> Tensor:
    """[5, 136, 152, 3], whole levels: a picture that moves and brightens, with noise."""
    draw = np.random.default_rng(0)
    scene = cv2.resize(draw.random((20, 24, 3)), (200, 160), interpolation=cv2.INTER_CUBIC)
    frames = [scene[4 * n : 4 * n + 136, 6 * n : 6 * n + 152] * (0.7 + 0.05 * n) for n in range(5)]
    noise = 0.02 * draw.standard_normal((5, 136, 152, 3))
    return torch.from_numpy(((np.stack(frames) + noise).clip(0, 1) * 255).round() / 255).float()


@pytest.fixture(scope="module")
def pictures(video, tmp_path_factory) -> Path:
    """The video as a folder of files."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, frame in enumerate(video):
        levels = (frame.numpy() * 255).round().astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), levels[..., ::-1])
    return folder


@pytest.fixture
def vbench(monkeypatch) -> Iterator[ModuleType]:
    """vbench's package, with a start that imports nothing."""
    spec = importlib.util.find_spec("vbench")
    if spec is None or not all(map(importlib.util.find_spec, ("omegaconf", "easydict", "imageio"))):
        pytest.skip("vbench, omegaconf, easydict or imageio is not installed")
    shell, lists = importlib.util.module_from_spec(spec), ModuleType("vbench.utils")
    lists.load_dimension_info = None
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "vbench", shell)
    monkeypatch.setitem(sys.modules, "vbench.utils", lists)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield shell
    for name in set(sys.modules) - before:
        if name.startswith(("vbench.", "networks", "utils")):
            del sys.modules[name]


def test_flickering_is_vbenchs(vbench, video):
    theirs = importlib.import_module("vbench.temporal_flickering")
    scores = theirs.mae_seq([(frame * 255).round().numpy().astype(np.uint8) for frame in video])
    assert temporal_flickering(video) == pytest.approx((255 - scores.mean()) / 255, abs=1e-6)


def test_smoothness_is_vbenchs(vbench, video, pictures, tmp_path):
    theirs = importlib.import_module("vbench.motion_smoothness")
    network = importlib.import_module("vbench.third_party.amt.networks.AMT-S").Model
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in network(**AMT_NETWORK).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "amt.pth")
    save_file(state, tmp_path / "amt.safetensors")
    settings = Path(vbench.__path__[0]) / "third_party" / "amt" / "cfgs" / "AMT-S.yaml"
    score = theirs.MotionSmoothness(str(settings), tmp_path / "amt.pth", "cpu").motion_score(
        str(pictures))
    own = motion_smoothness(video, AmtBetween(tmp_path / "amt.safetensors"))
    assert own == pytest.approx(
        score, abs=1e-6)


@pytest.mark.slow
def test_motion_is_vbenchs(vbench, video, pictures, tmp_path, monkeypatch):
    models = pytest.importorskip("torchvision.models.optical_flow")
    theirs = importlib.import_module("vbench.dynamic_degree")
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in models.raft_large(weights=None).state_dict().items()}
    save_file(state, tmp_path / "raft.safetensors")
    named = {}
    for name, value in state.items():
        for ours, other in RAFT_NAMES:
            name = re.sub(ours, other, name)
        named[name] = value
        if "downsample.1" in name:
            named[name.replace("downsample.1", "norm3")] = value
    torch.save(named, tmp_path / "raft.pth")
    settings = {"model": tmp_path / "raft.pth", "small": False, "mixed_precision": False,
                "alternate_corr": False}
    from easydict import EasyDict

    dynamic = theirs.DynamicDegree(EasyDict(settings), "cpu")
    seen = []
    monkeypatch.setattr(dynamic, "check_move", lambda scores: seen.extend(scores))
    dynamic.infer(str(pictures))
    motion = RaftFlow(tmp_path / "raft.safetensors")(video)
    torch.testing.assert_close(motion, torch.tensor(seen), rtol=1e-5, atol=0)
    monkeypatch.undo()
    for scale in (0.1, 1.0, 10.0):
        lengths = [scale * length for length in seen]
        assert is_dynamic(torch.tensor(lengths), 5, 136) == dynamic.check_move(lengths)


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

    torch.manual_seed(0)
    network = InceptionI3d(400, in_channels=3).eval()
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(state, tmp_path / "i3d.safetensors")
    ours = VideoFeatures(tmp_path / "i3d.safetensors")
    theirs, own = features_of_both(package.get_i3d_logits, network, ours, video)
    np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-9)


def test_features_of_motion_are_cd_fvds(video, tmp_path, monkeypatch):
    """VideoMAE's class with one narrow block instead of forty wide ones."""
    package = pytest.importorskip("cdfvd.fvd")
    from cdfvd.third_party.VideoMAEv2 import utils
    from cdfvd.third_party.VideoMAEv2.videomaev2_finetune import VisionTransformer

    def small(pretrained: bool, **sizes) -> VisionTransformer:
        return VisionTransformer(patch_size=14, embed_dim=32, depth=1, num_heads=2, **sizes)

    monkeypatch.setattr(utils, "vit_giant_patch14_224", small)
    torch.manual_seed(0)
    state = small(False, img_size=224, num_classes=174, all_frames=16, tubelet_size=2,
                  use_mean_pooling=True).state_dict()
    torch.save({"model": state}, tmp_path / "mae.pt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "mae.safetensors")
    network = utils.load_videomae_model(torch.device("cpu"), str(tmp_path / "mae.pt")).eval()
    ours = MotionFeatures(tmp_path / "mae.safetensors")
    theirs, own = features_of_both(package.get_videomae_features, network, ours, video)
    np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-6)
    with pytest.raises(EgoXInputError, match="at least 16"):
        ours(video.repeat(3, 1, 1, 1))


def test_distance_is_cd_fvds():
    package = pytest.importorskip("cdfvd.fvd")
    draw, sets, all_stats = np.random.default_rng(0), [], []
    for shift in (0.0, 0.3):
        features = draw.normal(size=(40, 8)) @ draw.normal(size=(8, 8)) + shift
        sets.append(features.astype(np.float32))
        all_stats.append(package.FeatureStats(capture_mean_cov=True))
        all_stats[-1].append(sets[-1])
    theirs = package.cdfvd.compute_fvd_from_stats(None, *all_stats)
    assert frechet_distance(*sets) == pytest.approx(theirs, rel=1e-6)
