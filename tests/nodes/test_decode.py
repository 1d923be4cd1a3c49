"""Test the node Decode Ego Half."""

import importlib
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from egox_core.types import NOW, REDRAWN
from egox_core.video import RELEASED_TINT, decode_frames, probe_video
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
    import nodes as host_nodes

    canvas_latent = torch.randn(1, 16, 3, 4, 12)
    ego_half = canvas_latent[..., -4:]
    ego_frames, circle_mask, *_ = decode_latent(canvas_latent).result
    with torch.inference_mode():
        expected_frames = vae.decode(ego_half)[0]
        large_latent = {"samples": torch.randn(1, 16, 2, 16, 16)}
        (tiled_frames,) = host_nodes.VAEDecodeTiled().decode(vae, large_latent, 96, 24)
    assert torch.equal(ego_frames, expected_frames) and ego_frames.shape == (9, 32, 32, 3)
    assert torch.equal(decode_latent(ego_half).result[0], ego_frames)
    assert circle_mask.shape == (9, 32, 32) and 0.5 < circle_mask.mean() < 0.85
    in_tiles = decode_latent(large_latent["samples"], {"tile_size": 96}).result[0]
    assert torch.equal(in_tiles, tiled_frames)


def test_colour_is_chosen_and_a_turn_that_is_not_measured_changes_nothing(decode_latent):
    samples = torch.randn(1, 16, 1, 4, 4)
    plain_frames = decode_latent(samples).result[0]
    for straighten in ("picture", "camera"):
        frames, *_, trajectory = decode_latent(samples, straighten=straighten).result
        assert torch.equal(frames, plain_frames) and trajectory is None
    tinted = {"tint": RELEASED_TINT.text()}
    tint_frames = decode_latent(samples, tinted, colour="tint").result[0]
    assert tint_frames[..., 2].mean() < plain_frames[..., 2].mean()
    yellow = {"exo_images": plain_frames * torch.tensor([1.0, 0.9, 0.5]), "loras": "LoRA mix"}
    for made_of, expected in (({}, plain_frames), (yellow, None)):
        output = decode_latent(samples, made_of, colour="tint")
        if expected is None:
            expected = decode_latent(samples, made_of, colour="as exo").result[0]
        assert torch.equal(output.result[0], expected)
    assert "Colours as exo: no tint is known of LoRA mix" in output.ui["egox_preview"][0]["text"]
    assert decode_latent(samples, pinhole_fov=90.0).result[1].all()
    for inputs, words in (({"colour": "as exo"}, "exo video"), ({"pinhole_fov": 170.0}, "view")):
        with refuses(words):
            decode_latent(samples, **inputs)


def test_a_turned_latent_is_straightened_or_its_path_corrected(pack, decode_module, repo_root):
    """Check frames, sound, classes and path of a true video whose ordered path is turned."""
    from egox_pack.egox_core import stages
    from egox_pack.egox_core.metrics import ClipTurn
    from egox_pack.lab.drawn import SyntheticSpec, make_take
    from egox_pack.nodes.host.vae import encode_video

    vae = model_rig.load_vae(repo_root / "models" / "demo" / "vae" / "egox_demo_vae.safetensors")
    spec = SyntheticSpec(
        seed=900_001, frames=1, exo_width=224, exo_height=128, ego_size=128, edge_samples=1
    )
    take = make_take(spec)
    turn_deg = torch.tensor([-1.0, -7.0, 1.0], dtype=torch.float64)
    turn = replace(ClipTurn.unjudged(""), turn_deg=turn_deg, interval_deg=0.5)
    ordered = turn.correct_path(take.trajectory())
    scene, _ = stages.scene(take.exo_rgb, take.depth_video())
    prior, _ = stages.prior(scene, ordered, classes=True)
    sound = {"waveform": torch.randn(1, 2, 4410), "sample_rate": 44100}
    sources = {"scene": scene, "trajectory": ordered, "prior": prior.rgb, "seen": prior.seen}
    frames, paths, previews = {}, {}, {}
    with torch.inference_mode():
        samples = encode_video(vae, take.ego_frames(), 0)
        for choice in ("off", "picture", "camera"):
            latent = {"samples": samples, decode_module.LATENT_SOURCES: sources}
            output = decode_module.EgoXDecodeEgoHalf.execute(
                latent, vae, 0.0, straighten=choice, audio=sound
            )
            frames[choice], _, video, _, paths[choice] = output.result
            previews[choice] = output.ui["egox_preview"][0]
            audio = video.get_components().audio
            assert torch.equal(audio["waveform"], sound["waveform"])
    assert torch.equal(frames["camera"], frames["off"])
    assert paths["off"] is paths["picture"] is ordered
    left_deg = torch.tensor(paths["camera"].corrected_deg)  # turned back, and corrected again
    assert left_deg.norm() < 1 < 6 < torch.tensor(ordered.corrected_deg).norm()
    errors = {c: (frames[c] - prior.rgb)[prior.seen == NOW].square().mean() for c in frames}
    assert errors["picture"] < 0.8 * errors["off"]
    redrawn = {choice: np.mean(preview["seen"]["redrawn"]) for choice, preview in previews.items()}
    assert redrawn["picture"] < 0.5 * redrawn["off"], "classes lie on what they name again"
    assert "Straightened by 7°" in previews["picture"]["text"]
    assert "Camera path corrected by 7°" in previews["camera"]["text"]


def test_values_upstream_of_a_node_are_collected(pack):
    """Check that the values of all upstream nodes are collected."""
    upstream_values = importlib.import_module(f"{pack.__name__}.nodes.host.graph").upstream_values

    def collect(note: str) -> dict:
        kinds = {
            "1": "EgoXWanSampler",
            "5:2": "EgoXLoadLora",
            "7": "EgoXDecodeEgoHalf",
            "8": "Save",
        }
        inputs = {
            "1": {"lambda_g": 3, "model": ["5:2", 0]},
            "5:2": {"strength": 0.5, "note": note},
            "7": {"latent": ["1", 0], "view": "fisheye"},
            "8": {"images": ["7", 0], "format": "mp4"},
        }
        graph = {k: {"class_type": kinds[k], "inputs": inputs[k]} for k in kinds}
        return upstream_values(graph, "7")

    assert collect("short") == {
        "7": {"kind": "EgoXDecodeEgoHalf", "values": {"view": "fisheye"}},
        "1": {"kind": "EgoXWanSampler", "values": {"lambda_g": 3.0}},
        "5:2": {"kind": "EgoXLoadLora", "values": {"strength": 0.5, "note": "short"}},
    }
    long_notes = [collect(text * 100)["5:2"]["values"]["note"] for text in "ab"]
    assert long_notes[0].keys() == {"digest"} and long_notes[0] != long_notes[1]
    assert upstream_values({}, "7") == {}


def make_trajectory(pack, count: int, fps: float):
    camera = model_rig.import_core_module(pack, "cameras.presets").preset_camera(
        "aria_released", 32
    )
    camera_path = make_path(still_poses(count), camera, fps)
    return model_rig.import_core_module(pack, "types").CameraTrajectory(
        ego=camera_path.ego, exo=camera_path.exo
    )


def test_the_preview_shows_the_latents_sources_or_the_connected_inputs(pack, decode_latent):
    samples, prior = torch.randn(1, 16, 3, 4, 4), torch.rand(9, 32, 32, 3)
    sources = {
        "exo_images": torch.rand(9, 32, 56, 3),
        "prior": prior,
        "trajectory": make_trajectory(pack, 9, 10.0),
    }
    path = make_trajectory(pack, 9, 30000 / 1001)
    bare, default, connected = (
        decode_latent(samples),
        decode_latent(samples, sources),
        decode_latent(samples, sources, trajectory=path, ground_truth=prior),
    )
    for output, names, fps in (
        (bare, ["ego"], 30),  # nothing gives a frame rate
        (default, ["exo", "prior", "ego"], 10),
        (connected, ["exo", "prior", "ego", "truth"], Fraction(30000, 1001)),
    ):
        streams = output.ui["egox_preview"][0]["streams"]
        assert [stream["name"] for stream in streams] == names
        video = output.result[2].get_components()
        assert torch.equal(video.images, bare.result[0]) and video.frame_rate == fps
        if len(names) > 1:
            film = output.result[3].get_components().images
            assert film.shape == (9, 16 + 32, 56 + (len(names) - 1) * (32 + 4), 3)
    assert torch.allclose(film[:, -32:, -32:].float(), prior, atol=0.005), "the truth is last"


def test_the_preview_resizes_the_priors_classes_without_new_values(decode_latent, decode_module):
    """Check that a class map resized to the video's size and lens contains class values only."""
    import folder_paths

    class_values = torch.tensor([0, 64, 128, 255], dtype=torch.uint8)
    classes = torch.full((9, 16, 16), 255, dtype=torch.uint8)
    classes[:, :, 8:] = class_values[torch.randint(4, (9, 16, 8))]
    classes[8] = 0
    samples = torch.randn(1, 16, 3, 4, 4)
    assert decode_latent(samples).ui["egox_preview"][0]["seen"] is None
    sources = {"seen": classes, "prior": torch.rand(9, 16, 16, 3)}
    for fov in (90.0, 0.0):
        preview = decode_latent(samples, sources, pinhole_fov=fov).ui["egox_preview"][0]
        seen_stream = preview["seen"]
        assert (seen_stream["count"], seen_stream["width"]) == (9, 32)
        folder = Path(folder_paths.get_temp_directory()) / "egox"
        sheet_file = folder / seen_stream["files"][0]["filename"]
        sheet_picture = cv2.imread(str(sheet_file), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(sheet_picture)) <= {*class_values.tolist(), REDRAWN}
        first_frame = sheet_picture[:32, :32]
        redrawn_share = seen_stream["redrawn"][0] or 0  # of noise mostly None: can't be judged
        assert redrawn_share == pytest.approx((first_frame == REDRAWN).mean())
        shares = seen_stream["shares"]
        assert np.allclose(sum(np.array(share) for share in shares.values()), 1)
        assert shares["unobserved"][8] == 1 and "frame 8: 100 %" in preview["text"]
    enlarged_classes = classes[0].numpy().repeat(2, 0).repeat(2, 1)
    changed_mask = first_frame != enlarged_classes
    assert (first_frame[changed_mask] == REDRAWN).all()
    assert (enlarged_classes[changed_mask] >= 128).all()
    assert shares["now"][0] == pytest.approx((enlarged_classes == 255).mean())


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


def test_keep_observed_copies_observed_pixels_of_the_prior(decode_latent):
    samples = torch.randn(1, 16, 3, 8, 8)
    plain_frames = decode_latent(samples).result[0]
    prior = (plain_frames + 0.02 * torch.randn(plain_frames.shape)).clamp(0, 1)
    classes = torch.zeros(9, 64, 64, dtype=torch.uint8)
    classes[:, 16:48, 16:48] = 255
    for keep_observed in (0.0, 1.0):
        output = decode_latent(
            samples, {"seen": classes, "prior": prior}, keep_observed=keep_observed
        )
        changed_mask = (output.result[0] != plain_frames).any(-1)
        assert changed_mask.any() == (keep_observed > 0)
        assert not changed_mask[classes == 0].any()
        text = output.ui["egox_preview"][0]["text"]
        percents = [
            int(match[1]) if match else None
            for word in ("now", "redrawn", "copied", "at edges")
            for match in [re.search(rf"(\d+) % {word}", text)]
        ]
        assert percents[0] == 25 and (None in percents[2:]) == (keep_observed == 0)
    assert sum(percents[1:]) == pytest.approx(25, abs=1.5), "parts of the whole"
    assert torch.equal(decode_latent(samples, keep_observed=1.0).result[0], plain_frames)


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
    assert true_frames.shape == (5, 128, 128, 3)
    ego_file = repo_root / "sample" / "calm_room" / "ego_ground_truth.mp4"
    ((_, picture),) = decode_frames(ego_file, probe_video(ego_file), [2])
    expected_frame = cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(true_frames[0].numpy() * 255 - expected_frame).mean() < 2
    two_videos = graph | {"2": graph["1"]}
    assert truth_module.read_truth_beside(two_videos, (128, 128)) is None


def test_a_batch_of_latents_is_decoded_one_by_one(decode_latent, decode_module):
    """Check that two sampled latents are refused, and that the remedy gives each one's video."""
    import nodes as host_nodes

    latents = {"samples": torch.randn(2, 16, 2, 4, 4), decode_module.LATENT_SOURCES: {}}
    with refuses("a batch of 2 latents.*Latent From Batch"):
        decode_latent(latents["samples"])
    videos = []
    for index in range(2):
        (latent,) = host_nodes.LatentFromBatch().frombatch(latents, index, 1)
        assert decode_module.LATENT_SOURCES in latent, "what it was made of stays with it"
        videos.append(decode_latent(latent["samples"]).result[0])
    assert videos[0].shape == (5, 32, 32, 3) and not torch.equal(*videos)


def test_nan_of_a_vae_is_named_instead_of_a_black_video(decode_module, repo_root):
    """Check that a NaN in one weight of the VAE's decoder is refused, and one in the latent."""
    vae = model_rig.load_vae(repo_root / "models" / standins.SHIPPED["vae"])
    samples = torch.randn(1, 16, 2, 4, 4)
    weights = [*vae.first_stage_model.decoder.parameters()]
    with torch.inference_mode():
        weights[-1].view(-1)[0] = float("nan")
        for pattern in ("NaN.* in 5 of 5 frames.*VAE.*--fp32-vae", "latent to decode: got NaN"):
            with refuses(pattern):
                decode_module.EgoXDecodeEgoHalf.execute({"samples": samples}, vae, 0.0)
            samples[0, 0, 0, 0, 0] = float("nan")
