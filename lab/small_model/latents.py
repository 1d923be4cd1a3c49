"""The clips as the trainer's cache: latents of the finished VAE, the fixed text, GGA directions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.types import GgaGeometry
from egox_core.wan import normalise_latent
from egox_train.data.cache_store import (
    CacheEntry,
    CacheIndex,
    shard_header,
    stored,
    write_index,
    write_shard,
)
from egox_train.data.clip_files import first_frame_then_grey
from egox_train.fingerprint import fingerprint
from egox_train.wan.text import read_embedding
from egox_train.wan.vae import VaeEncoder
from egox_train.wan.weights import weights_hash

from .clips import CLIPS_PER_SHARD, DIRECTIONS, DemoClip, read_shard, shard_file, shard_files
from .settings import ClipSettings
from .vae_model import encode, whole_clips

ENCODED_AT_ONCE = 2
"""Videos: with sixteen each takes more than twice as long on a processor, whose cache they no
longer fit."""
DTYPE = torch.bfloat16


@frozen
class Variant:
    """Another clip from the same drawing: seen in a mirror, in other colours, or both."""

    mirrored: bool
    recoloured: bool


VARIANTS = (
    Variant(mirrored=False, recoloured=False),
    Variant(mirrored=True, recoloured=True),
)
RECOLOURINGS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
"""Orders of the colour channels; the clip's seed says which one."""


class LatentMaker:
    """Encodes shards of clips with one VAE."""

    def __init__(self, vae: Path, text: Path, clips: ClipSettings, device: str = "cpu") -> None:
        self.device, self.clips = torch.device(device), clips
        self.model = whole_clips(VaeEncoder(vae, device).model)
        self.models = {
            "vae": weights_hash(vae, "VAE"),
            "text": weights_hash(text, "text embedding"),
        }
        self.text = read_embedding(text)

    @torch.no_grad()
    def encode(self, videos: list[Tensor]) -> Tensor:
        """[T, H, W, 3] uint8 each -> [B, 16, t, h, w] in model space."""
        made = []
        for first in range(0, len(videos), ENCODED_AT_ONCE):
            pictures = torch.stack(videos[first : first + ENCODED_AT_ONCE]).movedim(-1, 1)
            batch = (pictures.float().to(self.device) / 127.5 - 1).contiguous(
                memory_format=torch.channels_last_3d
            )
            with torch.autocast(self.device.type, torch.bfloat16):
                made.append(encode(self.model, batch).float().cpu())
        return normalise_latent(torch.cat(made))

    def tensors(self, clips: list[DemoClip], variant: int) -> list[dict[str, Tensor]]:
        """Tensors of each clip in the cache: those of EgoX, and the ego view's two conditions for
        the base."""
        change = VARIANTS[variant]
        videos: dict[str, list[Tensor]] = {}
        for clip in clips:
            for name, video in {
                "exo": clip.exo,
                "ego": clip.ego,
                "prior": clip.prior,
                "partial": clip.ego * clip.coverage[..., None],
                "ego_first": first_frame_then_grey(clip.ego),
            }.items():
                changed = _changed(video, clip.seed + variant, change)
                videos.setdefault(name, []).append(changed)
        latents = {name: self.encode(pictures) for name, pictures in videos.items()}
        out = []
        for i, clip in enumerate(clips):
            tensors = {name: stored(latent[i], DTYPE) for name, latent in latents.items()}
            geometry = mirrored(clip.geometry) if change.mirrored else clip.geometry
            tensors |= {"text": stored(self.text, DTYPE), "grid": torch.tensor(geometry.grid)}
            tensors |= {name: stored(getattr(geometry, name), torch.float32) for name in DIRECTIONS}
            out.append(tensors)
        return out


def make_latents(
    drawn: Path,
    folder: Path,
    maker: LatentMaker,
    *,
    clips: int,
    variants: int = 1,
    wanted: Callable[[], bool] = lambda: True,
    tell: Callable[[int, int], None] = lambda count, total: None,
) -> bool:
    """Writes the cache that ``train_egox.py train`` reads; False where ``wanted`` stopped it.
    Fitting shards stay.

    Args:
        drawn: folder of the clips. clips: the first so many training clips, in whole shards.
        variants: of each training clip, the first so many of VARIANTS.

    Raises:
        EgoXInputError: training clips that aren't drawn yet.
    """
    files = [shard_file(drawn, "train", number) for number in range(-(-clips // CLIPS_PER_SHARD))]
    there = sum(file.is_file() for file in files)
    if there < len(files):
        raise EgoXInputError(
            "training clips",
            got=f"{there} of {len(files)} shards in {drawn.name!r}",
            expected=f"the first {clips} clips",
            fix="draw them first",
        )
    jobs = [("train", file, variant) for variant in range(variants) for file in files]
    jobs += [("validation", file, 0) for file in shard_files(drawn, "validation")]
    values = {
        "rays": maker.clips.rays,
        "image_embedding": "none",
        "views": ["ego", "partial"],
        "dtype": "bfloat16",
    }
    shards, entries = {}, []
    for number, (split, file, variant) in enumerate(jobs):
        with np.load(file) as archive:
            seeds = archive["seed"].tolist()
        content_hash = fingerprint(
            {
                "models": maker.models,
                "settings": values,
                "seeds": seeds,
                "variant": variant,
                "clips": repr(maker.clips),
            }
        )
        name = f"{file.stem}-v{variant}.safetensors"
        names = [f"{seed:06d}v{variant}" for seed in seeds]  # a variant is a take of its own
        if shard_header(folder / name)[0] != content_hash:
            if not wanted():
                return False
            made = maker.tensors(read_shard(file), variant)
            write_shard(
                folder / name,
                {
                    f"{clip}/{k}": t
                    for clip, tensors in zip(names, made, strict=True)
                    for k, t in tensors.items()
                },
                content_hash,
            )
        shards[name] = content_hash
        entries += [
            CacheEntry(
                clip=clip, take=clip, split=split, shard=name, start=0, rank=1, fps=maker.clips.fps
            )
            for clip in names
        ]
        tell(number + 1, len(jobs))
    write_index(
        folder,
        CacheIndex(settings=values, models=maker.models, shards=shards, entries=tuple(entries)),
    )
    return True


def mirrored(geometry: GgaGeometry) -> GgaGeometry:
    """The directions of the clip whose videos are mirrored: the tokens of each half in the opposite
    order.

    The directions themselves stay: a mirror changes no angle between them, and GGA looks at angles
    alone.
    """
    t, h, w_exo, w_ego = geometry.grid
    order = torch.arange(t * h * (w_exo + w_ego)).reshape(t, h, w_exo + w_ego)
    order = torch.cat([order[..., :w_exo].flip(-1), order[..., w_exo:].flip(-1)], -1).flatten()
    queries = geometry.query_dirs.unflatten(1, (h, w_ego)).flip(2).flatten(1, 2)
    return replace(
        geometry,
        query_dirs=queries,
        key_dirs=geometry.key_dirs[:, order],
        key_trust=geometry.key_trust[order],
    )


def _changed(video: Tensor, draw: int, variant: Variant) -> Tensor:
    """[T, H, W, 3], the same change for all videos of a clip."""
    if variant.mirrored:
        video = video.flip(-2)
    if variant.recoloured:
        video = video[..., list(RECOLOURINGS[draw % len(RECOLOURINGS)])]
    return video
