"""Test that our network metrics equal those of the packages cd-fvd and vbench.

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


@pytest.fixture
def vbench(monkeypatch):
    """Import the package vbench for one test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("motion_smoothness", "dynamic_degree"):
        pytest.importorskip(
            f"vbench.{name}", reason="vbench, decord, easydict or omegaconf missing"
        )
    yield sys.modules["vbench"]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("vbench", "networks")]:
        del sys.modules[name]


def draw_drifting_video(seed: int, frames: int, width: int, contrast: float = 1.0) -> Tensor:
    """Draw a video [T, 128, W, 3] of a soft picture that moves sideways."""
    coarse_picture = 0.5 + contrast * (
        np.random.default_rng(seed).random((6, 12, 3), np.float32) - 0.5
    )
    still_picture = cv2.resize(coarse_picture, (width, 128), interpolation=cv2.INTER_CUBIC).clip(
        0, 1
    )
    shifts_px = [3 * n + 2 * (n % 2) for n in range(frames)]
    return torch.from_numpy(
        np.stack([np.roll(still_picture, shift_px, axis=1) for shift_px in shifts_px])
    )


def decode_video(file: Path) -> np.ndarray:  # [T, H, W, 3] uint8
    stream, frames = cv2.VideoCapture(str(file)), []
    while (read_result := stream.read())[0]:
        frames.append(read_result[1][..., ::-1])
    return np.stack(frames)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_table1_is_vbenchs_and_cd_fvds(tmp_path, vbench, monkeypatch):
    """Check that ``evaluate --protocol table1`` gives the figures of vbench and cd-fvd."""
    cdfvd_module = pytest.importorskip("cdfvd.fvd")
    from cdfvd.utils.data_utils import preprocess
    from easydict import EasyDict
    from torchvision.models.optical_flow import raft_large

    truth_folder = tmp_path / "truths"
    made_folder = tmp_path / "made"
    contrast_by_clip = {"grey": 0.02, "bright": 1.0}
    for seed, (clip, contrast) in enumerate(contrast_by_clip.items()):
        write_video(
            truth_folder / f"{clip}.mp4", draw_drifting_video(seed, 18, 128), 30.0, threads=1
        )
        canvas = draw_drifting_video(seed + 5, 17, 352, contrast)
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
        network_state = {k: v.clone().contiguous() for k, v in network.state_dict().items()}
        weights[name] = tmp_path / f"{name}.safetensors"
        save_file(network_state, weights[name])
    options = EvaluateOptions(protocol="table1", weights=weights)
    report = evaluate(truth_folder, made_folder, tmp_path / "out", options).report
    assert not report["errors"]

    torch.save({"state_dict": amt.state_dict()}, tmp_path / "amt.pth")
    amt_config = Path(vbench.__file__).parent / "third_party" / "amt" / "cfgs" / "AMT-S.yaml"
    smoothness = sys.modules["vbench.motion_smoothness"].MotionSmoothness(
        str(amt_config), str(tmp_path / "amt.pth"), "cpu"
    )
    dynamic_degree_module = sys.modules["vbench.dynamic_degree"]
    raft_options = EasyDict(model=str(tmp_path / "raft.pth"), small=False, mixed_precision=False)
    reference_raft = dynamic_degree_module.RAFT(raft_options)
    for layer_class in (torch.nn.Conv2d, torch.nn.BatchNorm2d):  # the same layers in the same order
        layers = (
            [m for m in raft_network.modules() if isinstance(m, layer_class)]
            for raft_network in (reference_raft, raft)
        )
        for their_layer, layer in zip(*layers, strict=True):
            their_layer.load_state_dict(layer.state_dict())
    torch.save(reference_raft.state_dict(), raft_options.model)
    dynamic_degree = dynamic_degree_module.DynamicDegree(raft_options, "cpu")
    motions_px: list[list[float]] = []

    def record_motion(values: list[float]) -> bool:
        motions_px.append(values)
        dynamic_degree.params["thres"] = table1.MOTION_PX
        return dynamic_degree_module.DynamicDegree.check_move(dynamic_degree, values)

    monkeypatch.setattr(dynamic_degree, "check_move", record_motion)
    flow = RaftFlow(weights["raft"])
    for row in report["rows"]:
        values, file = row["metrics"]["generated"], made_folder / f"{row['clip']}.mp4"
        smoothness_score = smoothness.motion_score(str(file))
        assert values["motion_smoothness"] == pytest.approx(smoothness_score, abs=2e-6)
        assert (
            values["dynamic_degree"] == dynamic_degree.infer(str(file)) == (row["clip"] == "bright")
        )
        egox_motion_px = flow(torch.from_numpy(decode_video(file)[::4].copy()) / 255)
        assert egox_motion_px.tolist() == pytest.approx(motions_px[-1], abs=1e-4)

    torch.save(i3d.state_dict(), tmp_path / "i3d.pt")
    fvd_computer = cdfvd_module.cdfvd(
        "i3d", n_fake="full", ckpt_path=str(tmp_path / "i3d.pt"), device="cpu"
    )
    for folder, add_videos in (
        (truth_folder, fvd_computer.compute_real_stats),
        (made_folder, fvd_computer.compute_fake_stats),
    ):
        ego_videos = [
            torch.from_numpy(decode_video(folder / f"{c}.mp4")[:, :, -128:].copy())
            for c in contrast_by_clip
        ]
        add_videos([{"video": preprocess(crop, 224, 16)["video"][None]} for crop in ego_videos])
    egox_distance = report["sets"]["fvd"]["generated"]
    assert egox_distance > 0.1
    assert egox_distance == pytest.approx(fvd_computer.compute_fvd_from_stats(), rel=1e-3)
