"""Decode Ego Half: the ego part alone, upright, its circle, and the pinhole view on request."""

import importlib
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from egox_core.cameras import preset_camera
from egox_core.metrics import PathError
from egox_core.types import NOW, REDRAWN, seen_shares
from tests.poses import path_of, still
from tests.refusals import refuses
from tools.rigs import model_rig, standins


@pytest.fixture(scope="module")
def vae(pack, repo_root):
    return model_rig.load_vae(repo_root / "models" / standins.SHIPPED["vae"])


@pytest.fixture(scope="module")
def module(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half")


@pytest.fixture(scope="module")
def execute(module, vae):
    """Give execute(samples, made_of, inputs...), which returns the node's output."""

    def run(samples, made_of: dict | None = None, **inputs):
        latent = {"samples": samples} | ({module.MADE_OF: made_of} if made_of else {})
        with torch.inference_mode():
            return module.EgoXDecodeEgoHalf.execute(latent, vae, **{"pinhole_fov": 0.0, **inputs})

    return run


def test_whole_canvas_is_cropped_and_upright(execute, vae):
    wide = torch.randn(1, 16, 3, 4, 12)
    ego, circle, _ = execute(wide).result
    with torch.inference_mode():
        expected = vae.decode(wide[..., -4:])[0]
    assert torch.equal(ego, expected) and ego.shape == (9, 32, 32, 3)
    assert torch.equal(execute(wide[..., -4:]).result[0], ego)
    assert circle.shape == (9, 32, 32) and 0.5 < circle.mean() < 0.85, (
        "about pi/4 of a square, a bit off its centre"
    )


def test_tiles_are_the_hosts_own(execute, vae):
    import nodes as host_nodes

    samples = torch.randn(1, 16, 2, 16, 16)
    with torch.inference_mode():
        (expected,) = host_nodes.VAEDecodeTiled().decode(vae, {"samples": samples}, 96, 24)
    assert torch.equal(execute(samples, {"tile_size": 96}).result[0], expected)


def test_pinhole_view_needs_a_sane_angle(execute):
    samples = torch.randn(1, 16, 1, 4, 4)
    with refuses("field of view"):
        execute(samples, pinhole_fov=170.0)
    ego, circle, _ = execute(samples, pinhole_fov=90.0).result
    assert ego.shape == (1, 32, 32, 3) and circle.all()


def test_what_a_run_was_made_with(pack):
    """Only what lies behind the node counts, through any links. Long texts have a digest that
    changes with them."""
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

    values = upstream_values(graph("short"), "7")
    assert values == {
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
    lens = model_rig.core(pack, "cameras.presets").preset_camera("aria_released", 32)
    path = path_of(still(count), lens, fps)
    return model_rig.core(pack, "types").CameraTrajectory(ego=path.ego, exo=path.exo)


def test_a_native_video_with_the_sources_fps_and_sound(pack, execute):
    samples = torch.randn(1, 16, 3, 4, 4)
    sound = {"waveform": torch.randn(1, 2, 4410), "sample_rate": 44100}
    path = trajectory(pack, 9, 30000 / 1001)
    ego, _, video = execute(samples, trajectory=path, audio=sound).result
    parts = video.get_components()
    assert torch.equal(parts.images, ego) and parts.frame_rate == Fraction(30000, 1001)
    assert torch.equal(parts.audio["waveform"], sound["waveform"])
    silent = execute(samples)
    assert silent.result[2].get_components().frame_rate == 30, "nothing tells"
    assert streams_of(silent) == ["ego"]


def streams_of(out) -> list[str]:
    return [stream["name"] for stream in out.ui["egox_preview"][0]["streams"]]


def test_what_the_latent_was_made_of_is_shown_unless_something_is_connected(pack, execute):
    samples, prior = torch.randn(1, 16, 3, 4, 4), torch.rand(9, 32, 32, 3)
    made_of = {
        "exo_images": torch.rand(9, 32, 56, 3),
        "prior": prior,
        "trajectory": trajectory(pack, 9, 10.0),
    }
    answer = execute(samples, made_of)
    other = execute(samples, made_of, trajectory=trajectory(pack, 9, 20.0), ground_truth=prior)
    assert streams_of(answer) == ["exo", "prior", "ego"] == streams_of(other)[:3]
    assert streams_of(other)[3:] == ["truth"]
    assert answer.result[2].get_components().frame_rate == 10
    assert other.result[2].get_components().frame_rate == 20
    assert torch.equal(answer.result[0], other.result[0]), "what is shown beside it changes nothing"


def test_classes_of_the_prior_are_those_of_the_ego_video(execute, module):
    """They have its size and lens. No value that isn't a class appears, whatever is done to the
    map."""
    import folder_paths

    kinds = torch.tensor([0, 64, 128, 255], dtype=torch.uint8)
    classes = torch.full((9, 16, 16), 255, dtype=torch.uint8)
    classes[:, :, 8:], classes[8] = kinds[torch.randint(4, (9, 16, 8))], 0
    samples = torch.randn(1, 16, 3, 4, 4)
    assert execute(samples).ui["egox_preview"][0]["seen"] is None
    for fov in (0.0, 90.0):
        made_of = {"seen": classes, "prior": torch.rand(9, 16, 16, 3)}
        preview = execute(samples, made_of, pinhole_fov=fov).ui["egox_preview"][0]
        sent = preview["seen"]
        assert (sent["name"], sent["count"], sent["width"]) == ("seen", 9, 32)
        folder = Path(folder_paths.get_temp_directory()) / "egox"
        sheet = cv2.imread(str(folder / sent["files"][0]["filename"]), cv2.IMREAD_UNCHANGED)
        assert sheet.ndim == 2 and set(np.unique(sheet)) <= {*kinds.tolist(), REDRAWN}
        first, shares = sheet[:32, :32], sent["shares"]
        if not fov:
            enlarged = classes[0].numpy().repeat(2, 0).repeat(2, 1)
            changed = first != enlarged
            assert (first[changed] == REDRAWN).all() and (enlarged[changed] >= 128).all()
            assert shares["now"][0] == pytest.approx((enlarged == 255).mean())
        share = sent["redrawn"][0]  # of noise mostly None: can't be judged
        assert (share or 0) == pytest.approx((first == REDRAWN).mean())
        assert np.allclose(sum(np.array(share) for share in shares.values()), 1)
        assert shares["unobserved"][8] == 1
        assert "% never seen (most in frame 8: 100 %)" in preview["text"]


def test_shares_of_what_exo_saw_are_the_prior_s_whatever_a_video_shows(pack):
    """Only the marks turn with the view that was found."""
    lens = preset_camera("aria_released", 64)
    lost, classes = (torch.zeros(2, 64, 64, dtype=kind) for kind in (torch.bool, torch.uint8))
    classes[:, 16:40, 8:40] = NOW
    observed = importlib.import_module(f"{pack.__name__}.nodes.observed").Observed(
        frames=torch.zeros(2, 64, 64, 3),
        seen=classes,
        marked=classes,
        redrawn=lost,
        kept=lost,
        judged=lost[:, 0, 0],
    )
    videos = [
        observed.shown_as(
            PathError(
                turn_deg=torch.tensor([[0.0, turn, 0.0]]),
                spread_deg=torch.ones(1),
                score=torch.ones(1),
                shift_m=torch.zeros(1, 3),
                step=2,
            ),
            lens,
            None,
        )
        for turn in (30.0, -45.0)
    ]
    shares, marks = ([each(video) for video in videos] for each in (shares_of, marks_of))
    assert shares[0] == shares[1] == shares_of(observed)
    assert len({mark.tobytes() for mark in (*marks, marks_of(observed))}) == 3


def shares_of(observed) -> dict:
    return {name: share.tolist() for name, share in seen_shares(observed.seen).items()}


def marks_of(observed) -> np.ndarray:
    return observed.classes(1).numpy()


def test_observed_pixels_are_put_back(execute):
    samples = torch.randn(1, 16, 3, 8, 8)
    plain = execute(samples).result[0]
    prior = (plain + 0.02 * torch.randn(plain.shape)).clamp(0, 1)
    classes = torch.zeros(9, 64, 64, dtype=torch.uint8)
    classes[:, 16:48, 16:48] = 255
    made_of = {"seen": classes, "prior": prior}
    for keep in (0.0, 1.0):
        out = execute(samples, made_of, keep_observed=keep)
        changed = (out.result[0] != plain).any(-1)
        assert changed.any() == (keep > 0) and not changed[classes == 0].any()
        text = out.ui["egox_preview"][0]["text"]
        (sentence,) = (line for line in text.splitlines() if "%" in line)
        now, drawn = re.search(r"sees (\d+) % now .*?(\d+) % drawn otherwise", sentence).groups()
        kept = re.search(r"\((\d+) % copied by keep_observed, ", sentence)
        assert bool(kept) == (keep > 0)
        assert int(now) == 25 >= int(drawn) + int(kept[1] if kept else 0), "parts of the whole"
    assert torch.equal(execute(samples, keep_observed=1.0).result[0], plain), "nothing is known"


@pytest.fixture(scope="module")
def judgement(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.show.judgement")


def test_psnr_to_the_truth_stands_beside_the_run_before(judgement):
    def line(frames, truth) -> str:
        return judgement.truth_psnr(frames, truth, "a")[1]

    truth = torch.full((2, 12, 12, 3), 0.5)
    assert line(truth + 0.1, truth) == "PSNR to the truth 20.0 dB"
    assert line(truth + 0.01, truth).endswith("40.0 dB; the run before 20.0 dB")
    assert "before" not in line(truth, truth - 0.1), "another take's"


def test_the_truth_beside_the_exo_video_is_found(judgement, repo_root):
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
    truth = judgement.truth_beside(graph, (128, 128))
    decoded = list(
        av.open(str(repo_root / "sample" / "calm_room" / "ego_ground_truth.mp4")).decode(video=0)
    )
    assert truth.shape == (5, 128, 128, 3)
    expected = cv2.resize(
        decoded[2].to_ndarray(format="rgb24"), (128, 128), interpolation=cv2.INTER_AREA
    )
    assert np.abs(truth[0].numpy() * 255 - expected).mean() < 2
    assert judgement.truth_beside(graph | {"2": graph["1"]}, (128, 128)) is None, (
        "of which of two videos?"
    )
