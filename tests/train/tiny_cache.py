"""Write a small cache of random latents and a tiny base model."""

import json
from pathlib import Path

import torch
from torch.nn.functional import normalize

from egox_core.gga.geometry import tokens_from_latents
from egox_core.progress import no_progress
from egox_train.data.cache_store import (
    CacheEntry,
    CacheIndex,
    write_index,
    write_shard,
)
from egox_train.fingerprint import fingerprint


def make_cache(
    folder: Path,
    clips: int = 6,
    *,
    nan_clip: str = "",
    rays: str = "released",
    image_dim: int = 0,
    text_dim: int = 24,
) -> Path:
    """Write a small cache of random clips on which training succeeds quickly."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, shard_digests, exo_shape, ego_shape = [], {}, (2, 4, 6), (2, 4, 4)
    for number in range(clips):
        generator = torch.Generator().manual_seed(number)
        name = f"take{number}__cam"
        prior = torch.randn(16, *ego_shape, generator=generator)
        ego = prior + 0.1 * torch.randn(prior.shape, generator=generator)
        if name == nan_clip:
            ego[0, 0, 0, 0] = float("nan")
        geometry = tokens_from_latents(
            *(
                normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
                for shape in ((2, *exo_shape), ego_shape)
            )
        )
        tensors = {
            "exo": torch.randn(16, *exo_shape, generator=generator),
            "ego": ego,
            "prior": prior,
            "grey": torch.zeros_like(prior),
            "text": torch.randn(4, text_dim, generator=generator),
            "exo_first": torch.randn(16, *exo_shape, generator=generator),
            "ego_first": ego.clone(),
            "query_dirs": geometry.query_dirs,
            "key_dirs": geometry.key_dirs,
            "key_trust": geometry.key_trust,
            "grid": torch.tensor(geometry.grid),
        }
        if image_dim:
            tensors["image"] = torch.randn(257, image_dim, generator=generator)
        shard = f"shard-{number:05d}.safetensors"
        made_from = fingerprint({"clip": name, "spoil": nan_clip})
        write_shard(folder / shard, {f"{name}/{k}": v for k, v in tensors.items()}, made_from)
        shard_digests[shard] = made_from
        split = "validation" if number >= clips - clips // 3 else "train"
        entries.append(
            CacheEntry(
                clip=name, take=f"take{number}", split=split, shard=shard, start=0, rank=1, fps=12.5
            )
        )
    write_index(
        folder,
        CacheIndex(
            settings={
                "rays": rays,
                "image_embedding": "released" if image_dim else "none",
                "views": True,
            },
            models={},
            shards=shard_digests,
            entries=tuple(entries),
        ),
    )
    return folder


def make_base(
    file: Path,
    *,
    dim: int = 32,
    layers: int = 2,
    in_channels: int = 36,
    image_dim: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a tiny Wan transformer with random weights."""
    from diffusers import WanTransformer3DModel

    from egox_train.wan.transformer import save_native

    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=dim // 2,
        in_channels=in_channels,
        out_channels=16,
        text_dim=24,
        freq_dim=32,
        ffn_dim=2 * dim,
        num_layers=layers,
        image_dim=image_dim,
        added_kv_proj_dim=dim if image_dim else None,
    )
    save_native(model, file, {}, torch.float32)
    return file


def make_settings(folder: Path, **more) -> dict:
    """Build a small training configuration for the files of a folder."""
    training_settings = {
        "base": str(folder / "base.safetensors"),
        "cache": str(folder / "cache"),
        "output": str(folder / "run"),
        "steps": 6,
        "batch_size": 2,
        "seed": 3,
        "lora": {"rank": 4, "alpha": 4, "targets": ["attn1", "attn2", "ffn"]},
        "memory": {"base_dtype": "float32", "compute_dtype": "float32"},
        "log": {"every": 1},
        "optimizer": {"warmup_steps": 2, "learning_rate": 1e-2},
        "checkpoint": {"every": 2, "keep": 2},
        "validation": {"every": 0},
    }
    return {**training_settings, **more}


def make_config(folder: Path, **more):
    from egox_train.train.config import parse_config

    return parse_config(make_settings(folder, **more))


def train(folder: Path, *, progress=no_progress, **more):
    """Train for a few steps with a small configuration."""
    from egox_train.train import loop

    return loop.train(make_config(folder, **more), progress=progress)


def read_log(output: Path) -> list[dict]:
    """Read the logged values of a training run."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text("utf-8").splitlines()]


def load_first_sample(config):
    """Load the first training sample of a configuration's cache."""
    from egox_train.train.samples import CachedSamples

    cached_samples = CachedSamples(config, "train")
    return cached_samples.load(cached_samples.groups[0][0])
