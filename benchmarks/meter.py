"""Does the kernel distance of ``bench small_model`` hear blur and noise, and can none of them pass it?

    python3 run.py bench meter [--train] [--keep] [--rooms N] [--takes N] [--save]

``--train`` makes the classifier anew whose features are compared: rooms of its own (no training and no test of the
model draws their seeds), two frames each, every place of a picture named by what it shows. The meter's own test: on
the true pictures of the next model's scenes the distance to the truth must rise with blur (sigma .5, 1, 2, 4 px of 128)
and with noise (standard deviation 2, 5, 10 of 255), and noise 9 or an unsharp mask must not surely lower that of the
pictures which the shipped model makes of these scenes at its own size. ``--keep`` leaves features and figures of these
pictures in ``results/small_model_before.npz``, for the next model to be compared with. The exit code is 0 only where
all of it holds.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from benchmarks.support.drawn_features import (
    BEFORE_FILE,
    CELL,
    FIGURES,
    KINDS,
    WEIGHTS,
    DrawnNet,
    KernelDistance,
    at_size,
    facts_of_net,
    features_of,
    load_net,
)
from benchmarks.support.record import bench_parser, finish
from egox_core.cli.progress_line import ProgressLine
from egox_core.metrics.objects import MIN_OBJECT, SEEN_SHARE
from egox_core.metrics.outlines import object_outlines, outline_share, quiet_gradient
from egox_core.safe_files import write_whole
from egox_core.types import ObjectMasks
from lab.drawn import SyntheticTake, make_take
from lab.drawn.ground_truth import take_objects
from lab.small_model.clips import clip_spec
from lab.small_model.contract import DEFAULT_SAMPLER, SampleSettings, VideoStore, load_sampler
from lab.small_model.held_out import clip_of_take, masks_of
from lab.small_model.scores import MODEL, as_float, flicker
from lab.small_model.settings import FIRST_SEED, DemoTraining

ROOT = Path(__file__).resolve().parent.parent
FIRST_ROOM, HELD_OUT = 1_100_000, 16
"""Seeds after those of every split of the model's; so many of the rooms only say how good the classifier is."""
FRAMES, APART_FPS = 2, 1.0
STEPS, BATCH, RATE, SEED = 600, 16, 2e-3, 7
NOISE_LEVEL = 10 / 127.5
"""Pictures get noise up to this in training: features of a classifier that never met any run away with the least."""
TRICKS = (f"{MODEL}, noise 9", f"{MODEL}, unsharp mask")
BLURS, NOISES = (0.5, 1.0, 2.0, 4.0), (2.0, 5.0, 10.0)


def main() -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--train", action="store_true", help="make the classifier anew")
    parser.add_argument("--keep", action="store_true", help="keep the shipped model's features and figures")
    parser.add_argument("--rooms", type=int, default=120, help="that it is trained on")
    parser.add_argument("--takes", type=int, default=64, help="of the meter's test")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "output" / "meter", help="folder for what is drawn")
    args = parser.parse_args()
    if args.train:
        train(*rooms(args.work, args.rooms + HELD_OUT, args.workers))
    result: dict[str, Any] = {"takes": args.takes, "classifier": facts_of_net()}
    takes = true_takes(args.work, args.takes, args.workers)
    before = shipped_videos(args.work, args.takes)
    result["distances"] = distances = test([take["ego"] for take in takes], before)
    if args.keep:
        keep(takes, before)
    result["passed"] = passed = holds(distances)
    table = "\n".join(["| | kernel distance |", "| --- | --- |", *(
        f"| {name} | {d['mean']:.4f} [{d['low']:.4f}, {d['high']:.4f}] |" for name, d in distances.items())])
    return finish("meter", result, args, table, passed)


def test(truth: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """Kernel distance to the truth of what blur and noise make of it, and of the shipped model's pictures."""
    net = load_net()
    true = features_of(net, truth)
    videos = {f"truth, blur {b:g}": [blurred(v, b) for v in truth] for b in BLURS}
    videos |= {f"truth, noise {n:g}": [noisy(v, n) for v in truth] for n in NOISES}
    noise, unsharp = TRICKS
    videos |= {MODEL: before, noise: [noisy(v, 9) for v in before], unsharp: [sharpened(v) for v in before]}
    distances = {name: KernelDistance.between(features_of(net, of), true) for name, of in videos.items()}
    figures = {name: distance.estimate() for name, distance in distances.items()}
    figures |= {f"{name}, less the model's": distances[name].estimate(distances[MODEL]) for name in TRICKS}
    return {name: figure.as_dict() for name, figure in figures.items()}


def holds(distances: Mapping[str, Mapping[str, float]]) -> bool:
    """Both rise, and no trick's distance is surely under that of the model's own pictures."""
    return (rises([distances[f"truth, blur {b:g}"]["mean"] for b in BLURS])
            and rises([distances[f"truth, noise {n:g}"]["mean"] for n in NOISES])
            and all(distances[f"{name}, less the model's"]["high"] >= 0 for name in TRICKS))


def rises(distances: Sequence[float]) -> bool:
    return distances[0] > 0 and all(a < b for a, b in zip(distances, distances[1:], strict=False))


def blurred(video: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in video])


def noisy(video: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(SEED).normal(0, deviation, video.shape)
    return np.clip(np.rint(video + noise), 0, 255).astype(np.uint8)


def sharpened(video: np.ndarray, sigma: float = 1.0, amount: float = 1.0) -> np.ndarray:
    """Unsharp mask."""
    wide = video.astype(np.float32)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in wide])
    return np.clip(np.rint(wide + amount * (wide - soft)), 0, 255).astype(np.uint8)


def rooms(folder: Path, count: int, workers: int) -> tuple[Tensor, Tensor]:
    """(pictures [N, S, S, 3] uint8, kinds [N, S / 4, S / 4] int64), frames of a room one after the other."""
    drawn = _drawn(folder / "rooms", _room, range(FIRST_ROOM, FIRST_ROOM + count), workers)
    return tuple(torch.from_numpy(np.concatenate([room[name] for room in drawn])) for name in ("ego", "kinds"))


def true_takes(folder: Path, count: int, workers: int) -> list[dict[str, np.ndarray]]:
    """Ego videos and judged objects of the next model's test scenes."""
    first = FIRST_SEED["test"]
    return _drawn(folder / "truth", _truth, range(first, first + count), workers)


def shipped_videos(folder: Path, count: int) -> list[np.ndarray]:
    """What the shipped model makes of these scenes, at its own size."""
    sampler = load_sampler(DEFAULT_SAMPLER)
    clips = DemoTraining().clips
    specs = [clip_spec(FIRST_SEED["test"] + number, clips) for number in range(count)]
    held_out = [clip_of_take(make_take(spec), sampler.PRIOR_PRESET) for spec in specs]
    store = VideoStore(folder=folder / "videos", model=sampler.fingerprint())
    return store.generated(sampler, held_out, SampleSettings(), MODEL, ProgressLine())


def keep(takes: Sequence[Mapping[str, np.ndarray]], before: Sequence[np.ndarray]) -> None:
    """Features [N, T, 32] and figures [N] of the shipped model's videos, resized to the next model's pictures."""
    figures = []
    for take, video in zip(takes, before, strict=True):
        large, truth = (at_size(video).movedim(1, -1) + 1) / 2, as_float(take["ego"])
        objects = ObjectMasks(ids=tuple(take["ids"]), truth=take["judged"], generated=None, seen=None)
        figures.append((outline_share(large, truth), quiet_gradient(large, truth),
                        object_outlines(objects, large, truth), flicker(large, truth)))
    columns = np.array(figures, dtype=float).T  # None becomes NaN
    with write_whole(BEFORE_FILE) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, clips=np.array([f"seed {FIRST_SEED['test'] + n}" for n in range(len(takes))]),
                            features=features_of(load_net(), before).astype(np.float16),
                            **dict(zip(FIGURES, columns.astype(np.float32), strict=True)))


def _drawn(folder: Path, draw: Callable, seeds: range, workers: int) -> list[dict[str, np.ndarray]]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{seed}.npz" for seed in seeds]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(draw, [(seed, file) for seed, file in zip(seeds, files, strict=True) if not file.is_file()]))
    return [dict(np.load(file)) for file in files]


def _room(job: tuple[int, Path]) -> None:
    torch.set_num_threads(1)
    spec = clip_spec(job[0], DemoTraining().clips)  # nobody looks at exo: it is drawn small
    take = make_take(replace(spec, frames=FRAMES, fps=APART_FPS, exo_width=56, exo_height=32))
    _save(job[1], ego=take.ego_rgb.numpy(), kinds=kinds_of(take).numpy())


def _truth(job: tuple[int, Path]) -> None:
    torch.set_num_threads(1)
    take = make_take(clip_spec(job[0], DemoTraining().clips))
    objects = masks_of(take_objects(take, least_share=MIN_OBJECT))
    _save(job[1], ego=take.ego_rgb.numpy(), ids=np.array(objects.ids, dtype=str),
          judged=objects.truth & (objects.seen >= SEEN_SHARE)[..., None, None])


def _save(file: Path, **arrays: np.ndarray) -> None:
    with write_whole(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def kinds_of(take: SyntheticTake) -> Tensor:
    """[T, S / 4, S / 4] int64: what stands in the middle of each place; -1 where nothing is hit."""
    words = {word: number for number, words in enumerate(KINDS.values()) for word in words}
    table = torch.tensor([words.get(s.name.split()[0], len(KINDS) - 1) for s in take.scene.solids] + [-1])
    return table[take.ego_index[:, CELL // 2 :: CELL, CELL // 2 :: CELL].long()]


def train(pictures: Tensor, kinds: Tensor) -> None:
    """Trains and writes the classifier; the first rooms only say how many places it names rightly."""
    torch.manual_seed(SEED)
    held_out = HELD_OUT * FRAMES
    net, draw = DrawnNet().to(memory_format=torch.channels_last), torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for _ in range(STEPS):
        chosen = held_out + torch.randint(len(pictures) - held_out, (BATCH,), generator=draw)
        frames, wanted = as_input(pictures[chosen]), kinds[chosen]
        frames = frames[:, torch.randperm(3, generator=draw)]  # other palettes
        level = NOISE_LEVEL * torch.rand(BATCH, 1, 1, 1, generator=draw)
        frames = frames + level * torch.randn(frames.shape, generator=draw)
        if torch.rand((), generator=draw) < 0.5:
            frames, wanted = frames.flip(-1), wanted.flip(-1)
        loss = functional.cross_entropy(net(frames), wanted, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        parts = as_input(pictures).split(BATCH)
        features = torch.cat([net.last(net.body(part)).mean((2, 3)) for part in parts[held_out // BATCH :]])
        net.mean.copy_(features.mean(0))
        net.spread.copy_(features.std(0).clamp_min(1e-3))
        named = torch.cat([net(part).argmax(1) for part in parts])[:held_out]
    known = kinds[:held_out] >= 0
    weights = {k: v.half().contiguous() for k, v in net.state_dict().items() if v.is_floating_point()}
    facts = {"rooms": len(pictures) // FRAMES - HELD_OUT, "steps": STEPS,
             "places named rightly": round(float((named == kinds[:held_out])[known].float().mean()), 4)}
    with write_whole(WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"facts": json.dumps(facts)})


def as_input(pictures: Tensor) -> Tensor:
    """[N, S, S, 3] uint8 -> [N, 3, S, S] in -1...1."""
    return pictures.movedim(-1, 1).float() / 127.5 - 1


if __name__ == "__main__":
    raise SystemExit(main())
