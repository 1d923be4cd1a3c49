"""Decode Ego Half: the ego part alone, upright, its circle, and the pinhole view on request."""

from __future__ import annotations

import importlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch

from tools.rigs import model_rig
from tools.rigs import standins as standins

DEFAULTS = {"pinhole_fov": 0.0}


@pytest.fixture(scope="module")
def vae(pack, repo_root):
    return model_rig.load_vae(repo_root / "models" / standins.SHIPPED["vae"])


def decode(pack, vae, samples, **changes):
    node = importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half").EgoXDecodeEgoHalf
    with torch.inference_mode():
        return node.execute({"samples": samples}, vae, **{**DEFAULTS, **changes}).result


def test_whole_canvas_is_cropped_and_upright(pack, vae):
    wide = torch.randn(1, 16, 3, 4, 12)
    ego, circle, _ = decode(pack, vae, wide)
    with torch.inference_mode():
        expected = vae.decode(wide[..., -4:])[0]
    assert torch.equal(ego, expected) and ego.shape == (9, 32, 32, 3)
    assert torch.equal(decode(pack, vae, wide[..., -4:])[0], ego)
    assert circle.shape == (9, 32, 32) and 0.5 < circle.mean() < 0.85, (
        "about pi/4 of a square, a bit off its centre"
    )


def test_exo_half_is_never_decoded(pack, vae, monkeypatch):
    widths = []
    inner = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z: widths.append(z.shape[-1]) or inner(z))
    decode(pack, vae, torch.randn(1, 16, 3, 4, 12))
    assert widths == [4]


def test_tiles_are_the_hosts_own(pack, vae):
    import nodes as host_nodes

    samples = torch.randn(1, 16, 2, 16, 16)
    with torch.inference_mode():
        (expected,) = host_nodes.VAEDecodeTiled().decode(vae, {"samples": samples}, 96, 24)
    key = importlib.import_module(f"{pack.__name__}.nodes.io_types").MADE_OF
    node = importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half").EgoXDecodeEgoHalf
    with torch.inference_mode():
        made = node.execute({"samples": samples, key: {"tile_size": 96}}, vae, **DEFAULTS).result
    assert torch.equal(made[0], expected)


def test_pinhole_view_needs_a_sane_angle(pack, vae):
    error = model_rig.core(pack, "errors").EgoXInputError
    with pytest.raises(error, match="field of view"):
        decode(pack, vae, torch.randn(1, 16, 1, 4, 4), pinhole_fov=170.0)
    ego, circle, _ = decode(pack, vae, torch.randn(1, 16, 1, 4, 4), pinhole_fov=90.0)
    assert ego.shape == (1, 32, 32, 3) and circle.all()


def test_what_a_run_was_made_with(pack):
    """Only what lies behind the node, through any links; long texts by a digest that changes with
    them."""
    upstream_values = importlib.import_module(f"{pack.__name__}.nodes.host.graph").upstream_values

    def graph(text: str) -> dict:
        return {
            "1": {"class_type": "EgoXWanSampler", "inputs": {"lambda_g": 3, "model": ["5:2", 0]}},
            "5:2": {"class_type": "EgoXLoadLora", "inputs": {"strength": 0.5, "note": text}},
            "7": {
                "class_type": "EgoXDecodeEgoHalf",
                "inputs": {"latent": ["1", 0], "view": "fisheye"},
            },
            "8": {"class_type": "SaveVideo", "inputs": {"images": ["7", 0], "format": "mp4"}},
        }

    seen = upstream_values(graph("short"), "7")
    assert seen == {
        "7": {"kind": "EgoXDecodeEgoHalf", "values": {"view": "fisheye"}},
        "1": {"kind": "EgoXWanSampler", "values": {"lambda_g": 3.0}},
        "5:2": {"kind": "EgoXLoadLora", "values": {"strength": 0.5, "note": "short"}},
    }
    first, second = (
        upstream_values(graph(text * 100), "7")["5:2"]["values"]["note"] for text in "ab"
    )
    assert first.keys() == second.keys() == {"digest"} and first != second
    assert upstream_values({}, "7") == {}


def trajectory(pack, count: int, fps: float):
    types = importlib.import_module(f"{pack.__name__}.egox_core.types")
    camera = importlib.import_module(f"{pack.__name__}.egox_core.cameras.presets").preset_camera(
        "aria_released", 32
    )
    return types.CameraTrajectory(
        w2c=torch.eye(4, dtype=torch.float64)[:3].repeat(count, 1, 1),
        camera=camera,
        times_s=torch.arange(count, dtype=torch.float64) / fps,
    )


def test_a_native_video_with_the_sources_fps_and_sound(pack, vae):
    samples = torch.randn(1, 16, 3, 4, 4)
    sound = {"waveform": torch.randn(1, 2, 4410), "sample_rate": 44100}
    ego, _, video = decode(
        pack, vae, samples, trajectory=trajectory(pack, 9, 30000 / 1001), audio=sound
    )
    parts = video.get_components()
    assert torch.equal(parts.images, ego) and parts.frame_rate == Fraction(30000, 1001)
    assert torch.equal(parts.audio["waveform"], sound["waveform"])
    assert decode(pack, vae, samples)[2].get_components().frame_rate == 30, "nothing tells"


def test_what_the_latent_was_made_of_is_shown_unless_something_is_connected(pack, vae):
    node = importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half").EgoXDecodeEgoHalf
    key = importlib.import_module(f"{pack.__name__}.nodes.io_types").MADE_OF
    latent = {
        "samples": torch.randn(1, 16, 3, 4, 4),
        key: {
            "exo_images": torch.rand(9, 32, 56, 3),
            "prior": torch.rand(9, 32, 32, 3),
            "trajectory": trajectory(pack, 9, 10.0),
        },
    }
    with torch.inference_mode():
        made = node.execute(latent, vae, **DEFAULTS)
        other = node.execute(latent, vae, **DEFAULTS, trajectory=trajectory(pack, 9, 20.0))
    shown = [stream["name"] for stream in made.ui["egox_preview"][0]["streams"]]
    assert shown == ["exo", "prior", "ego"] and made.result[2].get_components().frame_rate == 10
    assert other.result[2].get_components().frame_rate == 20


def test_psnr_to_the_truth_stands_beside_the_run_before(pack):
    module = importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half")
    truth = torch.full((2, 8, 8, 3), 0.5)
    assert module.truth_line(truth + 0.1, truth, "a") == "PSNR to the truth 20.0 dB"
    assert module.truth_line(truth + 0.01, truth, "a").endswith("40.0 dB; the run before 20.0 dB")
    assert "before" not in module.truth_line(truth, truth - 0.1, "a"), "another take's"


def test_the_truth_beside_the_exo_video_is_found(pack, repo_root):
    module = importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half")
    video = {
        "file": "sample/calm_room/exo.mp4",
        "start_frame": 2,
        "frame_count": 5,
        "target_fps": 0.0,
        "resize": "crop",
        "width": 224,
        "height": 128,
    }
    graph = {"1": {"class_type": "EgoXLoadExoVideo", "inputs": video}}
    found = module.truth_beside(graph, (128, 128))
    whole = list(
        av.open(str(repo_root / "sample" / "calm_room" / "ego_ground_truth.mp4")).decode(video=0)
    )
    assert found.shape == (5, 128, 128, 3)
    wanted = cv2.resize(
        whole[2].to_ndarray(format="rgb24"), (128, 128), interpolation=cv2.INTER_AREA
    )
    assert np.abs(found[0].numpy() * 255 - wanted).mean() < 2
    assert module.truth_beside(graph | {"2": graph["1"]}, (128, 128)) is None, (
        "of which of two videos?"
    )
