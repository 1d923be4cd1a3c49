"""Samples held-out clips with the small model by the released loop, without a host.

A clip's latents are made once per process; geometry follows the clip's own depth and path, so that
a disturbed one disturbs it. Conditioning is that of the LoRA's metadata, with the settings on top.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.errors import check_choice
from egox_core.gga.geometry import gga_geometry
from egox_core.wan.weights import file_metadata, weights_hash
from egox_train.train.config import ConditioningConfig
from egox_train.train.lora import fuse, read_lora
from egox_train.train.samples import TrainSample, collate
from egox_train.train.sampling import sample_ego
from egox_train.wan.diffusers_processor import GgaScope, install_gga
from egox_train.wan.text import make_text_encoder
from egox_train.wan.transformer import load_base
from egox_train.wan.vae import VaeEncoder
from tools.setup.environment import this_environment

from .files import WorkFiles
from .held_out import HeldOutClip
from .lotus import save_text_embedding
from .scores import to_uint8
from .settings import DemoTraining

FULL = "full"
GREY = 128
TOGETHER = 2
"""Videos that the VAE takes at once: from two on, a small VAE's convolutions get torch's fast path
on a CPU (a third of the time per video); more of them leave its caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """Settings of a sampled video; None: as the LoRA was trained."""

    lora: str = FULL  # the one that ships, or an arm of the ablation with its seed, as "full@1"
    strength: float = 1.0
    steps: int = DemoTraining().transformer.sample_steps
    recompute_exo: int = 1
    seed: int = 1234
    lambda_g: float | None = None


class SmallModelSampler:
    """Base, VAE and LoRAs in a released sampling loop.

    Args:
        loras: name -> file; "full" is the one that all others are compared with.
        text: file of the one embedding that the model knows.
        shift: of the flow schedule.

    Raises:
        EgoXInputError: files that aren't what they should be.
    """

    def __init__(
        self,
        base: Path,
        vae: Path,
        loras: Mapping[str, Path],
        text: Path,
        shift: float = DemoTraining().transformer.sample_shift,
    ) -> None:
        self.base, self.files, self.shift = base, dict(loras), shift
        self.vae = VaeEncoder(vae)
        self.text = make_text_encoder(str(text), "cpu").encode("")
        self.parts = {
            "base": weights_hash(base, "base model"),
            "vae": self.vae.hash,
            "text": weights_hash(text, "text embedding"),
            "shift": shift,
            **{f"lora {name}": weights_hash(file, "LoRA") for name, file in self.files.items()},
        }
        self._latents: dict[str, Tensor] = {}
        self._fused: tuple[tuple[str, float], torch.nn.Module, GgaScope] | None = None

    @classmethod
    def shipped(cls, files: WorkFiles | None = None) -> SmallModelSampler:
        """The model that ships, with the ablation's LoRAs where they are trained."""
        files = files or WorkFiles()
        arms = {f"{name}@{seed}": files.arm(name, seed) for name, seed in DemoTraining().arms}
        if not files.text.is_file():
            save_text_embedding(this_environment(), files.text)
        return cls(
            files.base,
            files.vae,
            {FULL: files.lora, **{name: file for name, file in arms.items() if file.is_file()}},
            files.text,
        )

    def fingerprint(self, lora: str = FULL) -> str:
        """Changes with any weight that videos of this LoRA are sampled with, and with the shift."""
        parts = {
            part: value
            for part, value in self.parts.items()
            if not part.startswith("lora ") or part == f"lora {lora}"
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def through_vae(self, videos: np.ndarray) -> np.ndarray:
        """[N, T, S, S, 3] uint8 -> the same, encoded and decoded."""
        return self._decode(self._encode([torch.as_tensor(video) for video in videos]))

    def generate(self, clips: Sequence[HeldOutClip], settings: SampleSettings) -> np.ndarray:
        """[N, T, S, S, 3] uint8; the clips are sampled together, each from the same noise as it
        would be alone.

        Raises:
            EgoXInputError: a LoRA that this sampler hasn't.
        """
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
            recompute_exo=settings.recompute_exo,
        )
        return self._decode(latents)

    def conditioning_of(self, settings: SampleSettings) -> ConditioningConfig:
        """The LoRA's own conditioning, with the settings' λ_g.

        Raises:
            EgoXInputError: no such LoRA.
        """
        check_choice(
            "LoRA", settings.lora, self.files, "train it: python3 run.py train-demo --stage arms"
        )
        return ConditioningConfig.from_lora(
            file_metadata(self.files[settings.lora], "LoRA"),
            lambda_g=settings.lambda_g,
            image_embedding="none",
        )

    def _model(self, settings: SampleSettings) -> tuple[torch.nn.Module, GgaScope]:
        key = (settings.lora, settings.strength)
        if self._fused is None or self._fused[0] != key:
            model = load_base(self.base)
            if settings.strength != 0:
                fuse(model, read_lora(self.files[settings.lora])[0], settings.strength)
            self._fused = key, model.eval(), install_gga(model)
        return self._fused[1:]

    def _samples(
        self, clips: Sequence[HeldOutClip], conditioning: ConditioningConfig
    ) -> list[TrainSample]:
        exo = self._encode([clip.exo for clip in clips])
        grey = conditioning.prior == "none"
        priors = self._encode(
            [torch.full_like(clip.prior, GREY) if grey else clip.prior for clip in clips]
        )
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
