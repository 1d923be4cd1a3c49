"""Samples held-out clips with a Wan transformer, its VAE and its LoRAs, by the released loop and without a host.

A clip's latents are made once a process; geometry follows the clip's own depth and path, so a disturbed one disturbs
it. Conditioning is what the LoRA's metadata says, with what the settings say on top.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.gga.diffusers_processor import GgaScope, install_gga
from egox_core.gga.geometry import GgaGeometryOptions, gga_geometry
from egox_core.train.config import ConditioningConfig
from egox_core.train.lora import fuse, read_lora
from egox_core.train.samples import TrainSample, collate
from egox_core.train.sampling import exo_half
from egox_core.wan.canvas import build_mask, crop_ego, model_input
from egox_core.wan.schedule import make_scheduler, released_schedule
from egox_core.wan.text import make_text_encoder
from egox_core.wan.transformer import load_base
from egox_core.wan.vae import VaeEncoder
from egox_core.wan.weights import file_metadata, weights_hash
from tools.small_model.contract import FULL, SampleSettings
from tools.small_model.held_out import HeldOutClip
from tools.small_model.scores import to_uint8

TOLD = ("mode", "mask_mode", "gga_mode", "rays")
GREY = 128
SHIFT = 3.0  # of the flow schedule, as the released inference


class WanSampler:
    """Keeps the contract of :mod:`tools.small_model.contract`.

    Args:
        loras: name -> file; "full" is the one that all others are compared with.
        text: see :func:`make_text_encoder`; None: one row of zeros as wide as the model wants.
        shift: of the flow schedule, where the settings name none.

    Raises:
        EgoXInputError: files that aren't what they should be.
    """

    def __init__(self, base: Path, vae: Path, loras: Mapping[str, Path], text: str | None = None,
                 shift: float = SHIFT) -> None:
        self.base, self.files, self.shift = base, dict(loras), shift
        self.vae = VaeEncoder(vae)
        self.text = None if text is None else make_text_encoder(text, "cpu")
        self.parts = {"base": weights_hash(base, "base model"), "vae": self.vae.hash,
                      "text": "zeros" if self.text is None else self.text.hash, "shift": shift,
                      **{f"lora {name}": weights_hash(file, "LoRA") for name, file in self.files.items()}}
        self._latents: dict[str, Tensor] = {}
        self._fused: tuple[tuple[str, float], torch.nn.Module, GgaScope] | None = None

    def loras(self) -> tuple[str, ...]:
        return tuple(self.files)

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """Hashes of the weights, and what each LoRA's file says of its training."""
        told = {}
        for name, file in self.files.items():
            metadata = file_metadata(file, "LoRA")
            told[name] = {k.removeprefix("egox."): v for k, v in metadata.items()
                          if k.startswith("egox.") and k != "egox.config"}
        return {"weights": self.parts, "loras": told}

    def through_vae(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        """[N, T, S, S, 3] uint8 -> the same, encoded and decoded."""
        return np.stack([self._decode(self._encode(torch.as_tensor(video))) for video in videos])

    def generate(self, clips: Sequence[HeldOutClip], settings: SampleSettings) -> np.ndarray:
        """[N, T, S, S, 3] uint8; the clips are sampled together, each from the same noise as it would be alone.

        Raises:
            EgoXInputError: a LoRA that this sampler hasn't, settings that don't fit.
        """
        conditioning = self.conditioning_of(settings)
        settings = replace(settings, shift=settings.shift or self.shift)
        model, scope = self._model(settings)
        sample = collate([self._sample(clip, conditioning, model.config.text_dim) for clip in clips])
        latents = sample_together(model, scope, sample, conditioning, settings)
        return np.stack([self._decode(latent) for latent in latents])

    def conditioning_of(self, settings: SampleSettings) -> ConditioningConfig:
        """What the LoRA was trained with, and what is asked for instead.

        Raises:
            EgoXInputError: no such LoRA.
        """
        if settings.lora not in self.files:
            if settings.lora != FULL or self.files:
                raise EgoXInputError("LoRA", got=repr(settings.lora), expected=f"one of {', '.join(self.files)}",
                                     fix="give it with --lora NAME=FILE")
            return ConditioningConfig.model_validate({"image_embedding": "none"})
        told = file_metadata(self.files[settings.lora], "LoRA")
        trained = json.loads(told.get("egox.config", "{}")).get("conditioning", {})
        values: dict[str, Any] = {k: trained[k] for k in ("exo_clean", "exo_loss", "prior") if k in trained}
        values |= {k: told[f"egox.{k}"] for k in TOLD if f"egox.{k}" in told}
        if "egox.lambda_g" in told:
            values["lambda_g"] = float(told["egox.lambda_g"])
        asked = {"lambda_g": settings.lambda_g, "gga_mode": settings.gga_mode, "rays": settings.rays}
        values |= {k: v for k, v in asked.items() if v is not None}
        return ConditioningConfig.model_validate({**values, "image_embedding": "none"})

    def _model(self, settings: SampleSettings) -> tuple[torch.nn.Module, GgaScope]:
        key = (settings.lora, settings.strength if self.files else 0.0)
        if self._fused is None or self._fused[0] != key:
            model = load_base(self.base)
            if key[1] != 0:
                fuse(model, read_lora(self.files[settings.lora])[0], settings.strength)
            self._fused = (key, model.eval(), install_gga(model))
        return self._fused[1], self._fused[2]

    def _sample(self, clip: HeldOutClip, conditioning: ConditioningConfig, text_dim: int) -> TrainSample:
        prior = torch.full_like(clip.prior, GREY) if conditioning.prior == "none" else clip.prior
        text = torch.zeros(1, text_dim) if self.text is None else self.text.encode(clip.prompt)
        (frames, height, width), ego = clip.exo.shape[:3], clip.truth.shape[1:3]
        geometry = None
        if conditioning.gga_mode != "off" and conditioning.lambda_g != 0:
            geometry = gga_geometry(clip.depth, clip.trajectory, GgaGeometryOptions(rays=conditioning.rays),
                                    frames=frames, exo_size=(width, height), ego_size=(ego[1], ego[0]))
        condition = self._encode(prior)[None]
        if conditioning.prior == "zero":
            condition = torch.zeros_like(condition)
        return TrainSample(clips=(clip.name,), exo=self._encode(clip.exo)[None], ego=torch.zeros_like(condition),
                           cond_ego=condition, text=text[None], geometry=(geometry,))

    def _encode(self, video: Tensor) -> Tensor:
        key = hashlib.sha256(video.contiguous().numpy().tobytes()).hexdigest()
        if key not in self._latents:
            self._latents[key] = self.vae.encode(video)
        return self._latents[key]

    def _decode(self, latent: Tensor) -> np.ndarray:
        return to_uint8(self.vae.decode(latent))


@torch.no_grad()
def sample_together(model: torch.nn.Module, scope: GgaScope, sample: TrainSample, conditioning: ConditioningConfig,
                    settings: SampleSettings) -> Tensor:  # [B, 16, t, h, w_ego] model space
    """The released loop (UniPC, truncated timesteps) on a batch; every clip starts from the noise of ``settings.seed``.

    A LoRA trained with a noised exo half gets one here too (:func:`exo_half`).

    Raises:
        EgoXInputError: guidance, which needs an embedding of the negative prompt.
    """
    if settings.cfg != 1.0:
        raise EgoXInputError("cfg", got=settings.cfg, expected=1.0, fix="this sampler knows no negative prompt")
    t, h, w_exo, w_ego = sample.grid
    width = w_ego if conditioning.exo_clean else w_exo + w_ego
    sigmas, timesteps = released_schedule(settings.steps, settings.shift or SHIFT)
    scheduler = make_scheduler(sigmas, (sigmas, timesteps))
    noise = torch.randn(1, sample.ego.shape[1], t, h, width, generator=torch.Generator().manual_seed(settings.seed))
    noise = noise.expand(len(sample.clips), -1, -1, -1, -1)
    latent = noise.clone() if conditioning.exo_loss else crop_ego(noise, width - w_ego).clone()
    mask = build_mask(conditioning.mask_mode, t, h, w_exo, w_ego).expand(len(latent), -1, -1, -1, -1)
    for step, moment in enumerate(scheduler.timesteps):
        exo = exo_half(sample.exo, noise, latent, float(sigmas[step]), conditioning)
        packed = model_input(crop_ego(latent, latent.shape[-1] - w_ego), exo, mask, sample.exo, sample.cond_ego)
        with scope.active(sample.geometry, conditioning), _trust(scope, settings.soft_trust):
            velocity = model(hidden_states=packed, timestep=moment[None].float().expand(len(latent)),
                             encoder_hidden_states=sample.text, return_dict=False)[0].float()
        velocity = crop_ego(velocity, w_exo + w_ego - latent.shape[-1])
        latent = scheduler.step(velocity, moment, latent, return_dict=False)[0]
    return crop_ego(latent, latent.shape[-1] - w_ego)


@contextmanager
def _trust(scope: GgaScope, soft: bool):
    scope.options = replace(scope.options, soft_trust=soft)
    yield
