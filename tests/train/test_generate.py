"""Test ``generate``, which samples ego videos for a cache."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_core.gga.geometry import tokens_from_latents
from egox_core.safe_files import read_json
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


def test_each_clips_video_is_made_once(generate_folder, training_set, tmp_path):
    clips, made_count = generate(
        generate_folder / "cache", tmp_path, generate_options(generate_folder)
    )
    video_files = sorted(tmp_path.glob("*.mp4"))
    assert clips == made_count == len(video_files) >= 1
    video_info = probe_video(video_files[0])
    assert (video_info.frame_count, video_info.width, video_info.height) == (5, 32, 32)
    assert video_info.fps == CacheReader(generate_folder / "cache").fps_of(video_files[0].stem)
    clip = video_files[0].stem
    video_classes, prior_classes = (
        read_classes(file, 5, (32, 32))
        for file in (tmp_path / f"{clip}.seen.mkv", training_set / "clips" / clip / "seen.mkv")
    )
    changed_mask = video_classes != prior_classes
    assert (video_classes[changed_mask] == REDRAWN).all() and (
        prior_classes[changed_mask] >= EARLIER
    ).all()
    assert (prior_classes > UNOBSERVED).any() and (video_classes == UNOBSERVED).any()
    files_before = {f: f.read_bytes() for f in video_files}
    video_files[0].unlink()
    assert generate(generate_folder / "cache", tmp_path, generate_options(generate_folder)) == (
        clips,
        1,
    )
    assert {f: f.read_bytes() for f in video_files} == files_before
    assert generate(generate_folder / "cache", tmp_path, generate_options(generate_folder))[1] == 0
    stereo_options = generate_options(
        generate_folder, seed=5, stereo=training_set / "manifest.jsonl"
    )
    assert generate(generate_folder / "cache", tmp_path, stereo_options)[1] == clips
    assert video_files[0].read_bytes() != files_before[video_files[0]]
    stereo_file = tmp_path / f"{clip}_180_LR.mp4"
    with refuses("360 video"):  # as it says of itself
        probe_video(stereo_file)
    stereo_file.unlink()
    assert generate(generate_folder / "cache", tmp_path, stereo_options)[1] == 1


def test_observed_pixels_are_put_back(generate_folder, training_set, tmp_path, monkeypatch):
    """Check that observed pixels of the prior replace generated ones."""
    (clip,) = CacheReader(generate_folder / "cache").clips("train")[:1]

    def read_video(file: Path) -> torch.Tensor:
        return read_all(file, 5, (32, 32)).float() / 255

    prior = read_video(training_set / "clips" / clip / "ego_prior.mp4")
    observed_classes = torch.full((5, 32, 32), NOW, dtype=torch.uint8)
    module_name = "egox_train.train.generate."
    monkeypatch.setattr(
        module_name + "_sample_clip", lambda *_: (prior + torch.roll(prior, 1, 2)) / 2
    )
    monkeypatch.setattr(module_name + "read_classes", lambda *_: observed_classes)
    errors, one_clip = [], RunOptions(clips=1)
    for keep in (0.0, 1.0):
        generate(
            generate_folder / "cache",
            tmp_path,
            generate_options(generate_folder, keep_observed=keep),
            one_clip,
        )
        errors.append((read_video(tmp_path / f"{clip}.mp4") - prior).abs().mean())
        has_kept_pixels = (
            read_classes(tmp_path / f"{clip}.seen.mkv", 5, (32, 32)) == KEPT_NOW
        ).any()
        assert has_kept_pixels == (keep > 0)
    assert errors[1] < 0.9 * errors[0]
    manifest = training_set / "manifest.jsonl"
    for choice in ("picture", "camera"):
        options = generate_options(generate_folder, straighten=choice, manifest=manifest)
        generate(generate_folder / "cache", tmp_path / choice, options, one_clip)
        note = read_json(tmp_path / choice / f"{clip}.json")
        assert ("ego_extrinsics" in note) == (choice == "camera" and "view_turn_deg" in note)
        assert "picture" in note["view"] or "can't be judged" in note["view"]
    with refuses("no --manifest"):
        options = generate_options(generate_folder, straighten="picture")
        generate(generate_folder / "cache", tmp_path, options, one_clip)
    monkeypatch.setattr(module_name + "SEEN", "none.mkv")
    for keep, expected_text in ((2.0, "keep_observed"), (1.0, "run prepare and cache again")):
        with refuses(expected_text):
            generate(
                generate_folder / "cache",
                tmp_path / "again",
                generate_options(generate_folder, keep_observed=keep),
                one_clip,
            )


def test_parts_make_the_same_videos_and_a_dry_run_estimates_the_cost(
    generate_folder, tiny_training, tmp_path
):
    cache_folder = tiny_training.make_cache(tmp_path / "cache", 12)
    one_step_options = generate_options(generate_folder, lora=None, steps=1)
    full_folder = tmp_path / "one"
    parts_folder = tmp_path / "parts"
    full_folder.mkdir()
    (full_folder / ".take5__cam.0123abcd.mp4").touch()  # of a killed run
    first_video = full_folder / f"{sorted(CacheReader(cache_folder).clips('train'))[0]}.mp4"
    with locked_by_other_process(first_video, 7) as progress:
        assert generate(cache_folder, full_folder, one_step_options, progress=progress) == (8, 8)
    assert generate(
        cache_folder, parts_folder, one_step_options, RunOptions(part=(0, 2), clips=4)
    ) == (
        2,
        2,
    )
    dry_run_result = generate(
        cache_folder, parts_folder, one_step_options, RunOptions(dry_run=True)
    )
    assert (
        dry_run_result.clips == 6
        and dry_run_result.size_bytes > 0
        and "with 1, 8, 64 devices" in str(dry_run_result)
    )
    assert generate(cache_folder, parts_folder, one_step_options) == (8, 6)
    for folder in (full_folder, parts_folder):
        for cost_file in folder.glob("*.json"):  # the one thing that no two runs have alike
            stored_sums = json.loads(cost_file.read_text())
            assert stored_sums.pop("seconds") >= 0
            cost_file.write_text(json.dumps(stored_sums))
    assert (
        read_folder_files(full_folder) == read_folder_files(parts_folder)
        and len(read_folder_files(full_folder)) == 16
    )


def test_loras_settings_are_followed(generate_folder):
    cache_reader = CacheReader(generate_folder / "cache")
    conditioning_config = merge_conditioning(generate_options(generate_folder), cache_reader)
    assert (
        conditioning_config.mask_mode,
        conditioning_config.lambda_g,
        conditioning_config.gga_mode,
    ) == (
        "paper",
        2.0,
        "released",
    )
    assert (
        merge_conditioning(generate_options(generate_folder, lambda_g=0.5), cache_reader).lambda_g
        == 0.5
    )
    assert (
        merge_conditioning(generate_options(generate_folder, lora=None), cache_reader).mask_mode
        == "released"
    )


@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
@pytest.mark.parametrize("has_shared_bias", [True, False])
def test_cached_exo_tokens_give_the_full_canvas_result(
    generate_folder, tiny_training, monkeypatch, lambda_g, has_shared_bias
):
    """Check that sampling with cached exo tokens equals sampling of the whole canvas."""
    from egox_core.gga.exo_cache import ExoCache
    from egox_core.wan.canvas import build_mask, model_input
    from egox_train.wan.transformer import load_base

    if not has_shared_bias:
        monkeypatch.setattr("egox_train.wan.diffusers_processor.SHARED_BIAS_BYTES", 0)
    config = parse_config(
        {"base": "b", "cache": str(generate_folder / "cache"), "output": "o", "steps": 1}
    )
    conditioning = config.conditioning.model_copy(update={"lambda_g": lambda_g})
    training_sample = tiny_training.load_first_sample(config)
    base_model = load_base(generate_folder / "base.safetensors")
    gga_scope = install_gga(base_model)
    gga_scope.set(training_sample.geometry, conditioning.gga_options())
    t, h, w_exo, w_ego = training_sample.grid
    mask_latent = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego)
    ego_noise = torch.randn(training_sample.ego.shape)
    canvas_input = model_input(
        ego_noise, training_sample.exo, mask_latent, training_sample.exo, training_sample.cond_ego
    )
    exo_cache, ego_predictions = ExoCache(2), []
    with torch.no_grad():
        for _ in range(2):
            grid = (t, h // 2, w_exo // 2, w_ego // 2)
            gga_scope.exo = exo_cache.forward(
                (), (0,), 0.9, [0.9, 0.0], grid, 0, torch.device("cpu")
            )
            input_columns = canvas_input[..., w_exo:] if gga_scope.exo.reuses_exo else canvas_input
            prediction = base_model(
                hidden_states=input_columns,
                timestep=torch.tensor([900.0]),
                encoder_hidden_states=training_sample.text,
                encoder_hidden_states_image=training_sample.image,
                return_dict=False,
            )[0]
            gga_scope.exo.finish(len(base_model.blocks))
            ego_predictions.append(prediction[..., -w_ego:])
    gga_scope.exo = None
    assert (exo_cache.full_count, exo_cache.reused_count) == (1, 1)
    assert (ego_predictions[0] - ego_predictions[1]).abs().max() <= 1e-5 * ego_predictions[
        0
    ].abs().max()
    guidance_options = {"cfg": 2.0, "negative_embedding": torch.zeros_like(training_sample.text)}
    full_latent, kept_latent = (
        sample_ego(
            base_model,
            gga_scope,
            training_sample,
            conditioning,
            steps=4,
            recompute_exo=interval,
            **guidance_options,
        )
        for interval in (1, 4)
    )
    assert 0 < (full_latent - kept_latent).std() < 0.2 * full_latent.std() and gga_scope.exo is None


def test_noisy_exo_tokens_are_not_cached(generate_folder, tiny_training):
    from egox_train.wan.transformer import load_base

    config = parse_config(
        {"base": "b", "cache": str(generate_folder / "cache"), "output": "o", "steps": 1}
    )
    base_model = load_base(generate_folder / "base.safetensors")
    with refuses("noisy"):
        sample_ego(
            base_model,
            install_gga(base_model),
            tiny_training.load_first_sample(config),
            ConditioningConfig(exo_clean=False),
            recompute_exo=4,
        )


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
    # quirks.md: 1e-4 for the whole loop
    torch.testing.assert_close(
        latent, golden_tensors[f"{case}.latents_after_step.5"][..., -w_ego:], atol=1e-4, rtol=0
    )


def test_guidance_needs_the_caches_text_encoder(generate_folder, tmp_path):
    guided_options = generate_options(generate_folder, cfg=3.0, text="zeros:2x24")
    clips, made_count = generate(generate_folder / "cache", tmp_path, guided_options)
    assert clips == made_count
    assert generate(generate_folder / "cache", tmp_path, guided_options)[1] == 0
    assert (
        generate(generate_folder / "cache", tmp_path, replace(guided_options, negative="another"))[
            1
        ]
        == clips
    )
    with refuses("--text"):
        generate(generate_folder / "cache", tmp_path, generate_options(generate_folder, cfg=3.0))
    with refuses("that of the cache"):
        generate(
            generate_folder / "cache",
            tmp_path,
            generate_options(generate_folder, cfg=3.0, text="zeros:3x24"),
        )


def test_bad_generate_options_are_refused(generate_folder, tmp_path):
    with refuses("no clip"):
        generate(
            generate_folder / "cache", tmp_path, generate_options(generate_folder, split="test")
        )
    with refuses("steps"):
        generate(generate_folder / "cache", tmp_path, generate_options(generate_folder, steps=0))
    with refuses("LoRA"):
        generate(
            generate_folder / "cache",
            tmp_path,
            generate_options(generate_folder, lora=tmp_path / "none.safetensors"),
        )
