"""``generate``: resumable, follows the LoRA's own metadata, and every option that it was asked for matters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egox_core.data.cache_build import CacheSettings, build_cache
from egox_core.data.cache_store import CacheReader
from egox_core.errors import EgoXInputError
from egox_core.train.config import parse_config
from egox_core.train.generate import GenerateOptions, conditioning_of, generate
from egox_core.train.loop import train
from egox_core.video import probe_video

VAE = Path(__file__).resolve().parent.parent.parent / "models" / "vae" / "egox_standin_wan_vae.safetensors"


@pytest.fixture(scope="module")
def place(training_set, tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    build_cache(training_set / "manifest.jsonl", folder / "cache",
                CacheSettings(vae=VAE, text="zeros:2x24", image_embedding="none", dtype="float32"))
    tiny.make_base(folder / "base.safetensors")
    conditioning = {"mask_mode": "paper", "lambda_g": 2.0}
    train(parse_config(tiny.settings(folder, steps=2, batch_size=1, conditioning=conditioning)))
    return folder


def options(place: Path, **more) -> GenerateOptions:
    return GenerateOptions(**{"base": place / "base.safetensors", "vae": VAE, "split": "train", "steps": 2,
                              "lora": place / "run" / "lora.safetensors", **more})


def test_one_video_a_clip_made_once(place, tmp_path):
    clips, made = generate(place / "cache", tmp_path, options(place))
    files = sorted(tmp_path.glob("*.mp4"))
    assert clips == made == len(files) >= 1
    info = probe_video(files[0])
    assert (info.frame_count, info.width, info.height) == (5, 32, 32)
    before = {f: f.read_bytes() for f in files}
    files[0].unlink()
    assert generate(place / "cache", tmp_path, options(place)) == (clips, 1)
    assert {f: f.read_bytes() for f in files} == before
    assert generate(place / "cache", tmp_path, options(place))[1] == 0
    assert generate(place / "cache", tmp_path, options(place, seed=5))[1] == clips
    assert files[0].read_bytes() != before[files[0]]


def test_the_lora_says_how_it_wants_to_be_used(place):
    reader = CacheReader(place / "cache")
    own = conditioning_of(options(place), reader)
    assert (own.mask_mode, own.lambda_g, own.gga_mode) == ("paper", 2.0, "released")
    assert conditioning_of(options(place, lambda_g=0.5), reader).lambda_g == 0.5
    assert conditioning_of(options(place, lora=None), reader).mask_mode == "released"


def test_geometry_and_lora_change_what_is_made(place):
    from egox_core.train.cached_samples import CachedSamples
    from egox_core.train.gga_processor import install_gga
    from egox_core.train.lora import fuse, read_lora
    from egox_core.train.sampling import sample_ego
    from egox_core.train.wan_base import load_base

    config = parse_config({"base": "b", "cache": str(place / "cache"), "output": "o", "steps": 1})
    samples = CachedSamples(config, "train")
    sample = samples.load(samples.groups[0][0])
    model = load_base(place / "base.safetensors")
    scope = install_gga(model)
    made = {g: sample_ego(model, scope, sample, config.conditioning.model_copy(update={"lambda_g": g}), steps=2)
            for g in (0.0, 3.0)}
    assert not torch.equal(made[0.0], made[3.0])
    without = replace(sample, geometry=(None,))
    assert torch.equal(made[0.0], sample_ego(model, scope, without, config.conditioning, steps=2))
    fuse(model, {k: v * 50 for k, v in read_lora(place / "run" / "lora.safetensors")[0].items()})
    assert not torch.equal(made[3.0], sample_ego(model, scope, sample, config.conditioning, steps=2))


def test_bad_requests(place, tmp_path):
    with pytest.raises(EgoXInputError, match="no clip"):
        generate(place / "cache", tmp_path, options(place, split="test"))
    with pytest.raises(EgoXInputError, match="steps"):
        generate(place / "cache", tmp_path, options(place, steps=0))
    with pytest.raises(EgoXInputError, match="LoRA"):
        generate(place / "cache", tmp_path, options(place, lora=tmp_path / "none.safetensors"))
