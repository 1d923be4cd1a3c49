"""One training sample, and a batch of them, as they come out of the cache. All latents in model space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..types import GgaGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSample:
    """A clip (or a batch of clips of one size) with everything that the loss needs."""

    clips: tuple[str, ...]  # B names, for messages
    exo: Tensor  # [B, 16, t, h, w_exo] clean exo latent (for plain image-to-video: w_exo = 0)
    ego: Tensor  # [B, 16, t, h, w_ego] true ego latent
    cond_ego: Tensor  # [B, 16, t, h, w_ego] prior latent (for image-to-video: first frame, then grey)
    text: Tensor  # [B, tokens, text_dim]
    image: Tensor | None = None  # [B, image tokens, image_dim]; None: the model has no image embedding
    geometry: tuple[GgaGeometry | None, ...] = ()  # B of them, or none

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """(t, h, w_exo, w_ego) in latents."""
        _, _, t, h, w_ego = self.ego.shape
        return t, h, self.exo.shape[-1], w_ego

    def to(self, device: torch.device | str, dtype: torch.dtype) -> TrainSample:
        """Latents and embeddings moved and cast; geometry moves but stays float32 (its logarithm needs it)."""
        moved = {f.name: getattr(self, f.name).to(device=device, dtype=dtype) for f in fields(self)
                 if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **moved, geometry=tuple(g if g is None else g.to(device) for g in self.geometry))


def collate(samples: Sequence[TrainSample]) -> TrainSample:
    """A batch. Raises EgoXInputError for clips of different sizes, naming them."""
    first = samples[0]
    for other in samples[1:]:
        if other.grid != first.grid or other.text.shape[1:] != first.text.shape[1:]:
            raise EgoXInputError("clips of one batch", got=f"{first.clips[0]} of {first.grid}, text "
                                 f"{tuple(first.text.shape[1:])} and {other.clips[0]} of {other.grid}, text "
                                 f"{tuple(other.text.shape[1:])}", expected="one size",
                                 fix="cache all clips at one size, or train with batch_size 1")
    images = [s.image for s in samples]
    return TrainSample(
        clips=tuple(c for s in samples for c in s.clips),
        exo=torch.cat([s.exo for s in samples]), ego=torch.cat([s.ego for s in samples]),
        cond_ego=torch.cat([s.cond_ego for s in samples]), text=torch.cat([s.text for s in samples]),
        image=None if images[0] is None else torch.cat(images),
        geometry=tuple(g for s in samples for g in s.geometry),
    )
