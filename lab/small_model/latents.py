"""The clips as the trainer's cache: latents of the finished VAE, the fixed text, GGA directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from egox_core.data.cache_store import (
    CacheEntry,
    CacheIndex,
    fingerprint,
    shard_fingerprint,
    stored,
    write_index,
    write_shard,
)
from egox_core.data.clip_files import first_frame_then_grey
from egox_core.data.clip_rays import mirrored_rays, tile_pictures, tile_size
from egox_core.errors import EgoXInputError
from egox_core.types import GgaGeometry
from egox_core.wan.latents import normalise_latent
from egox_core.wan.vae import VaeEncoder
from egox_core.wan.weights import weights_hash

from .clips import CLIPS_A_SHARD, DemoClip, rays_of_seed, read_shard, shard_file, shard_files
from .settings import ClipSettings
from .vae_model import encode, whole_clips

VERSION = 1
ENCODED_AT_ONCE = 2
"""Videos: with sixteen each takes more than twice as long on a processor, whose cache they no longer fit."""
DTYPE = torch.bfloat16


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another clip from the same drawing: seen in a mirror, in other colours, or both."""

    mirrored: bool
    recoloured: bool


VARIANTS = (Variant(mirrored=False, recoloured=False), Variant(mirrored=True, recoloured=True),
            Variant(mirrored=False, recoloured=True), Variant(mirrored=True, recoloured=False))
RECOLOURINGS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
"""Orders of the colour channels; which one is taken follows from the clip's seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSettings:
    """Which latents: ``views`` for the base (single views), else what EgoX needs, and the rays of all tokens."""

    views: bool
    clips: tuple[int, int]  # of the training split, from and to, in whole shards
    variants: int = 1  # of each training clip: as it is, then as VARIANTS has it
    cameras: int = 1  # of each scene; with several, the exo view as a tile is there, too


class LatentMaker:
    """Encodes shards of clips with one VAE."""

    def __init__(self, vae: Path, text: Path, clips: ClipSettings, device: str = "cpu") -> None:
        self.device, self.clips = torch.device(device), clips
        self.model = whole_clips(VaeEncoder(vae, device).model)
        self.models = {"vae": weights_hash(vae, "VAE"), "text": weights_hash(text, "text embedding")}
        embedding = load_file(text)["embedding"]
        self.text = embedding.reshape(-1, embedding.shape[-1])  # the host's has a batch axis
        self.grey = self._grey(clips.size, clips.size)

    @cached_property
    def grey_tile(self) -> Tensor:  # [16, t, h, w]
        """Of a grey video as large as a tile of a mosaic."""
        return self._grey(*tile_size((self.clips.exo_width, self.clips.size)))

    def _grey(self, width: int, height: int) -> Tensor:
        return self.encode([torch.full((self.clips.frames, height, width, 3), 128, dtype=torch.uint8)])[0]

    @torch.no_grad()
    def encode(self, videos: list[Tensor]) -> Tensor:
        """[T, H, W, 3] uint8 each -> [B, 16, t, h, w] in model space."""
        made = []
        for first in range(0, len(videos), ENCODED_AT_ONCE):
            pictures = torch.stack(videos[first : first + ENCODED_AT_ONCE]).movedim(-1, 1)
            batch = (pictures.float().to(self.device) / 127.5 - 1).contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast(self.device.type, torch.bfloat16):
                made.append(encode(self.model, batch).float().cpu())
        return normalise_latent(torch.cat(made))

    def tensors(self, clips: list[DemoClip], variant: int, views: bool) -> list[dict[str, Tensor]]:
        """What the cache holds of each clip."""
        change = VARIANTS[variant]
        videos = {name: [_changed(getattr(c, name), c.seed + variant, change) for c in clips]
                  for name in (("exo", "ego") if views else ("exo", "ego", "prior"))}
        if views:
            videos |= {f"{name}_first": [first_frame_then_grey(v) for v in videos[name]] for name in ("exo", "ego")}
        if several := clips[0].rays is not None:
            videos["tile"] = [tile_pictures(video) for video in videos["exo"]]
        latents = {name: self.encode(pictures) for name, pictures in videos.items()}
        out = []
        for i, clip in enumerate(clips):
            tensors = {name: stored(latent[i], DTYPE) for name, latent in latents.items()}
            tensors["text"] = stored(self.text, DTYPE)
            if not views:
                geometry = mirrored(clip.geometry) if change.mirrored else clip.geometry
                tensors |= {"grey": stored(self.grey, DTYPE), "query_dirs": stored(geometry.query_dirs, torch.float32),
                         "key_dirs": stored(geometry.key_dirs, torch.float32),
                         "key_trust": stored(geometry.key_trust, torch.float32), "grid": torch.tensor(geometry.grid)}
                rays, turns = (clip.rays, clip.ego_quarter_turns) if several else rays_of_seed(clip.seed, self.clips)
                rays = mirrored_rays(rays, turns) if change.mirrored else rays
                tensors |= {name: stored(ray, ray.dtype) for name, ray in rays.items()}
            if several:
                tensors["grey_tile"] = stored(self.grey_tile, DTYPE)
            out.append(tensors)
        return out


def make_latents(clips: Path, folder: Path, maker: LatentMaker, settings: LatentSettings, *,
                 wanted: Callable[[], bool] = lambda: True,
                 tell: Callable[[int, int], None] = lambda count, total: None) -> bool:
    """Writes the cache that ``train_egox.py train`` reads; False where ``wanted`` stopped it. Fitting shards stay.

    Raises:
        EgoXInputError: training clips that the settings name aren't drawn yet.
    """
    first, last = settings.clips
    files = [shard_file(clips, "train", clip // CLIPS_A_SHARD) for clip in range(first, last, CLIPS_A_SHARD)]
    drawn = sum(file.is_file() for file in files)
    if drawn < len(files):
        raise EgoXInputError("training clips", got=f"{drawn} of {len(files)} shards in {clips.name!r}",
                             expected=f"clips {first} to {last}",
                             fix="draw them: python3 run.py train-demo --stage clips")
    jobs = [("train", file, variant) for variant in range(settings.variants) for file in files]
    jobs += [("validation", file, 0) for file in shard_files(clips, "validation")]
    values = {"rays": maker.clips.rays, "image_embedding": "none", "views": settings.views, "dtype": "bfloat16"}
    if not settings.views:
        values["token_rays"] = True
    if settings.cameras > 1:
        values["tiles"] = True
    shards, entries = {}, []
    for number, (split, file, variant) in enumerate(jobs):
        with np.load(file) as archive:
            seeds = archive["seed"].tolist()
            cameras = archive["camera"].tolist() if settings.cameras > 1 else [0] * len(seeds)
        content_hash = fingerprint({"version": VERSION, "models": maker.models, "settings": values, "seeds": seeds,
                                 "variant": variant, "clips": repr(maker.clips)})
        name = f"{file.stem}-v{variant}.safetensors"  # so that clips drawn later leave these as they are
        takes = names = [f"{seed:06d}v{variant}" for seed in seeds]
        if settings.cameras > 1:
            names = [f"{take}c{camera}" for take, camera in zip(takes, cameras, strict=True)]
        if shard_fingerprint(folder / name) != content_hash:
            if not wanted():
                return False
            drawn = read_shard(file)
            made = [tensors for first in range(0, len(drawn), CLIPS_A_SHARD)
                    for tensors in maker.tensors(drawn[first : first + CLIPS_A_SHARD], variant, settings.views)]
            write_shard(folder / name, {f"{clip}/{k}": t for clip, tensors in zip(names, made, strict=True)
                                        for k, t in tensors.items()}, content_hash)
        shards[name] = content_hash
        # A variant is a take of its own: its pictures fit no other's.
        entries += [CacheEntry(clip=clip, take=take, split=split, shard=name, start=0, rank=1 + camera)
                    for clip, take, camera in zip(names, takes, cameras, strict=True)]
        tell(number + 1, len(jobs))
    write_index(folder, CacheIndex(settings=values, models=maker.models, shards=shards, entries=tuple(entries)))
    return True


def mirrored(geometry: GgaGeometry) -> GgaGeometry:
    """The directions of the clip whose videos are mirrored: the tokens of each half in the opposite order.

    The directions themselves stay: a mirror changes no angle between them, and GGA looks at angles alone.
    """
    t, h, w_exo, w_ego = geometry.grid
    order = torch.arange(t * h * (w_exo + w_ego)).reshape(t, h, w_exo + w_ego)
    order = torch.cat([order[..., :w_exo].flip(-1), order[..., w_exo:].flip(-1)], -1).flatten()
    queries = geometry.query_dirs.unflatten(1, (h, w_ego)).flip(2).flatten(1, 2)
    return replace(geometry, query_dirs=queries, key_dirs=geometry.key_dirs[:, order],
                   key_trust=geometry.key_trust[order])


def _changed(video: Tensor, draw: int, variant: Variant) -> Tensor:
    """[T, H, W, 3], the same change for all videos of a clip."""
    if variant.mirrored:
        video = video.flip(-2)
    if variant.recoloured:
        video = video[..., list(RECOLOURINGS[draw % len(RECOLOURINGS)])]
    return video
