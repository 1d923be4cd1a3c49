"""What ``train_egox.py train`` adds to forward and backward of the same model: loading, geometry, optimizer, logging.

    python3 run.py bench train_overhead [--threads 1] [--steps 12] [--save]

A small Wan of random weights (dim 256, 4 heads, 8 layers, ffn 1024), LoRA of rank 32 on attention and ffn, batch 16,
306 tokens, bfloat16 compute on the CPU, released attention bias. The bare loop is forward and backward of that model on
one batch that lies ready. What counts is the time that the process spends computing: on a busy machine the wall clock
says more about its neighbours.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.support.record import bench_parser, finish
from egox_core.data.cache_store import CacheEntry, CacheIndex, fingerprint, shard_name, write_index, write_shard
from egox_core.train.config import TrainConfig, parse_config
from egox_core.train.loop import train
from egox_core.train.loss import flow_loss
from egox_core.train.model import make_trainable
from egox_core.train.samples import CachedSamples, collate, noise_for, sample_generator
from egox_core.wan.transformer import save_untrained

SMALL = {"num_attention_heads": 4, "attention_head_dim": 64, "ffn_dim": 1024, "num_layers": 8, "freq_dim": 256}
GRID = (3, 12, 22, 12)  # latent frames, height, exo width, ego width: 9 frames of 176x96 and 96x96
TEXT = (32, 64)  # tokens, dim
CLIPS_A_SHARD = 32


def make_cache(folder: Path, clips: int) -> None:
    """Random latents and directions of the size that is measured."""
    t, h, w_exo, w_ego = GRID
    entries, shards = [], {}
    generator = torch.Generator().manual_seed(1)
    for start in range(0, clips, CLIPS_A_SHARD):
        tensors, shard = {}, shard_name(start // CLIPS_A_SHARD)
        for number in range(start, min(start + CLIPS_A_SHARD, clips)):
            keys = torch.randn(t, t, h // 2, (w_exo + w_ego) // 2, 3, generator=generator)
            keys = torch.nn.functional.normalize(keys, dim=-1)
            trust = torch.ones(t, h // 2, (w_exo + w_ego) // 2)
            keys[..., w_exo // 2:, :], trust[..., w_exo // 2:] = 0, 0
            queries = torch.nn.functional.normalize(torch.randn(t, h // 2 * w_ego // 2, 3, generator=generator), dim=-1)
            latents = {name: torch.randn(16, t, h, w, generator=generator).to(torch.bfloat16) for name, w in (
                ("exo", w_exo), ("ego", w_ego), ("prior", w_ego), ("grey", w_ego))}
            own = {**latents, "text": torch.randn(*TEXT, generator=generator), "query_dirs": queries,
                   "key_dirs": keys.flatten(1, 3), "key_trust": trust.flatten(),
                   "grid": torch.tensor([t, h // 2, w_exo // 2, w_ego // 2])}
            tensors |= {f"c{number}/{k}": v for k, v in own.items()}
            entries.append(CacheEntry(clip=f"c{number}", take=f"t{number}", split="train", shard=shard,
                                      start=0, rank=1))
        shards[shard] = fingerprint({"shard": shard})
        write_shard(folder / shard, tensors, shards[shard])
    write_index(folder, CacheIndex(settings={"rays": "released", "image_embedding": "none"}, models={}, shards=shards,
                                   entries=tuple(entries)))


def configuration(folder: Path, steps: int, batch: int, gga: str) -> TrainConfig:
    return parse_config({
        "base": str(folder / "base.safetensors"), "cache": str(folder / "cache"), "output": str(folder / gga),
        "steps": steps, "batch_size": batch, "conditioning": {"gga_mode": gga, "image_embedding": "none"},
        "lora": {"rank": 32, "alpha": 32, "targets": ["attn1", "attn2", "ffn"]}, "ema_decay": 0.99,
        "memory": {"base_dtype": "bfloat16", "compute_dtype": "bfloat16", "gradient_checkpointing": False},
        "validation": {"every": 0}, "log": {"every": 10}, "checkpoint": {"every": 100000}})


def bare_seconds(folder: Path, steps: int, batch: int, gga: str) -> list[float]:
    """Processor seconds of forward and backward alone, on one batch."""
    config = configuration(folder, steps, batch, gga)
    trainable, samples = make_trainable(config, torch.device("cpu")), CachedSamples(config, "train")
    loaded = [samples.load(item) for item, _ in samples.items_of_step(0, batch)]
    noise = torch.cat([noise_for(s, sample_generator(0, n, "noise"), False) for n, s in enumerate(loaded)])
    dtype, sigmas = trainable.compute_dtype, torch.full((batch,), 0.7)
    sample = collate(loaded).to("cpu", dtype)
    trainable.model.train()
    seconds = []
    for _ in range(steps):
        started = time.process_time()
        with torch.autocast("cpu", dtype=dtype, enabled=trainable.autocast):
            result = flow_loss(trainable.model, trainable.scope, sample, noise.to(dtype), sigmas, config.conditioning)
        result.loss.backward()
        seconds.append(time.process_time() - started)
        for parameter in trainable.parameters:
            parameter.grad = None
    return seconds


def trainer_seconds(folder: Path, steps: int, batch: int, gga: str) -> list[float]:
    """Processor seconds between the trainer's own step reports."""
    moments = [time.process_time()]
    train(configuration(folder, steps, batch, gga), resume=False,
          progress=lambda *_: moments.append(time.process_time()))
    return [b - a for a, b in zip(moments[1:], moments[2:], strict=False)]


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch has them")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--clips", type=int, default=256)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_untrained(folder / "base.safetensors", 0, text_dim=TEXT[1], **SMALL)
        (folder / "cache").mkdir()
        make_cache(folder / "cache", args.clips)
        timed = {"bare, no geometry": bare_seconds(folder, args.steps, args.batch, "off"),
                 "bare, geometry": bare_seconds(folder, args.steps, args.batch, "released"),
                 "trainer, no geometry": trainer_seconds(folder, args.steps, args.batch, "off"),
                 "trainer, geometry": trainer_seconds(folder, args.steps, args.batch, "released")}
    seconds = {name: round(statistics.median(values[1:]), 3) for name, values in timed.items()}
    first = seconds["bare, no geometry"]
    ratio = {name: round(value / first, 3) for name, value in seconds.items()}
    result = {"setting": {"tokens": GRID[0] * GRID[1] * sum(GRID[2:]) // 4, "batch": args.batch, **SMALL},
              "median_cpu_seconds_a_step": seconds, "ratio_to_bare": ratio}
    lines = [f"{n:<24} {seconds[n]:8.3f} s  {ratio[n]:6.2f}x" for n in seconds]
    return finish("train_overhead", result, args, "\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
