"""Clips of synthetic takes (with ego prior and GGA directions) in shards on the disk, and random pieces to train on.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.data.clip_rays import view_rays
from egox_core.gga.geometry import gga_geometry
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.safe_files import read_json, write_json, write_whole
from egox_core.scene.build import build_scene
from egox_core.types import CameraTrajectory, DepthVideo, GgaGeometry
from lab.drawn import DepthErrors, SyntheticSpec, SyntheticTake, make_take, with_errors
from lab.drawn.layout import draw_layout

from .settings import FIRST_SEED, MOST_CLIPS, ClipSettings, Split

CLIPS_A_SHARD = 16
VIDEOS = ("exo", "ego", "prior")
RAYS = ("exo_rays", "ego_rays", "tile_rays")
SETTINGS_FILE = "settings.json"
SHARES = {"ego": 0.5, "exo": 0.3, "prior": 0.2}
"""How often a piece is taken of each video: the ego video is what must be drawn well."""
COLOUR_SHARE = 0.5  # of pieces whose colour channels are exchanged: more palettes than there are clips


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoClip:
    """One clip as it is trained on; of a scene with several exo cameras there is one for each."""

    seed: int
    exo: Tensor  # [T, H, W, 3] uint8
    ego: Tensor  # [T, S, S, 3] uint8
    prior: Tensor  # [T, S, S, 3] uint8
    coverage: Tensor  # [T, S, S] bool
    geometry: GgaGeometry
    camera: int = 0  # which of the scene's exo cameras
    rays: Mapping[str, Tensor] | None = None  # of a scene with several: as view_rays gives, tiles too
    ego_quarter_turns: int = 0  # of the ego camera's sensor


def clip_spec(seed: int, settings: ClipSettings) -> SyntheticSpec:
    """The scene of a seed; its object size and amount of motion are drawn from the settings' ranges."""
    draw = np.random.default_rng(seed)
    return SyntheticSpec(
        seed=seed, frames=settings.frames, exo_width=settings.exo_width, exo_height=settings.size,
        ego_size=settings.size, fps=settings.fps, texture="plain", clutter="calm",
        object_scale=float(draw.uniform(*settings.object_scale)), motion=float(draw.uniform(*settings.motion)),
        wearer=settings.wearer)


def draw_clip(seed: int, settings: ClipSettings) -> tuple[DemoClip, SyntheticTake]:
    """A clip with everything that was true of it, from exact poses and the depth of :func:`clip_depth`."""
    take = make_take(clip_spec(seed, settings))
    return _clip_of(take, settings), take


def draw_views(seed: int, settings: ClipSettings, cameras: int) -> list[DemoClip]:
    """A clip for each of so many exo cameras, the first as :func:`draw_clip` draws it, with the rays of its tokens."""
    take = make_take(replace(clip_spec(seed, settings), exo_views=cameras))
    clips, ego = [], take.trajectory()
    for number, view in enumerate(take.views):
        rays = view_rays(view.exo_camera, view.exo_w2c, ego, settings.frames, tiles=True)
        clips.append(replace(_clip_of(view, settings), camera=number, rays=rays,
                             ego_quarter_turns=ego.camera.quarter_turns))
    return clips


def rays_of_seed(seed: int, settings: ClipSettings) -> tuple[dict[str, Tensor], int]:
    """What :class:`DemoClip` holds as ``rays`` and ``ego_quarter_turns``, without tiles, of the clip that
    :func:`draw_clip` draws; nothing is rendered."""
    scene = draw_layout(clip_spec(seed, settings)).scene
    camera, exo_w2c = scene.exo_cameras[0]
    times_s = torch.arange(settings.frames, dtype=torch.float64) / settings.fps
    ego = CameraTrajectory(w2c=scene.ego_w2c, camera=scene.ego_camera, times_s=times_s)
    return view_rays(camera, exo_w2c, ego, settings.frames, tiles=False), scene.ego_camera.quarter_turns


def _clip_of(take: SyntheticTake, settings: ClipSettings) -> DemoClip:
    trajectory, depth = take.trajectory(), clip_depth(take, settings)
    prior = render_ego_prior(build_scene(take.exo_frames(), depth), trajectory, prior_preset(settings.preset))
    geometry = gga_geometry(depth, trajectory, settings.rays, frames=settings.frames,
                            exo_size=(settings.exo_width, settings.size), ego_size=(settings.size, settings.size))
    return DemoClip(seed=take.spec.seed, exo=take.exo_rgb, ego=take.ego_rgb, coverage=prior.coverage,
                    geometry=geometry, prior=(prior.rgb * 255).round().clamp(0, 255).to(torch.uint8))


def clip_depth(take: SyntheticTake, settings: ClipSettings) -> DepthVideo:
    """The exact depth, or in the settings' share of the clips a network's, drawn from the clip's seed."""
    draw = np.random.default_rng((take.spec.seed, 1))
    if draw.random() >= settings.depth_errors:
        return take.depth_video()
    amount = float(draw.uniform(1, 2))
    errors = DepthErrors(low_frequency=0.03 * amount, bleed_px=amount, flicker=0.01 * amount)
    return with_errors(take.depth_video(), errors, take.spec.seed)


def make_clips(folder: Path, split: Split, count: int, settings: ClipSettings, *, cameras: int = 1, workers: int = 1,
               wanted: Callable[[], bool] = lambda: True, tell: Callable[[int, int], None] = lambda d, n: None) -> bool:
    """Makes the shards that are missing; False where ``wanted`` said to stop before all were there.

    ``count`` is of scenes: with several ``cameras`` each has a clip a camera, and rays.

    Raises:
        ValueError: the folder holds clips of other settings, or more clips than the split has seeds.
    """
    if count > MOST_CLIPS[split]:
        raise ValueError(f"{split}: {count} clips, but only {MOST_CLIPS[split]} seeds; ask for fewer")
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    values |= {"cameras": cameras} if cameras > 1 else {}
    if (folder / SETTINGS_FILE).is_file() and read_json(folder / SETTINGS_FILE) != values:
        raise ValueError(f"{folder} holds clips of other settings; remove it, or work in another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS_FILE, values)
    shards = [(shard_file(folder, split, n), FIRST_SEED[split] + n * CLIPS_A_SHARD,
               min(CLIPS_A_SHARD, count - n * CLIPS_A_SHARD)) for n in range(-(-count // CLIPS_A_SHARD))]
    todo = [s for s in shards if not s[0].is_file()]
    shards_there = len(shards) - len(todo)
    # Spawned: forking a process that has torch threads can hang, and Windows knows nothing else.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        drawing: set[Future[None]] = set()
        while True:
            while todo and len(drawing) < workers and wanted():
                drawing.add(pool.submit(_make_shard, *todo.pop(0), settings, cameras))
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
    grid = tuple(content["grid"].tolist())
    rays = [name for name in RAYS if name in content]
    return [DemoClip(
        seed=int(content["seed"][i]), exo=content["exo"][i], ego=content["ego"][i], prior=content["prior"][i],
        coverage=content["coverage"][i],
        geometry=GgaGeometry(query_dirs=content["query_dirs"][i], key_dirs=content["key_dirs"][i],
                             key_trust=content["key_trust"][i], grid=grid, rays=str(content["rays"])
                             if "rays" in content else "exact"),
        **({"camera": int(content["camera"][i]), "rays": {name: content[name][i] for name in rays},
            "ego_quarter_turns": int(content["ego_quarter_turns"][i])} if rays else {}))
        for i in range(len(content["seed"]))]


def shard_files(folder: Path, split: Split) -> list[Path]:
    """The shards that are there, in order."""
    return sorted(folder.glob(f"{split}-*.npz"))


def shard_file(folder: Path, split: Split, number: int) -> Path:
    """Where a shard lies, drawn or not."""
    return folder / f"{split}-{number:05d}.npz"


def _make_shard(file: Path, first_seed: int, number: int, settings: ClipSettings, cameras: int) -> None:
    torch.set_num_threads(1)
    clips = []
    for seed in range(first_seed, first_seed + number):
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            sys.exit("the process that wanted these clips is gone")
        clips += draw_views(seed, settings, cameras) if cameras > 1 else [draw_clip(seed, settings)[0]]
    content = {name: torch.stack([getattr(c, name) for c in clips]).numpy() for name in (*VIDEOS, "coverage")}
    for name in ("query_dirs", "key_dirs", "key_trust"):
        content[name] = torch.stack([getattr(c.geometry, name) for c in clips]).float().numpy()
    if cameras > 1:
        content |= {name: np.array([getattr(c, name) for c in clips]) for name in ("camera", "ego_quarter_turns")}
        content |= {name: torch.stack([c.rays[name] for c in clips]).numpy() for name in RAYS}
    with write_whole(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, seed=np.array([c.seed for c in clips]), grid=np.array(clips[0].geometry.grid), **content)


class ClipPool:
    """Holds the clips as bytes; :meth:`look` takes in shards that were written since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.videos: dict[str, list[Tensor]] = {name: [] for name in SHARES}
        self._known: set[Path] = set()

    def look(self) -> int:
        """Reads new shards; how many clips there are now."""
        for file in shard_files(self.folder, "train"):
            if file in self._known:
                continue
            self._known.add(file)
            for clip in read_shard(file):
                for name in SHARES:
                    self.videos[name].append(getattr(clip, name))
        return len(self.videos["ego"])

    def pieces(self, count: int, crop: int, draw: np.random.Generator) -> Tensor:
        """``count`` pieces [count, 3, T, crop, crop], -1...1: anywhere, mirrored or not, in own or other colours."""
        out = []
        for name in draw.choice(list(SHARES), count, p=list(SHARES.values())):
            video = self.videos[name][draw.integers(len(self.videos[name]))]
            top, left = (int(draw.integers(size - crop + 1)) for size in video.shape[1:3])
            piece = video[:, top : top + crop, left : left + crop].movedim(-1, 0)
            if draw.random() < 0.5:
                piece = piece.flip(-1)
            if draw.random() < COLOUR_SHARE:
                piece = piece[torch.from_numpy(draw.permutation(3))]
            out.append(piece)
        return torch.stack(out).float() / 127.5 - 1
