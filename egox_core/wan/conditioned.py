"""Encode exo video and ego prior to the canvas that conditions the model."""

from typing import Any, Protocol

from torch import Tensor

from ..frozen import frozen
from ..types import Canvas
from .canvas import build_mask, model_input
from .latents import normalise_latent


class Encoders(Protocol):
    """Encoders and decoder of a model, as :func:`egox_core.stages.condition` calls them."""

    def encode(self, video: Tensor) -> Tensor:
        """Encode [T, H, W, 3] (uint8, or float32 0...1) to a raw latent [1, 16, t, h, w]."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Decode a raw latent [1, 16, 1, h, w] to one frame [1, H, W, 3] 0...1."""
        ...

    def embed(self, picture: Tensor) -> Any:
        """Compute the CLIP vision embedding of an image [1, H, W, 3] float32 0...1."""
        ...


@frozen
class Conditioned:
    """Canvas of a clip, with the image embedding that belongs to it."""

    canvas: Canvas
    embedding: Any = None  # of Encoders.embed; None: the model takes none

    def model_input(
        self,
        noisy_ego: Tensor,  # [B, 16, t, h, w_ego] model space
    ) -> Tensor:  # [B, 36, t, h, w_exo + w_ego] model space
        """Pack the 36 channels that the transformer reads, from noise and canvas (paper Eq. 3)."""
        canvas = self.canvas
        exo_latent, ego_latent = (
            normalise_latent(x.float()) for x in (canvas.exo_latent, canvas.prior_latent)
        )
        mask_channels = build_mask(canvas.mask_mode, *canvas.latent_grid)
        parts = (x.to(noisy_ego) for x in (exo_latent, mask_channels, exo_latent, ego_latent))
        return model_input(noisy_ego, *parts)
