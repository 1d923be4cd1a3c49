"""Test the node Decode Ego Half."""

import importlib
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from egox_core.cameras import preset_camera
from egox_core.metrics import PathError
from egox_core.types import NOW, REDRAWN, seen_shares
from tests.poses import make_path, still_poses
from tests.refusals import refuses
from tools.rigs import model_rig, standins


@pytest.fixture(scope="module")
def vae(pack, repo_root):
    return model_rig.load_vae(repo_root / "models" / standins.SHIPPED["vae"])


@pytest.fixture(scope="module")
def decode_module(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.decode_ego_half")


@pytest.fixture(scope="module")
def decode_latent(decode_module, vae):
    """Provide a function that runs the decoding node on a latent."""

    def decode(samples, made_of: dict | None = None, **inputs):
        latent = {"samples": samples} | ({decode_module.LATENT_SOURCES: made_of} if made_of else {})
        with torch.inference_mode():
            return decode_module.EgoXDecodeEgoHalf.execute(
                latent, vae, **{"pinhole_fov": 0.0, **inputs}
            )

    return decode


def test_the_whole_canvas_is_cropped_to_the_upright_ego_half(decode_latent, vae):
    canvas_latent = torch.randn(1, 16, 3, 4, 12)
    ego_frames, circle_mask, *_ = decode_latent(canvas_latent).result
    with torch.inference_mode():
        expected_frames = vae.decode(canvas_latent[..., -4:])[0]
    assert torch.equal(ego_frames, expected_frames)
    assert ego_frames.shape == (9, 32, 32, 3)
    assert torch.equal(decode_latent(canvas_latent[..., -4:]).result[0], ego_frames)
    assert circle_mask.shape == (9, 32, 32) and 0.5 < circle_mask.mean() < 0.85, (
        "about pi/4 of a square, a bit off its centre"
    )


def test_decoding_in_tiles_equals_comfyuis_own(decode_latent, vae):
    import nodes as host_nodes

    samples = torch.randn(1, 16, 2, 16, 16)
    with torch.inference_mode():
        (expected_frames,) = host_nodes.VAEDecodeTiled().decode(vae, {"samples": samples}, 96, 24)
    assert torch.equal(decode_latent(samples, {"tile_size": 96}).result[0], expected_frames)


def test_a_pinhole_view_is_decoded_and_refuses_a_wrong_angle(decode_latent):
    samples = torch.randn(1, 16, 1, 4, 4)
    with refuses("field of view"):
        decode_latent(samples, pinhole_fov=170.0)
    ego_frames, circle_mask, *_ = decode_latent(samples, pinhole_fov=90.0).result
    assert ego_frames.shape == (1, 32, 32, 3)
    assert circle_mask.all()


def test_colour_is_chosen_and_a_turn_that_is_not_measured_changes_nothing(decode_latent):
    samples = torch.randn(1, 16, 1, 4, 4)
    plain_frames = decode_latent(samples).result[0]
    for straighten in ("picture", "camera"):
        frames, *_, trajectory = decode_latent(samples, straighten=straighten).result
        assert torch.equal(frames, plain_frames) and trajectory is None
    tint_frames = decode_latent(samples, colour="tint").result[0]
    assert tint_frames[..., 2].mean() < plain_frames[..., 2].mean()
    with refuses("without the exo video"):
        decode_latent(samples, colour="as exo")


def test_a_turned_latent_is_straightened_or_its_path_corrected(pack, decode_module, repo_root):
    """Check frames, sound, classes and path of a true video whose ordered path is turned."""
    from egox_pack.egox_core import stages
    from egox_pack.egox_core.metrics import ClipTurn
    from egox_pack.lab.drawn import SyntheticSpec, make_take
    from egox_pack.nodes.host.vae import encode_video

    vae = model_rig.load_vae(repo_root / "models" / "demo" / "vae" / "egox_demo_vae.safetensors")
    spec = SyntheticSpec(
        seed=900_001, frames=5, exo_width=224, exo_height=128, ego_size=128, edge_samples=1
    )
    take = make_take(spec)
    turn_deg = torch.tensor([1.0, 7.0, -1.0], dtype=torch.float64)
    turned_back = replace(ClipTurn.unjudged(""), turn_deg=-turn_deg, interval_deg=0.5)
    ordered = turned_back.correct_path(take.trajectory())
    scene, _ = stages.scene(take.exo_rgb, take.depth_video())
    prior, _ = stages.prior(scene, ordered, classes=True)
    sound = {"waveform": torch.randn(1, 2, 4410), "sample_rate": 44100}
    with torch.inference_mode():
        samples = encode_video(vae, take.ego_frames(), 0)

    def decode(straighten: str):
        sources = {"scene": scene, "trajectory": ordered, "prior": prior.rgb, "seen": prior.seen}
        latent = {"samples": samples, decode_module.LATENT_SOURCES: sources}
        with torch.inference_mode():
            return decode_module.EgoXDecodeEgoHalf.execute(
                latent, vae, 0.0, straighten=straighten, audio=sound
            )

    outputs = {choice: decode(choice) for choice in ("off", "picture", "camera")}
    frames = {choice: output.result[0] for choice, output in outputs.items()}
    assert torch.equal(frames["camera"], frames["off"])
    paths = {choice: output.result[4] for choice, output in outputs.items()}
    assert paths["off"] is paths["picture"] is ordered
    left_deg = torch.tensor(paths["camera"].corrected_deg)  # turned back, and corrected again
    assert left_deg.norm() < 1 < 6 < torch.tensor(ordered.corrected_deg).norm()
    errors = {c: (frames[c] - prior.rgb)[prior.seen == NOW].square().mean() for c in frames}
    assert errors["picture"] < 0.8 * errors["off"]
    previews = {choice: output.ui["egox_preview"][0] for choice, output in outputs.items()}
    redrawn = {choice: np.mean(preview["seen"]["redrawn"]) for choice, preview in previews.items()}
    assert redrawn["picture"] < 0.5 * redrawn["off"], "classes lie on what they name again"
    assert "Straightened by 7°" in previews["picture"]["text"]
    assert "Camera path corrected by 7°" in previews["camera"]["text"]
    for output in outputs.values():
        components = output.result[2].get_components()
        assert torch.equal(components.audio["waveform"], sound["waveform"])
        assert components.images.shape == frames["off"].shape


def test_values_upstream_of_a_node_are_collected(pack):
    """Check that the values of all upstream nodes are collected."""
    upstream_values = importlib.import_module(f"{pack.__name__}.nodes.host.graph").upstream_values

    def make_graph(text: str) -> dict:
        return {
            "1": {"class_type": "EgoXWanSampler", "inputs": {"lambda_g": 3, "model": ["5:2", 0]}},
            "5:2": {"class_type": "EgoXLoadLora", "inputs": {"strength": 0.5, "note": text}},
            "7": {
                "class_type": "EgoXDecodeEgoHalf",
                "inputs": {"latent": ["1", 0], "view": "fisheye"},
            },
            "8": {"class_type": "SaveVideo", "inputs": {"images": ["7", 0], "format": "mp4"}},
        }

    node_values = upstream_values(make_graph("short"), "7")
    assert node_values == {
        "7": {"kind": "EgoXDecodeEgoHalf", "values": {"view": "fisheye"}},
        "1": {"kind": "EgoXWanSampler", "values": {"lambda_g": 3.0}},
        "5:2": {"kind": "EgoXLoadLora", "values": {"strength": 0.5, "note": "short"}},
    }
    first_digest, second_digest = (
        upstream_values(make_graph(text * 100), "7")["5:2"]["values"]["note"] for text in "ab"
    )
    assert (
        first_digest.keys() == second_digest.keys() == {"digest"} and first_digest != second_digest
    )
    assert upstream_values({}, "7") == {}


def make_trajectory(pack, count: int, fps: float):
    camera = model_rig.import_core_module(pack, "cameras.presets").preset_camera(
        "aria_released", 32
    )
    camera_path = make_path(still_poses(count), camera, fps)
    return model_rig.import_core_module(pack, "types").CameraTrajectory(
        ego=camera_path.ego, exo=camera_path.exo
    )


def test_the_video_output_has_the_sources_frame_rate_and_sound(pack, decode_latent):
    samples = torch.randn(1, 16, 3, 4, 4)
    sound = {"waveform": torch.randn(1, 2, 4410), "sample_rate": 44100}
    camera_trajectory = make_trajectory(pack, 9, 30000 / 1001)
    ego_frames, _, video, *_ = decode_latent(
        samples, trajectory=camera_trajectory, audio=sound
    ).result
    components = video.get_components()
    assert torch.equal(components.images, ego_frames) and components.frame_rate == Fraction(
        30000, 1001
    )
    assert torch.equal(components.audio["waveform"], sound["waveform"])
    silent_output = decode_latent(samples)
    assert silent_output.result[2].get_components().frame_rate == 30, "nothing gives a frame rate"
    assert stream_names(silent_output) == ["ego"]


def stream_names(node_output) -> list[str]:
    return [stream["name"] for stream in node_output.ui["egox_preview"][0]["streams"]]


def test_the_preview_shows_the_latents_sources_or_the_connected_inputs(pack, decode_latent):
    samples = torch.randn(1, 16, 3, 4, 4)
    prior = torch.rand(9, 32, 32, 3)
    sources = {
        "exo_images": torch.rand(9, 32, 56, 3),
        "prior": prior,
        "trajectory": make_trajectory(pack, 9, 10.0),
    }
    default_output = decode_latent(samples, sources)
    connected_output = decode_latent(
        samples, sources, trajectory=make_trajectory(pack, 9, 20.0), ground_truth=prior
    )
    assert (
        stream_names(default_output)
        == ["exo", "prior", "ego"]
        == stream_names(connected_output)[:3]
    )
    assert stream_names(connected_output)[3:] == ["truth"]
    silent_film, true_film = (
        output.result[3].get_components() for output in (default_output, connected_output)
    )
    assert silent_film.images.shape == (9, 16 + 32, 56 + 2 * (32 + 4), 3)
    assert true_film.images.shape == (9, 16 + 32, 56 + 3 * (32 + 4), 3)
    true_part = true_film.images[:, -32:, -32:].float()
    assert torch.allclose(true_part, prior, atol=0.005), "the last part is the truth"
    assert default_output.result[2].get_components().frame_rate == 10
    assert connected_output.result[2].get_components().frame_rate == 20
    assert torch.equal(default_output.result[0], connected_output.result[0]), (
        "what is shown beside it changes nothing"
    )


def test_the_preview_resizes_the_priors_classes_without_new_values(decode_latent, decode_module):
    """Check that a class map resized to the video's size and lens contains class values only."""
    import folder_paths

    class_values = torch.tensor([0, 64, 128, 255], dtype=torch.uint8)
    classes = torch.full((9, 16, 16), 255, dtype=torch.uint8)
    classes[:, :, 8:] = class_values[torch.randint(4, (9, 16, 8))]
    classes[8] = 0
    samples = torch.randn(1, 16, 3, 4, 4)
    assert decode_latent(samples).ui["egox_preview"][0]["seen"] is None
    for fov in (0.0, 90.0):
        sources = {"seen": classes, "prior": torch.rand(9, 16, 16, 3)}
        preview = decode_latent(samples, sources, pinhole_fov=fov).ui["egox_preview"][0]
        seen_stream = preview["seen"]
        assert (seen_stream["name"], seen_stream["count"], seen_stream["width"]) == ("seen", 9, 32)
        folder = Path(folder_paths.get_temp_directory()) / "egox"
        sheet_picture = cv2.imread(
            str(folder / seen_stream["files"][0]["filename"]), cv2.IMREAD_UNCHANGED
        )
        assert sheet_picture.ndim == 2 and set(np.unique(sheet_picture)) <= {
            *class_values.tolist(),
            REDRAWN,
        }
        first_frame = sheet_picture[:32, :32]
        shares = seen_stream["shares"]
        if not fov:
            enlarged_classes = classes[0].numpy().repeat(2, 0).repeat(2, 1)
            changed_mask = first_frame != enlarged_classes
            assert (first_frame[changed_mask] == REDRAWN).all()
            assert (enlarged_classes[changed_mask] >= 128).all()
            assert shares["now"][0] == pytest.approx((enlarged_classes == 255).mean())
        redrawn_share = seen_stream["redrawn"][0]  # of noise mostly None: can't be judged
        assert (redrawn_share or 0) == pytest.approx((first_frame == REDRAWN).mean())
        assert np.allclose(sum(np.array(share) for share in shares.values()), 1)
        assert shares["unobserved"][8] == 1
        assert "% never seen (most in frame 8: 100 %)" in preview["text"]


def test_a_video_that_looks_elsewhere_changes_marks_but_no_shares(pack):
    camera = preset_camera("aria_released", 64)
    empty_mask, classes = (torch.zeros(2, 64, 64, dtype=kind) for kind in (torch.bool, torch.uint8))
    classes[:, 16:40, 8:40] = NOW
    observed = importlib.import_module(f"{pack.__name__}.nodes.observed").Observed(
        frames=torch.zeros(2, 64, 64, 3),
        seen=classes,
        shown_classes=classes,
        redrawn=empty_mask,
        kept=empty_mask,
        judged=empty_mask[:, 0, 0],
    )
    videos = [
        observed.match_view(
            PathError(
                turn_deg=torch.tensor([[0.0, turn_deg, 0.0]]),
                spread_deg=torch.ones(1),
                score=torch.ones(1),
                shift_m=torch.zeros(1, 3),
                step=2,
            ),
            camera,
            None,
        )
        for turn_deg in (30.0, -45.0)
    ]
    shares, mark_maps = (
        [read_value(video) for video in videos] for read_value in (read_shares, read_marks)
    )
    assert shares[0] == shares[1] == read_shares(observed)
    assert len({mark_map.tobytes() for mark_map in (*mark_maps, read_marks(observed))}) == 3


@pytest.mark.parametrize(("fitting_frames", "is_said"), [(1, False), (2, True)])
def test_what_is_redrawn_is_said_if_half_of_the_frames_fit(pack, fitting_frames, is_said):
    torch.manual_seed(3)
    module = importlib.import_module(f"{pack.__name__}.nodes.observed")
    coarse, other = torch.rand(2, 3, 3, 16, 16)
    prior, video = (
        torch.nn.functional.interpolate(each, scale_factor=4).movedim(1, -1)
        for each in (coarse, other)
    )
    video[:fitting_frames] = prior[:fitting_frames]
    classes = torch.full((3, 64, 64), NOW, dtype=torch.uint8)
    observed = module.compare_with_prior(prior, classes, video, keep=0.0)
    assert observed.judged.tolist() == [is_said and t < fitting_frames for t in range(3)]
    assert ("redrawn by the model" in observed.describe_parts()) == is_said
    assert ("in 1 of 3 frames" in observed.doubts()[0]) == is_said
    assert is_said or not observed.redrawn.any()


def read_shares(observed) -> dict:
    return {name: share.tolist() for name, share in seen_shares(observed.seen).items()}


def read_marks(observed) -> np.ndarray:
    return observed.classes(1).numpy()


def test_keep_observed_copies_observed_pixels_of_the_prior(decode_latent):
    samples = torch.randn(1, 16, 3, 8, 8)
    plain_frames = decode_latent(samples).result[0]
    prior = (plain_frames + 0.02 * torch.randn(plain_frames.shape)).clamp(0, 1)
    classes = torch.zeros(9, 64, 64, dtype=torch.uint8)
    classes[:, 16:48, 16:48] = 255
    sources = {"seen": classes, "prior": prior}
    for keep_observed in (0.0, 1.0):
        node_output = decode_latent(samples, sources, keep_observed=keep_observed)
        changed_mask = (node_output.result[0] != plain_frames).any(-1)
        assert changed_mask.any() == (keep_observed > 0)
        assert not changed_mask[classes == 0].any()
        text = node_output.ui["egox_preview"][0]["text"]
        (sentence,) = (line for line in text.splitlines() if "%" in line)
        now_percent, redrawn_percent = re.search(
            r"sees (\d+) % now .*?(\d+) % redrawn", sentence
        ).groups()
        kept_match = re.search(r"\((\d+) % copied from the prior, ", sentence)
        assert bool(kept_match) == (keep_observed > 0)
        edge_match = re.search(r"(\d+) % at edges as generated", sentence)
        assert bool(edge_match) == bool(kept_match)
        assert int(now_percent) == 25 >= int(redrawn_percent)
        if kept_match and edge_match:
            part_percents = map(int, (kept_match[1], redrawn_percent, edge_match[1]))
            assert sum(part_percents) == pytest.approx(25, abs=1.5), "parts of the whole"
    assert torch.equal(decode_latent(samples, keep_observed=1.0).result[0], plain_frames), (
        "nothing is known"
    )


@pytest.fixture(scope="module")
def judgement_module(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.show.judgement")


def test_the_psnr_is_shown_beside_that_of_the_previous_run(judgement_module):
    def psnr_text(frames, truth, graph="demo") -> str:
        return judgement_module.truth_psnr(frames, truth, (graph, "16"))[1]

    truth = torch.full((2, 12, 12, 3), 0.5)
    assert psnr_text(truth + 0.1, truth) == "PSNR to the truth 20.0 dB"
    assert psnr_text(truth + 0.01, truth).endswith("40.0 dB; the run before 20.0 dB")
    assert "before" not in psnr_text(truth + 0.1, truth, "demo_episode"), "another graph's"
    assert "before" not in psnr_text(truth, truth - 0.1), "another take's"


def test_the_ego_video_beside_the_exo_video_is_found(pack, repo_root):
    truth_module = importlib.import_module(f"{pack.__name__}.nodes.host.truth")
    video_inputs = {
        "file": "sample/calm_room/exo.mp4",
        "start_frame": 2,
        "frame_count": 5,
        "target_fps": 0.0,
        "resize": "crop",
        "width": 224,
        "height": 128,
    }
    graph = {"1": {"class_type": "EgoXLoadExoVideo", "inputs": video_inputs}}
    true_frames = truth_module.read_truth_beside(graph, (128, 128))
    decoded_clips = list(
        av.open(str(repo_root / "sample" / "calm_room" / "ego_ground_truth.mp4")).decode(video=0)
    )
    assert true_frames.shape == (5, 128, 128, 3)
    expected_frame = cv2.resize(
        decoded_clips[2].to_ndarray(format="rgb24"), (128, 128), interpolation=cv2.INTER_AREA
    )
    assert np.abs(true_frames[0].numpy() * 255 - expected_frame).mean() < 2
    assert truth_module.read_truth_beside(graph | {"2": graph["1"]}, (128, 128)) is None, (
        "of which of two videos?"
    )


def test_nan_of_a_vae_is_named_instead_of_a_black_video(decode_module, repo_root, tmp_path):
    """Check that a NaN in one weight of the VAE's decoder is refused, and one in the latent."""
    vae_file = repo_root / "models" / standins.SHIPPED["vae"]
    with safe_open(vae_file, "pt") as weights:
        metadata, tensors = weights.metadata(), {k: weights.get_tensor(k) for k in weights.keys()}
    bias_name = [k for k in tensors if k.startswith("decoder") and k.endswith("bias")][-1]
    tensors[bias_name].view(-1)[0] = float("nan")
    save_file(tensors, tmp_path / "vae.safetensors", metadata=metadata)
    samples = torch.randn(1, 16, 2, 4, 4)
    decode = decode_module.EgoXDecodeEgoHalf.execute
    with torch.inference_mode(), refuses("NaN.* in 5 of 5 frames.*VAE.*--fp32-vae"):
        decode({"samples": samples}, model_rig.load_vae(tmp_path / "vae.safetensors"), 0.0)
    samples[0, 0, 0, 0, 0] = float("nan")
    with torch.inference_mode(), refuses("latent to decode: got NaN"):
        decode({"samples": samples}, model_rig.load_vae(vae_file), 0.0)
