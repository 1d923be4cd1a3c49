"""Encode clips to latents and ray directions for training."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.types import GgaGeometry
from egox_core.wan import normalise_latent
from egox_train.data.clip_files import first_frame_then_grey
from egox_train.wan.vae import VaeEncoder

from .clips import DemoClip
from .vae_model import encode, whole_clips

ENCODED_AT_ONCE = {"cpu": 2, "cuda": 16}
"""Videos: with sixteen each takes more than twice as long on a processor, whose cache they no
longer fit."""
DIRECTION_NAMES = ("query_dirs", "key_dirs", "key_trust")
DTYPE = torch.bfloat16


@frozen
class Variant:
    """Augmentation of a clip: mirrored, in other colours, or both."""

    mirrored: bool
    recoloured: bool


VARIANTS = (
    Variant(mirrored=False, recoloured=False),
    Variant(mirrored=True, recoloured=True),
)
RECOLOURINGS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
"""Orders of the colour channels; the clip's seed says which one."""


class LatentMaker:
    """Encoder of training clips with one VAE."""

    def __init__(self, vae: Path, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = whole_clips(VaeEncoder(vae, device).model)

    @torch.no_grad()
    def encode(self, videos: list[Tensor]) -> Tensor:
        """Encode videos [T, H, W, 3] uint8 to latents [B, 16, t, h, w]."""
        batches = []
        batch_size = ENCODED_AT_ONCE.get(self.device.type, 2)
        for first_index in range(0, len(videos), batch_size):
            pictures = torch.stack(videos[first_index : first_index + batch_size]).movedim(-1, 1)
            batch = (pictures.to(self.device).float() / 127.5 - 1).contiguous(
                memory_format=torch.channels_last_3d
            )
            with torch.autocast(self.device.type, torch.bfloat16):
                batches.append(encode(self.model, batch).float())
        return normalise_latent(torch.cat(batches))

    def tensors(self, clip: DemoClip, variant: Variant) -> dict[str, Tensor]:
        """Encode one clip to the tensors that training needs."""
        videos = {
            "exo": clip.exo,
            "ego": clip.ego,
            "prior": clip.prior,
            "partial": clip.ego * clip.coverage[..., None],
            "ego_first": first_frame_then_grey(clip.ego),
        }
        augmented_videos = [_augment(video, clip.seed, variant) for video in videos.values()]
        exo_latent, *view_latents = (
            self.encode(video_group) for video_group in (augmented_videos[:1], augmented_videos[1:])
        )
        latents = [exo_latent[0], *view_latents[0]]
        clip_geometry = mirror_geometry(clip.geometry) if variant.mirrored else clip.geometry
        return {
            **{name: x.to(DTYPE).cpu() for name, x in zip(videos, latents, strict=True)},
            **{name: getattr(clip_geometry, name).float() for name in DIRECTION_NAMES},
        }


def mirror_geometry(geometry: GgaGeometry) -> GgaGeometry:
    """Mirror a clip's ray directions left to right.

    The directions themselves stay: a mirror changes no angle between them, and GGA looks at angles
    alone.
    """
    t, h, w_exo, w_ego = geometry.grid
    token_order = torch.arange(t * h * (w_exo + w_ego)).reshape(t, h, w_exo + w_ego)
    token_order = torch.cat(
        [token_order[..., :w_exo].flip(-1), token_order[..., w_exo:].flip(-1)], -1
    ).flatten()
    query_directions = geometry.query_dirs.unflatten(1, (h, w_ego)).flip(2).flatten(1, 2)
    return replace(
        geometry,
        query_dirs=query_directions,
        key_dirs=geometry.key_dirs[:, token_order],
        key_trust=geometry.key_trust[token_order],
    )


def _augment(video: Tensor, draw: int, variant: Variant) -> Tensor:
    """Apply an augmentation to a video [T, H, W, 3]."""
    if variant.mirrored:
        video = video.flip(-2)
    if variant.recoloured:
        video = video[..., list(RECOLOURINGS[draw % len(RECOLOURINGS)])]
    return video
