"""Define the latents of exo and ego picture side by side."""

from __future__ import annotations

from torch import Tensor

from ..choices import MASK_MODES, ImageEmbeddingMode, MaskMode
from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..sizes import CHANNELS, canvas_size, latent_frames


@frozen
class Canvas:
    """Exo (left) and ego (right) latents of one clip, and how the model gets them.

    Latents are raw, as the host's VAE gives them (its LATENT space); :mod:`egox_core.wan.canvas`
    works in model space, so a node puts them through the host's ``latent_format.process_in`` once.

    Raises:
        EgoXInputError: latents of other sizes than frames and pixels say, ego not as high as exo,
            unknown mask mode.
    """

    exo_latent: Tensor  # [B, 16, t, h, w_exo] raw VAE latent; t, h, w in latents (see sizes)
    prior_latent: Tensor  # [B, 16, t, h, w_ego] raw VAE latent of the ego prior
    frames: int  # video frames, 4n+1
    exo_size: tuple[int, int]  # (width, height) px
    ego_size: tuple[int, int]  # (width, height) px
    mask_mode: MaskMode = "released"
    image_embedding: ImageEmbeddingMode = "released"
    # the sampler's seed that the image embedding was drawn with, from the host's noise; None:
    # unknown
    noise_seed: int | None = None
    # [17, 3] rough colours of raw latents, for previews; see wan.latents
    latent_colours: Tensor | None = None

    def __post_init__(self) -> None:
        t = latent_frames(self.frames)
        h, w_exo, w_ego = canvas_size(self.exo_size, self.ego_size)
        for name, latent, w in (
            ("exo latent", self.exo_latent, w_exo),
            ("prior latent", self.prior_latent, w_ego),
        ):
            if latent.ndim != 5 or latent.shape[1:] != (CHANNELS, t, h, w):
                raise EgoXInputError(
                    name,
                    got=f"shape {tuple(latent.shape)}",
                    expected=f"[B, {CHANNELS}, {t}, {h}, {w}]",
                    fix="encode exactly the frames and size of the canvas with the Wan VAE",
                )
        check_choice(
            "mask mode", self.mask_mode, MASK_MODES, "resolve auto before the canvas is made"
        )

    def check_sampled(
        self,
        ego_latent: Tensor,  # [B, 16, t, h, w_ego]
    ) -> None:
        """Refuse, before sampling, an ego latent of another frame count or size.

        Raises:
            EgoXInputError: other frame count or size.
        """
        t, h, _, w_ego = self.latent_grid
        latent_shape = tuple(ego_latent.shape[-3:])
        if latent_shape != (t, h, w_ego):
            raise EgoXInputError(
                "latent to sample",
                got=f"{latent_shape[0]} latent frames of {latent_shape[1]}x{latent_shape[2]}",
                expected=f"{t} latent frames of {h}x{w_ego}",
                fix="sample the latent that came with this canvas",
            )

    @property
    def latent_grid(self) -> tuple[int, int, int, int]:
        """Size of the canvas in latents: (t, h, w_exo, w_ego)."""
        _, _, t, h, w_exo = self.exo_latent.shape
        return t, h, w_exo, self.prior_latent.shape[-1]
