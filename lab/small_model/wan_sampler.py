"""Samples held-out clips with a Wan transformer, its VAE and its LoRAs, by the released loop and without a host.

A clip's latents are made once a process; geometry follows the clip's own depth and path, so a disturbed one disturbs
it. Conditioning is what the LoRA's metadata says, with what the settings say on top.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egox_core.data.clip_rays import view_rays
from egox_core.errors import check_choice
from egox_core.gga.diffusers_processor import GgaScope, install_gga
from egox_core.gga.geometry import gga_geometry
from egox_core.train.config import ConditioningConfig
from egox_core.train.expected import Alignment, expecting
from egox_core.train.lora import fuse, read_method
from egox_core.train.samples import TrainSample, collate
from egox_core.train.sampling import sample_ego
from egox_core.wan.diffusers_tokens import TokenScope, install_tokens
from egox_core.wan.lora_settings import trained_with
from egox_core.wan.schedule import RELEASED_FLOW_SHIFT
from egox_core.wan.text import make_text_encoder
from egox_core.wan.transformer import load_base
from egox_core.wan.vae import VaeEncoder
from egox_core.wan.weights import file_metadata, weights_hash
from lab.drawn import SyntheticSpec
from lab.small_model.contract import FULL, SampleSettings
from lab.small_model.held_out import HeldOutClip
from lab.small_model.scores import to_uint8

GREY = 128
TOGETHER = 2
"""Videos that the VAE takes at once: from two on, a small VAE's convolutions get torch's fast path on a CPU (a third of
the time a video); more of them leave its caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fused:
    """The model with a LoRA in it, and what came in the LoRA's file beside it."""

    key: tuple[str, float]  # LoRA and strength
    model: torch.nn.Module
    scope: GgaScope
    tokens: TokenScope | None = None
    alignment: Alignment | None = None


class WanSampler:
    """A :class:`lab.small_model.contract.Sampler` of plain files; it knows no held-out takes.

    Args:
        loras: name -> file; "full" is the one that all others are compared with.
        text: see :func:`make_text_encoder`; None: one row of zeros as wide as the model wants.
        shift: of the flow schedule, where the settings name none.

    Raises:
        EgoXInputError: files that aren't what they should be.
    """

    PRIOR_PRESET = "clean"

    def __init__(self, base: Path, vae: Path, loras: Mapping[str, Path], text: str | None = None,
                 shift: float = RELEASED_FLOW_SHIFT) -> None:
        self.base, self.files, self.shift = base, dict(loras), shift
        self.vae = VaeEncoder(vae)
        self.text = None if text is None else make_text_encoder(text, "cpu")
        self.parts = {"base": weights_hash(base, "base model"), "vae": self.vae.hash,
                      "text": "zeros" if self.text is None else self.text.hash, "shift": shift,
                      **{f"lora {name}": weights_hash(file, "LoRA") for name, file in self.files.items()}}
        self._latents: dict[str, Tensor] = {}
        self._fused: _Fused | None = None

    def loras(self) -> tuple[str, ...]:
        """Names that ``settings.lora`` may have."""
        return tuple(self.files)

    def held_out(self) -> tuple[SyntheticSpec, ...]:
        """None: which takes the training saw isn't in the files."""
        return ()

    def fingerprint(self, lora: str | None = None) -> str:
        """Changes with any weight, and with the shift; of one LoRA, with no other LoRA's."""
        parts = {part: value for part, value in self.parts.items()
                 if lora is None or not part.startswith("lora ") or part == f"lora {lora}"}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """Hashes of the weights, and what each LoRA's file says of its training."""
        training = {name: trained_with(file_metadata(file, "LoRA")) for name, file in self.files.items()}
        return {"weights": self.parts,
                "loras": {name: {k: v for k, v in of.items() if k != "config"} for name, of in training.items()}}

    def through_vae(self, videos: np.ndarray) -> np.ndarray:
        """[N, T, S, S, 3] uint8 -> the same, encoded and decoded."""
        return self._decode(self._encode([torch.as_tensor(video) for video in videos]))

    def generate(self, clips: Sequence[HeldOutClip], settings: SampleSettings) -> np.ndarray:
        """[N, T, S, S, 3] uint8; the clips are sampled together, each from the same noise as it would be alone.

        Raises:
            EgoXInputError: a LoRA that this sampler hasn't, guidance (it encodes no negative prompt).
        """
        conditioning = self.conditioning_of(settings)
        fused = self._model(settings)
        sample = collate(self._samples(clips, conditioning, fused))
        latents = sample_ego(fused.model, fused.scope, expecting(fused.alignment, sample), conditioning,
                             steps=settings.steps, seed=settings.seed, shift=settings.shift or self.shift,
                             cfg=settings.cfg, soft_trust=settings.soft_trust, tokens=fused.tokens)
        return self._decode(latents)

    def conditioning_of(self, settings: SampleSettings) -> ConditioningConfig:
        """What the LoRA was trained with, and what is asked for instead.

        Raises:
            EgoXInputError: no such LoRA.
        """
        metadata: dict[str, str] = {}
        if self.files or settings.lora != FULL:
            check_choice("LoRA", settings.lora, self.files, "give it with --lora NAME=FILE")
            metadata = file_metadata(self.files[settings.lora], "LoRA")
        return ConditioningConfig.from_lora(metadata, lambda_g=settings.lambda_g, gga_mode=settings.gga_mode,
                                            rays=settings.rays, image_embedding="none")

    def _model(self, settings: SampleSettings) -> _Fused:
        key = (settings.lora, settings.strength if self.files else 0.0)
        if self._fused is None or self._fused.key != key:
            model, more = load_base(self.base), {}
            if key[1] != 0:
                parts, metadata = read_method(self.files[settings.lora])
                fuse(model, parts.lora, settings.strength)
                if parts.pose is not None:
                    more["tokens"] = install_tokens(model, parts.pose.float())
                if parts.align is not None:
                    more["alignment"] = Alignment(module=parts.align.float(), vae="", hash="",
                                                  frames=trained_with(metadata).get("align_frames", "all"))
            self._fused = _Fused(key=key, model=model.eval(), scope=install_gga(model), **more)
        return self._fused

    def _samples(self, clips: Sequence[HeldOutClip], conditioning: ConditioningConfig,
                 fused: _Fused) -> list[TrainSample]:
        grey = conditioning.prior in ("none", "align")
        exo = self._encode([clip.exo for clip in clips])
        priors = self._encode([torch.full_like(clip.prior, GREY) if grey else clip.prior for clip in clips])
        return [self._sample(*of_clip, conditioning, fused) for of_clip in zip(clips, exo, priors, strict=True)]

    def _sample(self, clip: HeldOutClip, exo: Tensor, prior: Tensor, conditioning: ConditioningConfig,
                fused: _Fused) -> TrainSample:
        text = torch.zeros(1, fused.model.config.text_dim) if self.text is None else self.text.encode(clip.prompt)
        (frames, height, width), ego = clip.exo.shape[:3], clip.truth.shape[1:3]
        geometry = None
        if conditioning.gga_options().biases:
            geometry = gga_geometry(clip.depth, clip.trajectory, conditioning.rays, frames=frames,
                                    exo_size=(width, height), ego_size=(ego[1], ego[0]))
        condition = prior[None]
        if conditioning.prior == "zero":
            condition = torch.zeros_like(condition)
        rays = None
        if fused.tokens is not None or fused.alignment is not None:
            of_clip = view_rays(clip.depth.camera, clip.depth.exo_w2c, clip.trajectory, frames, tiles=False)
            rays = torch.cat((of_clip["exo_rays"], of_clip["ego_rays"]), dim=2)[None].float()
        return TrainSample(clips=(clip.name,), exo=exo[None], ego=torch.zeros_like(condition),
                           cond_ego=condition, text=text[None], geometry=(geometry,), rays=rays,
                           awaited=(conditioning.prior == "align",))

    def _encode(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Latents of videos of one size; each is made once."""
        keys = [hashlib.sha256(video.contiguous().numpy().tobytes()).hexdigest() for video in videos]
        new = {key: video for key, video in zip(keys, videos, strict=True) if key not in self._latents}
        for begin in range(0, len(new), TOGETHER):
            some = list(new)[begin : begin + TOGETHER]
            encoded = self.vae.encode_batch(torch.stack([new[key] for key in some]))
            self._latents |= zip(some, encoded, strict=True)
        return [self._latents[key] for key in keys]

    def _decode(self, latents: Sequence[Tensor] | Tensor) -> np.ndarray:
        """[N, T, S, S, 3] uint8."""
        return np.concatenate([to_uint8(self.vae.decode_batch(torch.stack(list(latents[begin : begin + TOGETHER]))))
                               for begin in range(0, len(latents), TOGETHER)])
