"""Clips of drawn takes, with ego prior and GGA directions, in shards on the disk."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.gga import gga_geometry
from egox_core.safe_files import atomic_write, read_json, write_json
from egox_core.stages import prior, scene
from egox_core.types import DepthVideo, GgaGeometry
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, make_take, with_errors

from .settings import FIRST_SEED, MAX_CLIPS, ClipSettings, Split

CLIPS_PER_SHARD = 16
VIDEOS = ("exo", "ego", "prior")
DIRECTIONS = ("query_dirs", "key_dirs", "key_trust")
SETTINGS_FILE = "settings.json"


@frozen
class DemoClip:
    """One clip as it is trained on."""

    seed: int
    exo: Tensor  # [T, H, W, 3] uint8
    ego: Tensor  # [T, S, S, 3] uint8
    prior: Tensor  # [T, S, S, 3] uint8
    coverage: Tensor  # [T, S, S] bool
    geometry: GgaGeometry


def clip_spec(seed: int, settings: ClipSettings) -> SyntheticSpec:
    """The scene of a seed; object size and motion are drawn from the settings' ranges."""
    draw = np.random.default_rng(seed)
    return SyntheticSpec(
        seed=seed,
        frames=settings.frames,
        exo_width=settings.exo_width,
        exo_height=settings.size,
        ego_size=settings.size,
        fps=settings.fps,
        texture="plain",
        clutter="calm",
        object_scale=float(draw.uniform(*settings.object_scale)),
        motion=float(draw.uniform(*settings.motion)),
        wearer=settings.wearer,
    )


def draw_clip(seed: int, settings: ClipSettings) -> tuple[DemoClip, SyntheticTake]:
    """The clip of a seed, from exact poses and :func:`clip_depth`, and its take."""
    take = make_take(clip_spec(seed, settings))
    trajectory, depth = take.trajectory(), clip_depth(take, settings)
    points, _ = scene(take.exo_frames(), depth)
    drawn, _ = prior(points, trajectory, settings.preset)
    geometry = gga_geometry(
        depth,
        trajectory,
        settings.rays,
        frames=settings.frames,
        exo_size=(settings.exo_width, settings.size),
        ego_size=(settings.size, settings.size),
    )
    clip = DemoClip(
        seed=seed,
        exo=take.exo_rgb,
        ego=take.ego_rgb,
        coverage=drawn.coverage,
        geometry=geometry,
        prior=(drawn.rgb * 255).round().clamp(0, 255).to(torch.uint8),
    )
    return clip, take


def clip_depth(take: SyntheticTake, settings: ClipSettings) -> DepthVideo:
    """The exact depth, or in a share of the clips a network's, drawn from the clip's seed."""
    draw = np.random.default_rng((take.spec.seed, 1))
    if draw.random() >= settings.depth_errors:
        return take.depth_video()
    amount = float(draw.uniform(1, 2))
    errors = DepthErrors(low_frequency=0.03 * amount, bleed_px=amount, flicker=0.01 * amount)
    return with_errors(take.depth_video(), errors, take.spec.seed)


def make_clips(
    folder: Path,
    split: Split,
    count: int,
    settings: ClipSettings,
    *,
    workers: int = 1,
    wanted: Callable[[], bool] = lambda: True,
    tell: Callable[[int, int], None] = lambda d, n: None,
) -> bool:
    """Draws the shards that are missing; False where ``wanted`` stopped it before all were there.

    Raises:
        ValueError: the folder holds clips of other settings, or more clips than the split has
        seeds.
    """
    if count > MAX_CLIPS[split]:
        raise ValueError(
            f"{split}: {count} clips, but only {MAX_CLIPS[split]} seeds; ask for fewer"
        )
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(settings).items()
    }
    if (folder / SETTINGS_FILE).is_file() and read_json(folder / SETTINGS_FILE) != values:
        raise ValueError(
            f"{folder} holds clips of other settings; remove it, or work in another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS_FILE, values)
    shards = [
        (
            shard_file(folder, split, n),
            FIRST_SEED[split] + n * CLIPS_PER_SHARD,
            min(CLIPS_PER_SHARD, count - n * CLIPS_PER_SHARD),
        )
        for n in range(-(-count // CLIPS_PER_SHARD))
    ]
    todo = [s for s in shards if not s[0].is_file()]
    shards_there = len(shards) - len(todo)
    # Spawned: forking a process that has torch threads can hang, and Windows knows nothing else.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        drawing: set[Future[None]] = set()
        while True:
            while todo and len(drawing) < workers and wanted():
                drawing.add(pool.submit(_make_shard, *todo.pop(0), settings))
            if not drawing:
                break
            finished, drawing = wait(drawing, return_when=FIRST_COMPLETED)
            for shard in finished:
                shard.result()
                shards_there += 1
                tell(shards_there, len(shards))
    return shards_there == len(shards)


def read_shard(file: Path) -> list[DemoClip]:
    """The clips of one shard."""
    with np.load(file) as archive:
        content = {name: torch.from_numpy(archive[name]) for name in archive.files}
    grid, names = tuple(content["grid"].tolist()), (*VIDEOS, "coverage")
    return [
        DemoClip(
            seed=int(seed),
            **{name: content[name][i] for name in names},
            geometry=GgaGeometry(
                grid=grid, rays="exact", **{name: content[name][i] for name in DIRECTIONS}
            ),
        )
        for i, seed in enumerate(content["seed"])
    ]


def shard_files(folder: Path, split: Split) -> list[Path]:
    """The shards that are there, in order."""
    return sorted(folder.glob(f"{split}-*.npz"))


def shard_file(folder: Path, split: Split, number: int) -> Path:
    """Path of a shard, drawn or not."""
    return folder / f"{split}-{number:05d}.npz"


def _make_shard(file: Path, first_seed: int, number: int, settings: ClipSettings) -> None:
    torch.set_num_threads(1)
    clips = []
    for seed in range(first_seed, first_seed + number):
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            sys.exit("the process that wanted these clips is gone")
        clips.append(draw_clip(seed, settings)[0])
    content = {
        name: torch.stack([getattr(c, name) for c in clips]).numpy()
        for name in (*VIDEOS, "coverage")
    }
    for name in DIRECTIONS:
        content[name] = torch.stack([getattr(c.geometry, name) for c in clips]).float().numpy()
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            seed=np.array([c.seed for c in clips]),
            grid=np.array(clips[0].geometry.grid),
            **content,
        )
