"""``generate``: resumable, follows the LoRA's own metadata, and every option that it was asked for
matters."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_core.gga.geometry import tokens_from_latents
from egox_core.types import EARLIER, KEPT_NOW, NOW, REDRAWN, UNOBSERVED
from egox_core.video.reader import probe_video
from egox_train.data.cache_build import build_cache
from egox_train.data.cache_store import CacheReader
from egox_train.data.clip_files import read_all, read_classes
from egox_train.options import CacheSettings, GenerateOptions, RunOptions
from egox_train.train.config import ConditioningConfig, parse_config
from egox_train.train.generate import conditioning_of, generate
from egox_train.train.samples import TrainSample
from egox_train.train.sampling import sample_ego
from egox_train.wan.diffusers_processor import install_gga
from tests.paths import GOLDEN, STANDIN_VAE, contents
from tests.refusals import refuses
from tests.train.golden_model import golden_transformer
from tests.train.held_item import another_is_at


@pytest.fixture(scope="module")
def place(training_set, tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    build_cache(
        training_set / "manifest.jsonl",
        folder / "cache",
        CacheSettings(vae=STANDIN_VAE, text="zeros:2x24", image_embedding="none", dtype="float32"),
    )
    tiny.make_base(folder / "base.safetensors")
    conditioning = {"mask_mode": "paper", "lambda_g": 2.0}
    tiny.train(folder, steps=2, batch_size=1, conditioning=conditioning)
    return folder


def options(place: Path, **more) -> GenerateOptions:
    return GenerateOptions(
        **{
            "base": place / "base.safetensors",
            "vae": STANDIN_VAE,
            "split": "train",
            "steps": 2,
            "lora": place / "run" / "lora.safetensors",
            **more,
        }
    )


def test_one_video_a_clip_made_once(place, training_set, tmp_path):
    clips, made_count = generate(place / "cache", tmp_path, options(place))
    files = sorted(tmp_path.glob("*.mp4"))
    assert clips == made_count == len(files) >= 1
    info = probe_video(files[0])
    assert (info.frame_count, info.width, info.height) == (5, 32, 32)
    assert info.fps == CacheReader(place / "cache").fps_of(files[0].stem)
    clip = files[0].stem
    of_video, of_prior = (
        read_classes(file, 5, (32, 32))
        for file in (tmp_path / f"{clip}.seen.mkv", training_set / "clips" / clip / "seen.mkv")
    )
    changed = of_video != of_prior
    assert (of_video[changed] == REDRAWN).all() and (of_prior[changed] >= EARLIER).all()
    assert (of_prior > UNOBSERVED).any() and (of_video == UNOBSERVED).any()
    before = {f: f.read_bytes() for f in files}
    files[0].unlink()
    assert generate(place / "cache", tmp_path, options(place)) == (clips, 1)
    assert {f: f.read_bytes() for f in files} == before
    assert generate(place / "cache", tmp_path, options(place))[1] == 0
    both = options(place, seed=5, stereo=training_set / "manifest.jsonl")
    assert generate(place / "cache", tmp_path, both)[1] == clips
    assert files[0].read_bytes() != before[files[0]]
    pair = tmp_path / f"{clip}_180_LR.mp4"
    with refuses("360 video"):  # as it says of itself
        probe_video(pair)
    pair.unlink()
    assert generate(place / "cache", tmp_path, both)[1] == 1


def test_observed_pixels_are_put_back(place, training_set, tmp_path, monkeypatch):
    """They go into a softened prior, all of it observed (of pictures so small too little is). An
    old cache is refused."""
    (clip,) = CacheReader(place / "cache").clips("train")[:1]

    def video(file: Path) -> torch.Tensor:
        return read_all(file, 5, (32, 32)).float() / 255

    prior = video(training_set / "clips" / clip / "ego_prior.mp4")
    all_now = torch.full((5, 32, 32), NOW, dtype=torch.uint8)
    module = "egox_train.train.generate."
    monkeypatch.setattr(module + "_sampled", lambda *_: (prior + torch.roll(prior, 1, 2)) / 2)
    monkeypatch.setattr(module + "read_classes", lambda *_: all_now)
    off, one = [], RunOptions(clips=1)
    for keep in (0.0, 1.0):
        generate(place / "cache", tmp_path, options(place, keep_observed=keep), one)
        off.append((video(tmp_path / f"{clip}.mp4") - prior).abs().mean())
        has_kept_pixels = (
            read_classes(tmp_path / f"{clip}.seen.mkv", 5, (32, 32)) == KEPT_NOW
        ).any()
        assert has_kept_pixels == (keep > 0)
    assert off[1] < 0.9 * off[0]
    monkeypatch.setattr(module + "SEEN", "none.mkv")
    for keep, fault in ((2.0, "keep_observed"), (1.0, "run prepare and cache again")):
        with refuses(fault):
            generate(place / "cache", tmp_path / "again", options(place, keep_observed=keep), one)


def test_parts_make_what_one_call_makes_and_say_what_it_would_cost(place, tiny, tmp_path):
    cache = tiny.make_cache(tmp_path / "cache", 12)
    usual, one, parts = options(place, lora=None, steps=1), tmp_path / "one", tmp_path / "parts"
    one.mkdir()
    (one / ".take5__cam.0123abcd.mp4").touch()  # of a killed run
    first = one / f"{sorted(CacheReader(cache).clips('train'))[0]}.mp4"
    with another_is_at(first, 7) as progress:
        assert generate(cache, one, usual, progress=progress) == (8, 8)
    assert generate(cache, parts, usual, RunOptions(part=(0, 2), clips=4)) == (2, 2)
    sums = generate(cache, parts, usual, RunOptions(dry_run=True))
    assert sums.clips == 6 and sums.size_bytes > 0 and "with 1, 8, 64 devices" in str(sums)
    assert generate(cache, parts, usual) == (8, 6)
    for folder in (one, parts):
        for note in folder.glob("*.json"):  # the one thing that no two runs have alike
            stored_sums = json.loads(note.read_text())
            assert stored_sums.pop("seconds") >= 0
            note.write_text(json.dumps(stored_sums))
    assert contents(one) == contents(parts) and len(contents(one)) == 16


def test_the_lora_says_how_it_wants_to_be_used(place):
    reader = CacheReader(place / "cache")
    conditioning = conditioning_of(options(place), reader)
    assert (conditioning.mask_mode, conditioning.lambda_g, conditioning.gga_mode) == (
        "paper",
        2.0,
        "released",
    )
    assert conditioning_of(options(place, lambda_g=0.5), reader).lambda_g == 0.5
    assert conditioning_of(options(place, lora=None), reader).mask_mode == "released"


@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
@pytest.mark.parametrize("shared", [True, False])
def test_a_kept_exo_half_gives_what_the_whole_canvas_gives(
    place, tiny, monkeypatch, lambda_g, shared
):
    """They agree at the same noise and in float32. Beyond it, steps between differ a little from
    full ones."""
    from egox_core.gga.exo_cache import ExoCache
    from egox_core.wan.canvas import build_mask, model_input
    from egox_train.wan.transformer import load_base

    if not shared:
        monkeypatch.setattr("egox_train.wan.diffusers_processor.SHARED_BIAS_BYTES", 0)
    config = parse_config({"base": "b", "cache": str(place / "cache"), "output": "o", "steps": 1})
    conditioning = config.conditioning.model_copy(update={"lambda_g": lambda_g})
    sample = tiny.first_sample(config)
    model = load_base(place / "base.safetensors")
    scope = install_gga(model)
    scope.set(sample.geometry, conditioning.gga_options())
    t, h, w_exo, w_ego = sample.grid
    mask = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego)
    ego = torch.randn(sample.ego.shape)
    packed = model_input(ego, sample.exo, mask, sample.exo, sample.cond_ego)
    cache, ego_parts = ExoCache(2), []
    with torch.no_grad():
        for _ in range(2):
            grid = (t, h // 2, w_exo // 2, w_ego // 2)
            scope.exo = cache.forward((), (0,), 0.9, [0.9, 0.0], grid, 0, torch.device("cpu"))
            columns = packed[..., w_exo:] if scope.exo.kept else packed
            out = model(
                hidden_states=columns,
                timestep=torch.tensor([900.0]),
                encoder_hidden_states=sample.text,
                encoder_hidden_states_image=sample.image,
                return_dict=False,
            )[0]
            scope.exo.finish(len(model.blocks))
            ego_parts.append(out[..., -w_ego:])
    scope.exo = None
    assert (cache.full, cache.kept) == (1, 1)
    assert (ego_parts[0] - ego_parts[1]).abs().max() <= 1e-5 * ego_parts[0].abs().max()
    negative = {"cfg": 2.0, "negative": torch.zeros_like(sample.text)}
    every, kept_latent = (
        sample_ego(model, scope, sample, conditioning, steps=4, recompute_exo=n, **negative)
        for n in (1, 4)
    )
    assert 0 < (every - kept_latent).std() < 0.2 * every.std() and scope.exo is None


def test_a_noisy_exo_half_is_not_kept(place, tiny):
    from egox_train.wan.transformer import load_base

    config = parse_config({"base": "b", "cache": str(place / "cache"), "output": "o", "steps": 1})
    model = load_base(place / "base.safetensors")
    with refuses("noisy"):
        sample_ego(
            model,
            install_gga(model),
            tiny.first_sample(config),
            ConditioningConfig(exo_clean=False),
            recompute_exo=4,
        )


@pytest.mark.parametrize(("case", "mode"), [("gga3", "released"), ("no_gga", "off")])
def test_guidance_is_the_released_loops(case, mode):
    """Six steps with guidance 5 against the numbers of the released pipeline (golden
    ``denoise_6step``)."""
    golden = load_file(GOLDEN / "denoise_6step.safetensors")
    model = golden_transformer().eval()
    w_ego = golden["in.cam_rays"].shape[2]
    start, prior = golden["in.initial_latent"], golden["in.condition_20ch"][:, 4:, ..., -w_ego:]
    sample = TrainSample(
        clips=("golden",),
        exo=start[..., :-w_ego],
        ego=torch.zeros_like(prior),
        cond_ego=prior,
        text=golden["in.text_embeds"],
        image=golden["in.image_embeds"],
        geometry=(tokens_from_latents(golden["in.point_vecs_per_frame"], golden["in.cam_rays"]),),
    )
    latent = sample_ego(
        model,
        install_gga(model),
        sample,
        ConditioningConfig(gga_mode=mode),
        steps=6,
        cfg=5.0,
        negative=golden["in.negative_text_embeds"],
        noise=start[..., -w_ego:],
    )
    # quirks.md: 1e-4 for the whole loop
    torch.testing.assert_close(
        latent, golden[f"{case}.latents_after_step.5"][..., -w_ego:], atol=1e-4, rtol=0
    )


def test_guidance_encodes_its_negative_prompt_and_needs_the_caches_encoder(place, tmp_path):
    usual = options(place, cfg=3.0, text="zeros:2x24")
    clips, made_count = generate(place / "cache", tmp_path, usual)
    assert clips == made_count
    assert generate(place / "cache", tmp_path, usual)[1] == 0
    assert generate(place / "cache", tmp_path, replace(usual, negative="another"))[1] == clips
    with refuses("--text"):
        generate(place / "cache", tmp_path, options(place, cfg=3.0))
    with refuses("that of the cache"):
        generate(place / "cache", tmp_path, options(place, cfg=3.0, text="zeros:3x24"))


def test_bad_requests(place, tmp_path):
    with refuses("no clip"):
        generate(place / "cache", tmp_path, options(place, split="test"))
    with refuses("steps"):
        generate(place / "cache", tmp_path, options(place, steps=0))
    with refuses("LoRA"):
        generate(place / "cache", tmp_path, options(place, lora=tmp_path / "none.safetensors"))
