"""Test ``generate``, which samples ego videos for a cache."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_core.gga.geometry import tokens_from_latents
from egox_core.safe_files import read_json
from egox_core.stereo import StereoForm
from egox_core.types import EARLIER, KEPT_NOW, NOW, REDRAWN, UNOBSERVED
from egox_core.video import probe_video
from egox_train.data.cache_build import build_cache
from egox_train.data.cache_store import CacheReader
from egox_train.data.clip_files import read_all, read_classes
from egox_train.options import CacheSettings, GenerateOptions, RunOptions
from egox_train.train.config import ConditioningConfig, parse_config
from egox_train.train.generate import generate, merge_conditioning
from egox_train.train.samples import TrainSample
from egox_train.train.sampling import sample_ego
from egox_train.wan.diffusers_processor import install_gga
from tests.paths import GOLDEN, STANDIN_VAE, read_folder_files
from tests.refusals import refuses
from tests.train.golden_model import golden_transformer
from tests.train.held_item import locked_by_other_process


@pytest.fixture(scope="module")
def generate_folder(training_set, tiny_training, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    build_cache(
        training_set / "manifest.jsonl",
        folder / "cache",
        CacheSettings(vae=STANDIN_VAE, text="zeros:2x24", image_embedding="none", dtype="float32"),
    )
    tiny_training.make_base(folder / "base.safetensors")
    conditioning = {"mask_mode": "paper", "lambda_g": 2.0}
    tiny_training.train(folder, steps=2, batch_size=1, conditioning=conditioning)
    return folder


def generate_options(place: Path, **changes) -> GenerateOptions:
    return GenerateOptions(
        **{
            "base": place / "base.safetensors",
            "vae": STANDIN_VAE,
            "split": "train",
            "steps": 2,
            "lora": place / "run" / "lora.safetensors",
            **changes,
        }
    )


def test_each_clips_video_is_made_once(
    generate_folder, training_set, one_compared_frame, tmp_path, monkeypatch
):
    cache = generate_folder / "cache"

    def generate_clips(**changes) -> tuple[int, int]:
        return generate(cache, tmp_path, generate_options(generate_folder, **changes))

    clips, made_count = generate_clips()
    video_files = sorted(tmp_path.glob("*.mp4"))
    assert clips == made_count == len(video_files) >= 1
    video, clip = video_files[0], video_files[0].stem
    video_info = probe_video(video)
    assert (video_info.frame_count, video_info.width, video_info.height) == (5, 32, 32)
    assert video_info.fps == CacheReader(cache).fps_of(clip)
    video_classes, prior_classes = (
        read_classes(file, 5, (32, 32))
        for file in (tmp_path / f"{clip}.seen.mkv", training_set / "clips" / clip / "seen.mkv")
    )
    changed_mask = video_classes != prior_classes
    assert (video_classes[changed_mask] == REDRAWN).all()
    assert (prior_classes[changed_mask] >= EARLIER).all()
    assert (prior_classes > UNOBSERVED).any() and (video_classes == UNOBSERVED).any()
    files_before = {file: file.read_bytes() for file in video_files}
    video.unlink()
    assert [generate_clips(), generate_clips()] == [(clips, 1), (clips, 0)]
    assert {file: file.read_bytes() for file in video_files} == files_before
    stereo = {"seed": 5, "stereo": training_set / "manifest.jsonl"}
    # Of 1,024 px.
    monkeypatch.setattr("egox_train.train.generate.StereoForm", partial(StereoForm, eye_px=64))
    assert generate_clips(**stereo) == (clips, clips)
    assert video.read_bytes() != files_before[video]
    stereo_file = tmp_path / f"{clip}_180_LR.mp4"
    with refuses("360 video"):  # as it says of itself
        probe_video(stereo_file)
    stereo_file.unlink()
    assert generate_clips(**stereo) == (clips, 1)


def test_observed_pixels_are_put_back(
    generate_folder, training_set, one_compared_frame, tmp_path, monkeypatch
):
    """Check that observed pixels of the prior replace generated ones, and the notes of turns."""
    (clip,) = CacheReader(generate_folder / "cache").clips("train")[:1]

    def generate_one(folder: Path, **changes) -> None:
        options = generate_options(generate_folder, **changes)
        generate(generate_folder / "cache", folder, options, RunOptions(clips=1))

    def read_video(file: Path) -> torch.Tensor:
        return read_all(file, 5, (32, 32)).float() / 255

    prior = read_video(training_set / "clips" / clip / "ego_prior.mp4")
    observed_classes = torch.full((5, 32, 32), NOW, dtype=torch.uint8)
    module_name = "egox_train.train.generate."
    monkeypatch.setattr(
        module_name + "_sample_clip", lambda *_: (prior + torch.roll(prior, 1, 2)) / 2
    )
    monkeypatch.setattr(module_name + "read_classes", lambda *_: observed_classes)
    errors = []
    for keep in (0.0, 1.0):
        generate_one(tmp_path, keep_observed=keep)
        errors.append((read_video(tmp_path / f"{clip}.mp4") - prior).abs().mean())
        classes = read_classes(tmp_path / f"{clip}.seen.mkv", 5, (32, 32))
        assert (classes == KEPT_NOW).any() == (keep > 0)
    assert errors[1] < 0.9 * errors[0]
    for choice in ("picture", "camera"):
        manifest = training_set / "manifest.jsonl"
        generate_one(tmp_path / choice, straighten=choice, manifest=manifest)
        note = read_json(tmp_path / choice / f"{clip}.json")
        assert ("ego_extrinsics" in note) == (choice == "camera" and "view_turn_deg" in note)
        assert "picture" in note["view"] or "can't be judged" in note["view"]
    monkeypatch.setattr(module_name + "SEEN", "none.mkv")
    for changes, expected_text in (
        ({"keep_observed": 2.0}, "keep_observed"),
        ({"keep_observed": 1.0}, "run prepare and cache again"),
    ):
        with refuses(expected_text):
            generate_one(tmp_path / "again", **changes)


def test_parts_make_the_same_videos_and_a_dry_run_estimates_the_cost(
    generate_folder, tiny_training, tmp_path
):
    cache, full, parts = (tmp_path / name for name in ("cache", "one", "parts"))
    tiny_training.make_cache(cache, 12)
    options = generate_options(generate_folder, lora=None, steps=1)
    full.mkdir()
    (full / ".take5__cam.0123abcd.mp4").touch()  # of a killed run
    first_video = full / f"{min(CacheReader(cache).clips('train'))}.mp4"
    with locked_by_other_process(first_video, 7) as progress:
        assert generate(cache, full, options, progress=progress) == (8, 8)
    assert generate(cache, parts, options, RunOptions(part=(0, 2), clips=4)) == (2, 2)
    estimate = generate(cache, parts, options, RunOptions(dry_run=True))
    assert estimate.clips == 6 and estimate.size_bytes > 0
    assert "with 1, 8, 64 devices" in str(estimate)
    assert generate(cache, parts, options) == (8, 6)
    for cost_file in [*full.glob("*.json"), *parts.glob("*.json")]:
        note = json.loads(cost_file.read_text())
        assert note.pop("seconds") >= 0, "the one thing that no two runs have alike"
        cost_file.write_text(json.dumps(note))
    assert read_folder_files(full) == read_folder_files(parts)
    assert len(read_folder_files(full)) == 16


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("paper", 2.0, "released")),
        ({"lambda_g": 0.5}, ("paper", 0.5, "released")),
        ({"lora": None}, ("released", 3.0, "released")),
    ],
)
def test_loras_settings_are_followed(generate_folder, changes, expected):
    options = generate_options(generate_folder, **changes)
    config = merge_conditioning(options, CacheReader(generate_folder / "cache"))
    assert (config.mask_mode, config.lambda_g, config.gga_mode) == expected


@pytest.mark.parametrize(("lambda_g", "has_shared_bias"), [(0.0, True), (3.0, True), (3.0, False)])
def test_cached_exo_tokens_give_the_full_canvas_result(
    generate_folder, tiny_training, monkeypatch, lambda_g, has_shared_bias
):
    """Check that sampling with cached exo tokens equals sampling of the whole canvas."""
    from egox_core.gga.exo_cache import ExoCache
    from egox_core.wan.canvas import build_mask, model_input
    from egox_train.wan.transformer import load_base

    if not has_shared_bias:
        monkeypatch.setattr("egox_train.wan.diffusers_processor.SHARED_BIAS_BYTES", 0)
    settings = {"base": "b", "cache": str(generate_folder / "cache"), "output": "o", "steps": 1}
    config = parse_config(settings | {"conditioning": {"lambda_g": lambda_g}})
    conditioning, sample = config.conditioning, tiny_training.load_first_sample(config)
    model = load_base(generate_folder / "base.safetensors")
    gga_scope = install_gga(model)
    gga_scope.set(sample.geometry, conditioning.gga_options())
    t, h, w_exo, w_ego = sample.grid
    mask_latent = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego)
    noise = torch.randn(sample.ego.shape)
    canvas_input = model_input(noise, sample.exo, mask_latent, sample.exo, sample.cond_ego)
    exo_cache, predictions, grid = ExoCache(2), [], (t, h // 2, w_exo // 2, w_ego // 2)
    for _ in range(2):
        gga_scope.exo = exo_cache.forward((), (0,), 0.9, [0.9, 0.0], grid, 0, torch.device("cpu"))
        columns = slice(w_exo if gga_scope.exo.reuses_exo else 0, None)
        with torch.no_grad():
            prediction = model(
                hidden_states=canvas_input[..., columns],
                timestep=torch.tensor([900.0]),
                encoder_hidden_states=sample.text,
                encoder_hidden_states_image=sample.image,
                return_dict=False,
            )[0]
        gga_scope.exo.finish(len(model.blocks))
        predictions.append(prediction[..., -w_ego:])
    gga_scope.exo = None
    assert (exo_cache.full_count, exo_cache.reused_count) == (1, 1)
    full, reused = predictions
    assert (full - reused).abs().max() <= 1e-5 * full.abs().max()
    guidance = {"cfg": 2.0, "negative_embedding": torch.zeros_like(sample.text), "steps": 4}
    full, kept = (
        sample_ego(model, gga_scope, sample, conditioning, recompute_exo=interval, **guidance)
        for interval in (1, 4)
    )
    assert 0 < (full - kept).std() < 0.2 * full.std() and gga_scope.exo is None
    noisy = ConditioningConfig(exo_clean=False)
    with refuses("noisy"):
        sample_ego(model, gga_scope, sample, noisy, recompute_exo=4)


@pytest.mark.parametrize(("case", "mode"), [("gga3", "released"), ("no_gga", "off")])
def test_guidance_reproduces_the_released_latents(case, mode):
    """Check that sampling with guidance reproduces the latents of the released code."""
    golden_tensors = load_file(GOLDEN / "denoise_6step.safetensors")
    model = golden_transformer().eval()
    w_ego = golden_tensors["in.cam_rays"].shape[2]
    initial_latent = golden_tensors["in.initial_latent"]
    prior = golden_tensors["in.condition_20ch"][:, 4:, ..., -w_ego:]
    sample = TrainSample(
        clips=("golden",),
        exo=initial_latent[..., :-w_ego],
        ego=torch.zeros_like(prior),
        cond_ego=prior,
        text=golden_tensors["in.text_embeds"],
        image=golden_tensors["in.image_embeds"],
        geometry=(
            tokens_from_latents(
                golden_tensors["in.point_vecs_per_frame"], golden_tensors["in.cam_rays"]
            ),
        ),
    )
    latent = sample_ego(
        model,
        install_gga(model),
        sample,
        ConditioningConfig(gga_mode=mode),
        steps=6,
        cfg=5.0,
        negative_embedding=golden_tensors["in.negative_text_embeds"],
        noise=initial_latent[..., -w_ego:],
    )
    # 1e-4 for the whole loop, as `run.py fidelity` has it
    torch.testing.assert_close(
        latent, golden_tensors[f"{case}.latents_after_step.5"][..., -w_ego:], atol=1e-4, rtol=0
    )


def test_guidance_needs_the_caches_text_encoder(generate_folder, tmp_path):
    def generate_clips(**changes) -> tuple[int, int]:
        options = generate_options(generate_folder, **changes)
        return generate(generate_folder / "cache", tmp_path, options)

    guided = {"cfg": 3.0, "text": "zeros:2x24"}
    clips, made_count = generate_clips(**guided)
    assert clips == made_count and generate_clips(**guided)[1] == 0
    assert generate_clips(**guided, negative="another")[1] == clips
    for changes, message in (
        ({"cfg": 3.0, "text": "zeros:3x24"}, "that of the cache"),
        ({"split": "test"}, "no clip"),
        ({"steps": 0}, "steps"),
        ({"lora": tmp_path / "none.safetensors"}, "LoRA"),
    ):
        with refuses(message):
            generate_clips(**changes)
