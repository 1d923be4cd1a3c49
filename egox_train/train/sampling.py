"""Sample ego videos by diffusers' Wan transformer, without ComfyUI."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.finite import check_finite
from egox_core.gga import ExoCache, kept_size
from egox_core.progress import Progress, no_progress
from egox_core.sizes import PATCH
from egox_core.wan import (
    build_mask,
    make_scheduler,
    model_input,
    released_schedule,
)

from ..wan.diffusers_processor import GgaScope
from .config import ConditioningConfig
from .samples import TrainSample

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


@torch.no_grad()
def sample_ego(
    model: WanTransformer3DModel,  # whose self-attention reads ``scope``
    scope: GgaScope,
    # B clips on the model's device and dtype; of ``ego`` only the size matters
    sample: TrainSample,
    conditioning: ConditioningConfig,
    *,
    steps: int = 50,
    shift: float = 3.0,
    seed: int = 1234,
    cfg: float = 1.0,  # guidance scale; both predictions get the geometry (quirks 25)
    negative_embedding: Tensor
    | None = None,  # [1, tokens, text_dim] embedding of the negative prompt, for guidance
    noise: Tensor
    # instead of the seed's: [1 or B, 16, t, h, w_ego], without exo_clean the whole canvas
    | None = None,
    # exo is computed at every n-th step and kept between; 0: at the first alone
    recompute_exo: int = 1,
    # What is kept of exo waits in main memory, all but the blocks in use.
    parks_exo: bool = False,
    # for a model whose LoRA is float32 while it computes in the sample's dtype
    autocast: bool = False,
    progress: Progress = no_progress,
) -> Tensor:  # [B, 16, t, h, w_ego] model space
    """Sample the ego latents of a batch of clips by the released inference loop.

    Every clip starts from the same noise as it would alone. Without ``exo_clean`` the exo half is
    the clean one at the level's noise, or with ``exo_loss`` sampled along.

    Raises:
        EgoXInputError: guidance without the negative prompt's embedding, geometry for some of the
            clips only, exo to be kept where it is noisy.
    """
    if recompute_exo != 1 and not conditioning.exo_clean:
        raise EgoXInputError(
            "recompute_exo",
            got=recompute_exo,
            fix="set recompute_exo to 1",
            expected="1 for a LoRA whose exo half is noisy",
        )
    if cfg != 1.0 and negative_embedding is None:
        raise EgoXInputError(
            "cfg",
            got=cfg,
            expected="1, or an embedding of the negative prompt",
            fix="give the text encoder that the clips were cached with, or leave cfg at 1",
        )
    t, h, w_exo, w_ego = sample.grid
    batch_size, channels = sample.ego.shape[:2]
    noise_width = w_ego if conditioning.exo_clean else w_exo + w_ego
    sigmas, timesteps = released_schedule(steps, shift)
    scheduler = make_scheduler(sigmas, (sigmas, timesteps))
    device, dtype = sample.exo.device, sample.exo.dtype
    # On the CPU, so that every device starts from the same noise.
    if noise is None:
        noise = torch.randn(
            1, channels, t, h, noise_width, generator=torch.Generator().manual_seed(seed)
        )
    noise = noise.to(device).expand(batch_size, -1, -1, -1, -1)
    noisy_latent = noise if conditioning.exo_loss else noise[..., -w_ego:]
    mask_channels = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego).to(device, dtype)
    text_embeddings = [sample.text]
    if cfg != 1.0 and negative_embedding is not None:
        text_embeddings.append(negative_embedding.expand(batch_size, -1, -1))
    scope.set(sample.geometry, conditioning.gga_options())
    is_ego_alone = conditioning.exo == "alone"
    exo_cache = (
        None
        if recompute_exo == 1 and not is_ego_alone
        else ExoCache(
            0 if is_ego_alone else recompute_exo,
            alone=is_ego_alone,
            kept_on=torch.device("cpu") if parks_exo else None,
        )
    )
    token_grid = (t, h // PATCH, w_exo // PATCH, w_ego // PATCH)
    model_sizes: Any = model.config
    model_dim = model_sizes.num_attention_heads * model_sizes.attention_head_dim
    exo_bytes = kept_size(len(model.blocks), batch_size, token_grid, model_dim, dtype.itemsize)

    def predict_velocity(latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        # Around the model alone: the solver's own sums stay float32.
        with torch.autocast(device.type, dtype, enabled=autocast):
            return model(
                hidden_states=latents,
                timestep=timestep,
                encoder_hidden_states=text,
                encoder_hidden_states_image=sample.image,
                return_dict=False,
            )[0]

    for step, scheduler_timestep in enumerate(scheduler.timesteps):
        exo_latent = exo_latent_at(
            sample.exo, noise, noisy_latent, float(sigmas[step]), conditioning
        )
        ego_latent = noisy_latent[..., -w_ego:].to(dtype)
        canvas_latent = model_input(
            ego_latent, exo_latent.to(dtype), mask_channels, sample.exo, sample.cond_ego
        )
        timestep = scheduler_timestep[None].float().to(device).expand(batch_size)
        predictions = []
        for text_index, text in enumerate(text_embeddings):
            model_columns, exo_forward = canvas_latent, None
            if exo_cache is not None:
                exo_forward = exo_cache.forward(
                    (),
                    (text_index,),
                    float(sigmas[step]),
                    sigmas.tolist(),
                    token_grid,
                    exo_bytes,
                    device,
                )
            scope.exo = exo_forward
            if exo_forward is not None:
                if is_ego_alone and not exo_forward.reuses_exo:
                    predict_velocity(canvas_latent[..., :w_exo], torch.zeros_like(timestep), text)
                    exo_forward.finish(len(model.blocks))
                model_columns = (
                    canvas_latent[..., w_exo:] if exo_forward.reuses_exo else canvas_latent
                )
            prediction = predict_velocity(model_columns, timestep, text)
            torch.compiler.disable(check_finite)(
                prediction,
                step + 1,
                {
                    "the latent": model_columns,
                    "the text": text,
                    "the picture embedding": sample.image,
                },
                () if torch.distributed.is_initialized() else model.blocks,
                partial(predict_velocity, model_columns, timestep, text),
            )
            if exo_forward is not None:
                exo_forward.finish(len(model.blocks))
                scope.exo = None
            predictions.append(prediction[..., -noisy_latent.shape[-1] :].float())
        guided_velocity = predictions[0]
        if cfg != 1.0:
            guided_velocity = predictions[1] + cfg * (predictions[0] - predictions[1])
        noisy_latent = scheduler.step(
            guided_velocity, scheduler_timestep, noisy_latent, return_dict=False
        )[0]
        progress(step + 1, steps, "sampling")
    return noisy_latent[..., -w_ego:]


def exo_latent_at(
    clean_exo: Tensor,  # [B, 16, t, h, w_exo]
    noise: Tensor,  # [B, 16, t, h, w] first noise, of the whole canvas where ``exo_clean`` is off
    # [B, 16, t, h, w] where the sampling stands; of the whole canvas with ``exo_loss``
    latent: Tensor,
    sigma: float,
    conditioning: ConditioningConfig,
) -> Tensor:  # [B, 16, t, h, w_exo]
    """Build the exo latent for one noise level, clean or noised."""
    w_exo = clean_exo.shape[-1]
    if conditioning.exo_clean:
        return clean_exo
    if conditioning.exo_loss:
        return latent[..., :w_exo]
    return (1 - sigma) * clean_exo + sigma * noise[..., :w_exo]
