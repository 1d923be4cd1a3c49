"""Samples held-out clips with the small model by the released loop, without a host.

A clip's latents are made once per process; geometry follows the clip's own depth and path, so that
a disturbed one disturbs it. Conditioning is that of the LoRA's metadata, with the settings on top.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.gga import gga_geometry
from egox_train.train.config import ConditioningConfig
from egox_train.train.lora import fuse, read_lora
from egox_train.train.samples import TrainSample, collate
from egox_train.train.sampling import sample_ego
from egox_train.wan.diffusers_processor import GgaScope, install_gga
from egox_train.wan.text import make_text_encoder
from egox_train.wan.transformer import load_base
from egox_train.wan.vae import VaeEncoder
from egox_train.wan.weights import file_metadata, weights_hash

from .files import WorkFiles
from .held_out import HeldOutClip
from .lotus import save_text_embedding
from .scores import to_uint8
from .settings import DemoTraining

TOGETHER = 2
"""Videos that the VAE takes at once: from two on, a small VAE's convolutions get torch's fast path
on a CPU (a third of the time per video); more of them leave its caches."""


@frozen
class SampleSettings:
    """Settings of a sampled video; None: as the LoRA was trained."""

    strength: float = 1.0
    steps: int = DemoTraining().sample_steps
    seed: int = 1234
    lambda_g: float | None = None


class SmallModelSampler:
    """Base, VAE and LoRA in a released sampling loop.

    Args:
        text: file of the one embedding that the model knows.
        shift: of the flow schedule.

    Raises:
        EgoXInputError: files that aren't what they should be.
    """

    def __init__(
        self,
        base: Path,
        vae: Path,
        lora: Path,
        text: Path,
        shift: float = DemoTraining().shift,
    ) -> None:
        self.base, self.lora, self.shift = base, lora, shift
        self.vae = VaeEncoder(vae)
        self.text = make_text_encoder(str(text), "cpu").encode("")
        self.parts = {
            "base": weights_hash(base, "base model"),
            "vae": self.vae.hash,
            "text": weights_hash(text, "text embedding"),
            "shift": shift,
            "lora": weights_hash(lora, "LoRA"),
        }
        self._latents: dict[str, Tensor] = {}
        self._fused: tuple[float, torch.nn.Module, GgaScope] | None = None

    @classmethod
    def shipped(cls, files: WorkFiles | None = None) -> "SmallModelSampler":
        """The model that ships."""
        files = files or WorkFiles()
        if not files.text.is_file():
            save_text_embedding(files.text)
        return cls(files.base, files.vae, files.lora, files.text)

    def fingerprint(self) -> str:
        """Changes with any weight that videos are sampled with, and with the shift."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:16]

    def through_vae(self, videos: np.ndarray) -> np.ndarray:
        """[N, T, S, S, 3] uint8 -> the same, encoded and decoded."""
        return self._decode(self._encode([torch.as_tensor(video) for video in videos]))

    def generate(self, clips: Sequence[HeldOutClip], settings: SampleSettings) -> np.ndarray:
        """[N, T, S, S, 3] uint8; the clips are sampled together, each from the same noise as it
        would be alone."""
        conditioning = self.conditioning_of(settings)
        model, scope = self._model(settings)
        latents = sample_ego(
            model,
            scope,
            collate(self._samples(clips, conditioning)),
            conditioning,
            steps=settings.steps,
            seed=settings.seed,
            shift=self.shift,
        )
        return self._decode(latents)

    def conditioning_of(self, settings: SampleSettings) -> ConditioningConfig:
        """The LoRA's own conditioning, with the settings' λ_g."""
        return ConditioningConfig.from_lora(
            file_metadata(self.lora, "LoRA"),
            lambda_g=settings.lambda_g,
            image_embedding="none",
        )

    def _model(self, settings: SampleSettings) -> tuple[torch.nn.Module, GgaScope]:
        if self._fused is None or self._fused[0] != settings.strength:
            model = load_base(self.base)
            if settings.strength != 0:
                fuse(model, read_lora(self.lora)[0], settings.strength)
            scale = self.conditioning_of(settings).position_scale
            self._fused = settings.strength, model.eval(), install_gga(model, scale)
        return self._fused[1:]

    def _samples(
        self, clips: Sequence[HeldOutClip], conditioning: ConditioningConfig
    ) -> list[TrainSample]:
        exo = self._encode([clip.exo for clip in clips])
        priors = self._encode([clip.prior for clip in clips])
        return [
            self._sample(*of_clip, conditioning) for of_clip in zip(clips, exo, priors, strict=True)
        ]

    def _sample(
        self, clip: HeldOutClip, exo: Tensor, prior: Tensor, conditioning: ConditioningConfig
    ) -> TrainSample:
        (frames, height, width), ego = clip.exo.shape[:3], clip.truth.shape[1:3]
        geometry = None
        if conditioning.gga_options().biases:
            geometry = gga_geometry(
                clip.depth,
                clip.trajectory,
                conditioning.rays,
                frames=frames,
                exo_size=(width, height),
                ego_size=(ego[1], ego[0]),
            )
        return TrainSample(
            clips=(clip.name,),
            exo=exo[None],
            ego=torch.zeros_like(prior[None]),
            cond_ego=prior[None],
            text=self.text[None],
            geometry=(geometry,),
        )

    def _encode(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Latents of videos of one size; each is made once."""
        keys = [
            hashlib.sha256(video.contiguous().numpy().tobytes()).hexdigest() for video in videos
        ]
        new = {
            key: video for key, video in zip(keys, videos, strict=True) if key not in self._latents
        }
        for begin in range(0, len(new), TOGETHER):
            some = list(new)[begin : begin + TOGETHER]
            encoded = self.vae.encode_batch(torch.stack([new[key] for key in some]))
            self._latents |= zip(some, encoded, strict=True)
        return [self._latents[key] for key in keys]

    def _decode(self, latents: Sequence[Tensor] | Tensor) -> np.ndarray:
        """[N, T, S, S, 3] uint8."""
        return np.concatenate(
            [
                to_uint8(
                    self.vae.decode_batch(torch.stack(list(latents[begin : begin + TOGETHER])))
                )
                for begin in range(0, len(latents), TOGETHER)
            ]
        )
