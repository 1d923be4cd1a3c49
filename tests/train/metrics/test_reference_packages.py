"""Metrics over networks against the packages whose figures are compared with ours.

The same random weights on both sides.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from egox_train.metrics import table1
from egox_train.metrics.evaluate import evaluate
from egox_train.metrics.fvd import MotionFeatures, VideoFeatures
from egox_train.metrics.temporal import AMT_NETWORK, RaftFlow, _amt_module
from egox_train.options import EvaluateOptions
from egox_train.video_writer import write_video
from tests.refusals import refuses


@pytest.fixture(scope="module")
def video() -> Tensor:
    """Draw a video [5, 136, 152, 3] in whole levels: a picture that moves and brightens, with
    noise."""
    draw = np.random.default_rng(0)
    scene = cv2.resize(draw.random((20, 24, 3)), (200, 160), interpolation=cv2.INTER_CUBIC)
    frames = [scene[4 * n : 4 * n + 136, 6 * n : 6 * n + 152] * (0.7 + 0.05 * n) for n in range(5)]
    noise = 0.02 * draw.standard_normal((5, 136, 152, 3))
    return torch.from_numpy(((np.stack(frames) + noise).clip(0, 1) * 255).round() / 255).float()


def features_of_both(theirs, network, ours, video) -> tuple[np.ndarray, np.ndarray]:
    """Compute features [F] of a video of 16 frames, by a function of cd-fvd and by us."""
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
    theirs, our_features = features_of_both(package.get_i3d_logits, network, ours, video)
    np.testing.assert_allclose(our_features, theirs, rtol=1e-5, atol=1e-9)
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
    theirs, our_features = features_of_both(package.get_videomae_features, network, ours, video)
    np.testing.assert_allclose(our_features, theirs, rtol=1e-5, atol=1e-6)
    with refuses("at least 16"):
        ours(video.repeat(3, 1, 1, 1))


@pytest.fixture
def vbench(monkeypatch):
    """Import vbench's own code for one test. The product uses it without its packages."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("motion_smoothness", "dynamic_degree"):
        pytest.importorskip(
            f"vbench.{name}", reason="vbench, decord, easydict or omegaconf missing"
        )
    yield sys.modules["vbench"]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("vbench", "networks")]:
        del sys.modules[name]


def drifting(seed: int, frames: int, width: int, contrast: float = 1.0) -> Tensor:
    """Draw a soft picture that moves unevenly, [T, 128, W, 3]."""
    coarse = 0.5 + contrast * (np.random.default_rng(seed).random((6, 12, 3), np.float32) - 0.5)
    still = cv2.resize(coarse, (width, 128), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    places = [3 * n + 2 * (n % 2) for n in range(frames)]
    return torch.from_numpy(np.stack([np.roll(still, place, axis=1) for place in places]))


def decoded(file: Path) -> np.ndarray:  # [T, H, W, 3] uint8
    stream, frames = cv2.VideoCapture(str(file)), []
    while (answer := stream.read())[0]:
        frames.append(answer[1][..., ::-1])
    return np.stack(frames)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_table1_is_vbenchs_and_cd_fvds(tmp_path, vbench, monkeypatch):
    """``evaluate --protocol table1`` of drawn canvases of 352x128 equals the libraries' figures of
    the same files with the same random weights. The threshold of vbench is the protocol's."""
    package = pytest.importorskip("cdfvd.fvd")
    from cdfvd.utils.data_utils import preprocess
    from easydict import EasyDict
    from torchvision.models.optical_flow import raft_large

    truths, made_folder, clips = (
        tmp_path / "truths",
        tmp_path / "made",
        {"grey": 0.02, "bright": 1.0},
    )
    for seed, (clip, contrast) in enumerate(clips.items()):
        write_video(truths / f"{clip}.mp4", drifting(seed, 18, 128), 30.0, threads=1)
        canvas = drifting(seed + 5, 17, 352, contrast)
        write_video(made_folder / f"{clip}.mp4", canvas, 30.0, threads=1)

    # Random networks that tell pictures apart: one clip moves by over 2 px, the other doesn't.
    torch.manual_seed(0)
    raft, amt = raft_large(weights=None), _amt_module().Model(**AMT_NETWORK)
    i3d = sys.modules["cdfvd.third_party.i3d.pytorch_i3d"].InceptionI3d(400, in_channels=3)
    with torch.no_grad():
        for layer in i3d.modules():
            if isinstance(layer, torch.nn.Conv3d):
                torch.nn.init.kaiming_normal_(layer.weight)
        for weight, factor in (
            (raft.context_encoder.convnormrelu[0].weight, 4.0),
            (raft.context_encoder.conv.weight, 4.0),
            (raft.update_block.flow_head.conv2.weight, 0.1),
            (raft.update_block.flow_head.conv2.bias, 0.1),
        ):
            weight.mul_(factor)
    weights = {"amt": amt, "raft": raft, "fvd": i3d}
    for name, network in weights.items():
        state = {k: v.clone().contiguous() for k, v in network.state_dict().items()}
        weights[name] = tmp_path / f"{name}.safetensors"
        save_file(state, weights[name])
    options = EvaluateOptions(protocol="table1", weights=weights)
    report = evaluate(truths, made_folder, tmp_path / "out", options).report
    assert not report["errors"]

    torch.save({"state_dict": amt.state_dict()}, tmp_path / "amt.pth")
    config = Path(vbench.__file__).parent / "third_party" / "amt" / "cfgs" / "AMT-S.yaml"
    smoothness = sys.modules["vbench.motion_smoothness"].MotionSmoothness(
        str(config), str(tmp_path / "amt.pth"), "cpu"
    )
    motion = sys.modules["vbench.dynamic_degree"]
    form = EasyDict(model=str(tmp_path / "raft.pth"), small=False, mixed_precision=False)
    theirs = motion.RAFT(form)
    for kind in (torch.nn.Conv2d, torch.nn.BatchNorm2d):  # the same layers in the same order
        layers = ([m for m in net.modules() if isinstance(m, kind)] for net in (theirs, raft))
        for their_layer, layer in zip(*layers, strict=True):
            their_layer.load_state_dict(layer.state_dict())
    torch.save(theirs.state_dict(), form.model)
    degree = motion.DynamicDegree(form, "cpu")
    motions_px: list[list[float]] = []

    def moves(values: list[float]) -> bool:
        motions_px.append(values)
        degree.params["thres"] = table1.MOTION_PX
        return motion.DynamicDegree.check_move(degree, values)

    monkeypatch.setattr(degree, "check_move", moves)
    flow = RaftFlow(weights["raft"])
    for row in report["rows"]:
        values, file = row["metrics"]["generated"], made_folder / f"{row['clip']}.mp4"
        score = smoothness.motion_score(str(file))
        assert values["motion_smoothness"] == pytest.approx(score, abs=2e-6)
        assert values["dynamic_degree"] == degree.infer(str(file)) == (row["clip"] == "bright")
        own_px = flow(torch.from_numpy(decoded(file)[::4].copy()) / 255)
        assert own_px.tolist() == pytest.approx(motions_px[-1], abs=1e-4)

    torch.save(i3d.state_dict(), tmp_path / "i3d.pt")
    judge = package.cdfvd("i3d", n_fake="full", ckpt_path=str(tmp_path / "i3d.pt"), device="cpu")
    for folder, add in (
        (truths, judge.compute_real_stats),
        (made_folder, judge.compute_fake_stats),
    ):
        crops = [torch.from_numpy(decoded(folder / f"{c}.mp4")[:, :, -128:].copy()) for c in clips]
        add([{"video": preprocess(crop, 224, 16)["video"][None]} for crop in crops])
    distance = report["sets"]["fvd"]["generated"]
    assert distance > 0.1
    assert distance == pytest.approx(judge.compute_fvd_from_stats(), rel=1e-3)
