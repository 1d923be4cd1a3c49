"""Clips of drawn takes, with ego prior and GGA directions, in shards on the disk."""

from collections.abc import Callable
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
from egox_train.parallel import RunPlaces, run_items
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
        ValueError: the folder holds clips of other settings, more clips than the split has seeds,
            or a clip that can't be drawn.
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
        _Shard(
            file=shard_file(folder, split, number),
            seeds=range(
                FIRST_SEED[split] + first, FIRST_SEED[split] + min(first + CLIPS_PER_SHARD, count)
            ),
            settings=settings,
        )
        for number, first in enumerate(range(0, count, CLIPS_PER_SHARD))
    ]
    todo = [shard for shard in shards if not shard.file.is_file()]
    made = run_items(_make_shard, todo, RunPlaces(workers=workers)) if wanted() else ()
    for done, (_, _, error) in enumerate(made, start=1 + len(shards) - len(todo)):
        if error:
            raise ValueError(error)
        tell(done, len(shards))
        if not wanted():
            break
    return all(shard.file.is_file() for shard in shards)


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


@frozen
class _Shard:
    """One unit of work, picklable."""

    file: Path
    seeds: range
    settings: ClipSettings


def _make_shard(shard: _Shard) -> None:
    clips = [draw_clip(seed, shard.settings)[0] for seed in shard.seeds]
    content = {
        name: torch.stack([getattr(c, name) for c in clips]).numpy()
        for name in (*VIDEOS, "coverage")
    }
    for name in DIRECTIONS:
        content[name] = torch.stack([getattr(c.geometry, name) for c in clips]).float().numpy()
    with atomic_write(shard.file) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            seed=np.array([c.seed for c in clips]),
            grid=np.array(clips[0].geometry.grid),
            **content,
        )
