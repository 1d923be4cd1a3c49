"""Test the node EgoX Sample Long Video."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

CLIP_FRAMES, LONG_FRAMES = 9, 17


def make_inputs(rig, frames: int) -> dict:
    """Make a video and all other inputs of the sampling nodes."""
    rig_size = replace(rig.size, frames=frames)
    depth, trajectory = model_rig.clip_geometry(rig.pack, rig_size)
    exo_frames, prior_frames = model_rig.clip_pictures(rig_size)
    text_only = {
        name: [[text, {}]]
        for name, ((text, _),) in (("positive", rig.positive), ("negative", rig.negative))
    }
    return {
        "model": rig.model,
        "vae": rig.vae,
        "exo_images": exo_frames,
        "prior": prior_frames,
        "depth": depth,
        "trajectory": trajectory,
        "clip_vision": rig.canvas.clip_vision,
        **text_only,
    }


def sample_long(
    rig, frames: int, node: type | None = None, returns_output: bool = False, **changes
):
    """Run EgoX Sample Long Video with its defaults and few steps.

    Returns the ego frames, or with ``whole`` the node's output."""
    node = node or rig.nodes("sample_long").EgoXSampleLong
    inputs = {
        **model_rig.node_defaults(node),
        "length": CLIP_FRAMES,
        "continue_motion_max_frames": 1,
        "steps": 2,
        "seed": 5,
        "cfg": 3.0,
        "sampler": "euler",
        **make_inputs(rig, frames),
        **changes,
    }
    with torch.inference_mode():
        node_output = node.execute(**inputs)
    return node_output if returns_output else node_output[0]


def sample_one_clip(rig, **changes) -> torch.Tensor:
    """Sample one clip by the nodes for conditioning, sampling and decoding."""
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
def test_one_chunk_equals_the_nodes_for_one_clip(rig, changes):
    assert torch.equal(sample_long(rig, CLIP_FRAMES, **changes), sample_one_clip(rig, **changes))
    assert torch.equal(
        sample_long(rig, CLIP_FRAMES, length=49, **changes), sample_one_clip(rig, **changes)
    ), "a clip that fits"


def test_one_chunk_with_an_image_embedding_equals_the_nodes_for_one_clip(image_embedding_rig):
    assert torch.equal(
        sample_long(image_embedding_rig, CLIP_FRAMES), sample_one_clip(image_embedding_rig)
    )
    assert sample_long(image_embedding_rig, LONG_FRAMES).isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {"recompute_exo": 2, "steps": 3},
        {"continue_motion_max_frames": 5},
    ],
)
def test_a_long_video_begins_with_its_first_clip(rig, changes):
    ego_frames = sample_long(rig, LONG_FRAMES, **changes)
    assert (
        ego_frames.shape == (LONG_FRAMES, 32, 32, 3)
        and ego_frames.isfinite().all()
        and 0 <= ego_frames.min()
        and ego_frames.max() <= 1
    )
    long_inputs = {**make_inputs(rig, LONG_FRAMES)}
    first_clip = sample_long(
        rig,
        LONG_FRAMES,
        **changes,
        **{name: long_inputs[name][:CLIP_FRAMES] for name in ("exo_images", "prior")},
    )
    assert torch.equal(ego_frames[:CLIP_FRAMES], first_clip)
    assert not torch.equal(ego_frames, sample_long(rig, LONG_FRAMES, **{**changes, "seed": 6}))


def test_geometry_and_lora_reach_every_chunk(rig, repo_root):
    plain_frames = sample_long(rig, LONG_FRAMES)
    lora_file = next((repo_root / "models" / "loras").glob("*wan22*.safetensors"), None) or next(
        (repo_root / "models" / "loras").glob("*.safetensors")
    )
    patched_model, _ = rig.nodes("lora").load_lora(rig.model, lora_file, 1.0)
    for changed_frames in (
        sample_long(rig, LONG_FRAMES, lambda_g=0.0),
        sample_long(rig, LONG_FRAMES, model=patched_model),
    ):
        assert (changed_frames[:CLIP_FRAMES] - plain_frames[:CLIP_FRAMES]).abs().max() > 1e-6
        assert (changed_frames[CLIP_FRAMES:] - plain_frames[CLIP_FRAMES:]).abs().max() > 1e-6


def test_a_pair_of_models_equals_two_samplers_in_a_row(rig):
    """Check that a Wan 2.2 pair gives the latents of two successive sampler nodes."""
    first_latent = rig.wan_sample(sampler="euler", steps=4, end_step=1, leftover_noise=True)
    second_options = {
        "sampler": "euler",
        "steps": 4,
        "start_step": 1,
        "add_noise": False,
        "latent": {"samples": first_latent},
    }
    pair_options = {"low_noise_model": rig.model, "steps": 4, "switch_step": 1}
    assert torch.equal(
        sample_long(rig, CLIP_FRAMES, **pair_options), sample_one_clip(rig, **second_options)
    )
    assert sample_long(rig, LONG_FRAMES, **{**pair_options, "switch_step": 0}).isfinite().all()
    with refuses("switch_step"):
        sample_long(rig, LONG_FRAMES, **{**pair_options, "switch_step": 4})


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "released"},
        {"sampler": "euler_ancestral", "cfg": 1.0},
        {"low_noise_model": True, "sampler": "released", "steps": 4},
    ],
)
def test_known_frames_are_sampled_to_themselves(rig, monkeypatch, changes):
    """Check that known frames are unchanged by sampling with every solver."""
    long_module, vae_module = rig.nodes("sample_long"), rig.nodes("host.vae")
    sampled_clips = []

    def record_clip(*args, **kwargs):
        sampled_clip, note = rig.nodes("sampling").sample_clip(*args, **kwargs)
        sampled_clips.append((sampled_clip["samples"], kwargs["known"]))
        return sampled_clip, note

    monkeypatch.setattr(long_module, "sample_clip", record_clip)
    changes = {"sampler": "euler", **changes}
    if "low_noise_model" in changes:
        changes["low_noise_model"] = rig.model
    ego_frames = sample_long(rig, LONG_FRAMES, continue_motion_max_frames=5, **changes)
    clip_of_each_chunk = sampled_clips[1::2] if "low_noise_model" in changes else sampled_clips
    assert [known_latent is None for _, known_latent in clip_of_each_chunk] == [True, False, False]
    for (latent, known_latent), start in zip(clip_of_each_chunk[1:], (4, 8), strict=True):
        with torch.inference_mode():
            assert torch.equal(
                known_latent, vae_module.encode_video(rig.vae, ego_frames[start : start + 5])
            )
        # The released loop rounds time steps down, so model and solver differ about the noise
        # level.
        tolerance = 0.03 if changes["sampler"] == "released" else 1e-4
        assert (latent[:, :, :2] - known_latent).abs().max() < tolerance * known_latent.std()
        assert (latent[:, :, 2:] - known_latent[:, :, :1]).abs().max() > 0.1 * known_latent.std()


def test_look_away_memory_changes_only_what_comes_after_a_hole(rig):
    frames = 25
    full_prior = {"prior": make_inputs(rig, frames)["prior"].clamp_min(0.1)}
    assert torch.equal(
        sample_long(rig, frames, **full_prior),
        sample_long(rig, frames, **full_prior, look_away_memory=True),
    )
    empty_prior = torch.zeros(frames, 32, 32, 3)
    rig.nodes("host.remember").PRIOR_SOURCES[empty_prior] = {
        "seen": torch.full((frames, 32, 32), 128, dtype=torch.uint8)
    }
    plain_output, remembered_output = node_outputs = [
        sample_long(
            rig, frames, prior=empty_prior, look_away_memory=uses_memory, returns_output=True
        )
        for uses_memory in (False, True)
    ]
    assert torch.equal(
        remembered_output[0][:LONG_FRAMES], plain_output[0][:LONG_FRAMES]
    ) and not torch.equal(remembered_output[0], plain_output[0])
    for uses_memory, node_output in zip((False, True), node_outputs, strict=True):
        seen_shares = node_output.ui["egox_preview"][0]["seen"]["shares"]
        generated_shares = torch.tensor(seen_shares["unobserved"])
        assert (generated_shares[LONG_FRAMES:] > 0).any() == uses_memory and not generated_shares[
            :LONG_FRAMES
        ].any()
        assert torch.equal(
            generated_shares + torch.tensor(seen_shares["earlier"]), torch.ones(frames)
        )
    with refuses("look-away memory"):
        sample_long(rig, frames, depth=None, lambda_g=0.0, look_away_memory=True)


def node_in_graph(rig, monkeypatch, folder, noise_seed: int = 5) -> type:
    """Prepare the node as in a graph, with chunk files in a test folder."""

    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(folder))
    graph = {
        "1": {
            "class_type": "EgoXSampleLong",
            "inputs": {"seed": noise_seed, "exo_images": ["2", 0], "model": ["3", 0]},
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


def test_after_a_cancelled_run_only_missing_chunks_are_computed(rig, monkeypatch, tmp_path):
    from comfy.model_management import InterruptProcessingException

    long_module = rig.nodes("sample_long")
    sample_clip = long_module.sample_clip
    sampled_chunks = []
    uncancelled_frames = sample_long(rig, LONG_FRAMES)

    def record_chunk(*args, **kwargs):
        sampled_chunks.append(kwargs["part"])
        return sample_clip(*args, **kwargs)

    def cancel_second_chunk(*args, **kwargs):
        if kwargs["part"].startswith("chunk 2"):
            raise InterruptProcessingException
        return record_chunk(*args, **kwargs)

    monkeypatch.setattr(long_module, "sample_clip", cancel_second_chunk)
    with pytest.raises(InterruptProcessingException):
        sample_long(rig, LONG_FRAMES, node_in_graph(rig, monkeypatch, tmp_path))
    assert (
        sampled_chunks == ["chunk 1/2, "]
        and len(list((tmp_path / "egox" / "chunks").iterdir())) == 1
    )
    monkeypatch.setattr(long_module, "sample_clip", record_chunk)
    sampled_chunks.clear()
    sample_long(rig, LONG_FRAMES, node_in_graph(rig, monkeypatch, tmp_path, noise_seed=6), seed=6)
    assert len(sampled_chunks) == 2, "another seed is other work"
    sampled_chunks.clear()
    assert torch.equal(
        sample_long(rig, LONG_FRAMES, node_in_graph(rig, monkeypatch, tmp_path)), uncancelled_frames
    )
    assert sampled_chunks == ["chunk 2/2, "] and not list(
        (tmp_path / "egox" / "chunks").iterdir()
    ), "nothing is left"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"continue_motion_max_frames": 9}, "fewer than its 9"),
        ({"short": "depth"}, "depth"),
        ({"short": "prior"}, "ego prior length"),
    ],
)
def test_inputs_of_wrong_length_are_refused_before_sampling(rig, monkeypatch, changes, message):
    changes = {"frames": LONG_FRAMES, **changes}
    long_inputs = make_inputs(rig, changes.pop("frames"))
    shortened_input = changes.pop("short", None)
    if shortened_input is not None:
        changes[shortened_input] = make_inputs(rig, LONG_FRAMES - 4)[shortened_input]
    monkeypatch.setattr(
        rig.nodes("sample_long"), "condition_clip", lambda *_, **__: pytest.fail("computed")
    )
    with refuses(message):
        sample_long(rig, LONG_FRAMES, **{**long_inputs, **changes})


def test_wrong_lengths_and_steps_are_refused_before_a_run(rig):
    check_long = rig.nodes("sample_long").check_long
    base_inputs = {
        "length": 9,
        "continue_motion_max_frames": 5,
        "lambda_g": 0.0,
        "gga_mode": "off",
    }
    pair_inputs = {"low_noise_model": ["2", 0], "steps": 4, "switch_step": 4}
    for changes, message in (
        ({}, None),
        ({"continue_motion_max_frames": 9}, "fewer than its 9"),
        (pair_inputs, "switch_step: got 4; expected less than the 4 steps"),
        ({"look_away_memory": True, "depth": ["2", 3]}, "look-away memory: got no trajectory"),
    ):
        node = {"class_type": "EgoXSampleLong", "inputs": base_inputs | changes}
        with refuses(message) if message else nullcontext():
            check_long({"1": node, "2": {}}, "1")
