"""EgoX Sample Long Video against the one-clip nodes, and what it refuses."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

LENGTH, FRAMES = 9, 17


def inputs_of(rig, frames: int) -> dict:
    """Make a video of the rig's size, with all other inputs of one-clip nodes."""
    size = replace(rig.size, frames=frames)
    depth, trajectory = model_rig.clip_geometry(rig.pack, size)
    exo, prior = model_rig.clip_pictures(size)
    plain = {
        name: [[text, {}]]
        for name, ((text, _),) in (("positive", rig.positive), ("negative", rig.negative))
    }
    return {
        "model": rig.model,
        "vae": rig.vae,
        "exo_images": exo,
        "prior": prior,
        "depth": depth,
        "trajectory": trajectory,
        "clip_vision": rig.canvas.clip_vision,
        **plain,
    }


def sample(rig, frames: int, node: type | None = None, whole: bool = False, **changes):
    """Run the node with its defaults and few steps, and return the ego frames, or with ``whole``
    the output."""
    node = node or rig.nodes("sample_long").EgoXSampleLong
    inputs = {
        **model_rig.node_defaults(node),
        "length": LENGTH,
        "continue_motion_max_frames": 1,
        "steps": 2,
        "seed": 5,
        "cfg": 3.0,
        "sampler": "euler",
        **inputs_of(rig, frames),
        **changes,
    }
    with torch.inference_mode():
        output = node.execute(**inputs)
    return output if whole else output[0]


def one_clip(rig, **changes) -> torch.Tensor:
    """Run conditioning, sampler and decoder, each as its own node."""
    with torch.inference_mode():
        latent = rig.wan_sample(
            **{"sampler": "euler", "steps": 2, "seed": 5, "cfg": 3.0, **changes}
        )
        return rig.nodes("decode_ego_half").EgoXDecodeEgoHalf.execute(
            {"samples": latent}, rig.vae, 0.0
        )[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "released", "cfg": 5.0},
        {"lambda_g": 0.0, "cfg": 1.0},
        {"recompute_exo": 2, "steps": 3},
    ],
)
def test_one_chunk_is_the_one_clip_nodes_bit_for_bit(rig, changes):
    assert torch.equal(sample(rig, LENGTH, **changes), one_clip(rig, **changes))
    assert torch.equal(sample(rig, LENGTH, length=49, **changes), one_clip(rig, **changes)), (
        "a clip that fits"
    )


def test_one_chunk_with_the_picture_embedding(wan21):
    assert torch.equal(sample(wan21, LENGTH), one_clip(wan21))
    assert sample(wan21, FRAMES).isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {"recompute_exo": 2, "steps": 3},
        {"continue_motion_max_frames": 5},
    ],
)
def test_a_long_video_begins_with_its_first_clip(rig, changes):
    ego = sample(rig, FRAMES, **changes)
    assert (
        ego.shape == (FRAMES, 32, 32, 3)
        and ego.isfinite().all()
        and 0 <= ego.min()
        and ego.max() <= 1
    )
    parts = {**inputs_of(rig, FRAMES)}
    first = sample(
        rig, FRAMES, **changes, **{name: parts[name][:LENGTH] for name in ("exo_images", "prior")}
    )
    assert torch.equal(ego[:LENGTH], first)
    assert not torch.equal(ego, sample(rig, FRAMES, **{**changes, "seed": 6}))


def test_geometry_and_lora_reach_every_chunk(rig, repo_root):
    plain = sample(rig, FRAMES)
    lora = next((repo_root / "models" / "loras").glob("*wan22*.safetensors"), None) or next(
        (repo_root / "models" / "loras").glob("*.safetensors")
    )
    patched, _ = rig.nodes("lora").load_lora(rig.model, lora, 1.0)
    for other in (sample(rig, FRAMES, lambda_g=0.0), sample(rig, FRAMES, model=patched)):
        assert (other[:LENGTH] - plain[:LENGTH]).abs().max() > 1e-6
        assert (other[LENGTH:] - plain[LENGTH:]).abs().max() > 1e-6


def test_a_pair_is_two_samplers_in_a_row(rig):
    """Wan 2.2: the first model leaves its noise in, the second adds none, in every chunk."""
    first = rig.wan_sample(sampler="euler", steps=4, end_step=1, leftover_noise=True)
    second = {
        "sampler": "euler",
        "steps": 4,
        "start_step": 1,
        "add_noise": False,
        "latent": {"samples": first},
    }
    pair = {"low_noise_model": rig.model, "steps": 4, "switch_step": 1}
    assert torch.equal(sample(rig, LENGTH, **pair), one_clip(rig, **second))
    assert sample(rig, FRAMES, **{**pair, "switch_step": 0}).isfinite().all()
    with refuses("switch_step"):
        sample(rig, FRAMES, **{**pair, "switch_step": 4})


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "released"},
        {"sampler": "euler_ancestral", "cfg": 1.0},
        {"low_noise_model": True, "sampler": "released", "steps": 4},
    ],
)
def test_known_frames_are_held(rig, monkeypatch, changes):
    """Sampled to themselves, through every solver and both models of a pair."""
    long, vae = rig.nodes("sample_long"), rig.nodes("host.vae")
    sampled = []

    def spy(*args, **kwargs):
        out, note = rig.nodes("sampling").sample_clip(*args, **kwargs)
        sampled.append((out["samples"], kwargs["known"]))
        return out, note

    monkeypatch.setattr(long, "sample_clip", spy)
    changes = {"sampler": "euler", **changes}
    if "low_noise_model" in changes:
        changes["low_noise_model"] = rig.model
    ego = sample(rig, FRAMES, continue_motion_max_frames=5, **changes)
    per_chunk = sampled[1::2] if "low_noise_model" in changes else sampled
    assert [known is None for _, known in per_chunk] == [True, False, False]
    for (latent, known), start in zip(per_chunk[1:], (4, 8), strict=True):
        with torch.inference_mode():
            assert torch.equal(known, vae.encode_video(rig.vae, ego[start : start + 5]))
        # The released loop rounds time steps down, so model and solver differ about the noise
        # level.
        close = 0.03 if changes["sampler"] == "released" else 1e-4
        assert (latent[:, :, :2] - known).abs().max() < close * known.std()
        assert (latent[:, :, 2:] - known[:, :, :1]).abs().max() > 0.1 * known.std()


def test_look_away_memory_changes_what_comes_after_a_hole(rig):
    """The first two chunks, and a video without holes, are bit for bit as without it."""
    frames = 25
    full = {"prior": inputs_of(rig, frames)["prior"].clamp_min(0.1)}
    assert torch.equal(
        sample(rig, frames, **full), sample(rig, frames, **full, look_away_memory=True)
    )
    holes = torch.zeros(frames, 32, 32, 3)
    without, ego = (sample(rig, frames, prior=holes, look_away_memory=on) for on in (False, True))
    assert torch.equal(ego[:FRAMES], without[:FRAMES]) and not torch.equal(ego, without)
    rig.nodes("host.remember").DRAWN_FROM[holes] = {
        "seen": torch.full((frames, 32, 32), 128, dtype=torch.uint8)
    }
    for on in (False, True):
        out = sample(rig, frames, prior=holes, look_away_memory=on, whole=True)
        sent = out.ui["egox_preview"][0]["seen"]["shares"]
        made_before = torch.tensor(sent["unobserved"])
        assert (made_before[FRAMES:] > 0).any() == on and not made_before[:FRAMES].any()
        assert torch.equal(made_before + torch.tensor(sent["earlier"]), torch.ones(frames))
    with refuses("look-away memory"):
        sample(rig, frames, depth=None, lambda_g=0.0, look_away_memory=True)


def in_graph(rig, monkeypatch, folder, seed: int = 5) -> type:
    """Prepare the node as it runs in a graph, with its chunks kept in a folder of the test."""

    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(folder))
    graph = {
        "1": {
            "class_type": "EgoXSampleLong",
            "inputs": {"seed": seed, "exo_images": ["2", 0], "model": ["3", 0]},
        },
        "2": {"class_type": "EgoXLoadExoVideo", "inputs": {"start_frame": 0}},
        "3": {
            "class_type": "UNETLoader",
            "inputs": {"unet_name": "egox_standin_wan22_i2v.safetensors"},
        },
    }
    node = rig.nodes("sample_long").EgoXSampleLong
    hidden = type("Hidden", (), {"unique_id": "1", "prompt": graph})
    return type("InGraph", (node,), {"hidden": hidden})


def test_a_cancelled_run_computes_only_what_is_missing(rig, monkeypatch, tmp_path):
    from comfy.model_management import InterruptProcessingException

    long = rig.nodes("sample_long")
    inner, parts = long.sample_clip, []
    uncut_run = sample(rig, FRAMES)

    def note(*args, **kwargs):
        parts.append(kwargs["part"])
        return inner(*args, **kwargs)

    def cancelled_in_the_second(*args, **kwargs):
        if kwargs["part"].startswith("chunk 2"):
            raise InterruptProcessingException
        return note(*args, **kwargs)

    monkeypatch.setattr(long, "sample_clip", cancelled_in_the_second)
    with pytest.raises(InterruptProcessingException):
        sample(rig, FRAMES, in_graph(rig, monkeypatch, tmp_path))
    assert parts == ["chunk 1/2, "] and len(list((tmp_path / "egox" / "chunks").iterdir())) == 1
    monkeypatch.setattr(long, "sample_clip", note)
    parts.clear()
    sample(rig, FRAMES, in_graph(rig, monkeypatch, tmp_path, seed=6), seed=6)
    assert len(parts) == 2, "another seed is other work"
    parts.clear()
    assert torch.equal(sample(rig, FRAMES, in_graph(rig, monkeypatch, tmp_path)), uncut_run)
    assert parts == ["chunk 2/2, "] and not list((tmp_path / "egox" / "chunks").iterdir()), (
        "nothing is left"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"continue_motion_max_frames": 9}, "fewer than its 9"),
        ({"short": "depth"}, "depth"),
        ({"short": "prior"}, "ego prior length"),
    ],
)
def test_refused_before_anything_is_computed(rig, monkeypatch, changes, words):
    changes = {"frames": FRAMES, **changes}
    inputs = inputs_of(rig, changes.pop("frames"))
    short = changes.pop("short", None)
    if short is not None:
        changes[short] = inputs_of(rig, FRAMES - 4)[short]
    monkeypatch.setattr(
        rig.nodes("sample_long"), "condition_clip", lambda *_, **__: pytest.fail("computed")
    )
    with refuses(words):
        sample(rig, FRAMES, **{**inputs, **changes})


def test_lengths_and_steps_are_refused_before_a_run(rig):
    check = rig.nodes("sample_long").check_long
    values = {
        "length": 9,
        "continue_motion_max_frames": 5,
        "lambda_g": 0.0,
        "gga_mode": "off",
    }
    pair = {"low_noise_model": ["2", 0], "steps": 4, "switch_step": 4}
    for changes, words in (
        ({}, None),
        ({"continue_motion_max_frames": 9}, "fewer than its 9"),
        (pair, "switch_step: got 4; expected less than the 4 steps"),
        ({"look_away_memory": True, "depth": ["2", 3]}, "look-away memory: got no trajectory"),
    ):
        node = {"class_type": "EgoXSampleLong", "inputs": values | changes}
        with refuses(words) if words else nullcontext():
            check({"1": node, "2": {}}, "1")
