"""The alignment in training: its own step, and the prior that a finished, frozen one expects of a batch.

What it expects follows from exo views and rays alone: a LoRA trained on it never sees the truth in the prior's place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import EgoXInputError
from ..wan.align import AlignFrames, AlignPrediction, ExoEgoAlign, align_losses, expected_prior
from ..wan.lora_settings import trained_with
from ..wan.method_file import split_method
from ..wan.weights import file_metadata, weights_hash
from .loss import StepResult
from .samples import TrainSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A finished alignment, frozen."""

    module: ExoEgoAlign
    frames: AlignFrames
    vae: str  # hash of the VAE whose latents it knows; "": its file doesn't say
    hash: str  # of its file

    def check_vae(self, vae: str) -> None:
        """Raises:
            EgoXInputError: the cache's latents are those of another VAE, by its hash.
        """
        if self.vae and vae and self.vae != vae:
            raise EgoXInputError("views.align", got=f"an alignment of latents of the VAE {self.vae}",
                                 expected=f"{vae}, as the cache has them", fix="train the alignment on this cache")

    @torch.no_grad()
    def expect(self, sample: TrainSample) -> TrainSample:
        """The sample with what is expected in place of the grey prior, where one is awaited."""
        if not any(sample.awaited):
            return sample
        prior = expected_prior(self.module(sample.exo, sample.rays), sample.cond_ego, self.frames)
        awaited = torch.tensor(sample.awaited, device=prior.device).view(-1, 1, 1, 1, 1)
        return replace(sample, cond_ego=torch.where(awaited, prior.to(sample.cond_ego), sample.cond_ego),
                       awaited=(False,) * len(sample.awaited))


def load_alignment(file: Path, device: torch.device) -> Alignment:
    """The result of a task ``view_align``, or the alignment in a file of task ``views``.

    Raises:
        EgoXInputError: no such file, or one without an alignment.
    """
    metadata = trained_with(file_metadata(file, "alignment"))
    module = split_method(load_file(file)).align
    if module is None:
        raise EgoXInputError(f"alignment {file.name}", got="a file without one", expected="what task view_align leaves",
                             fix="train it first: task=view_align")
    return Alignment(module=module.float().to(device), frames=metadata.get("align_frames", "all"),
                     vae=metadata.get("vae", ""), hash=weights_hash(file, "alignment"))


def expecting(alignment: Alignment | None, sample: TrainSample) -> TrainSample:
    """The sample as it is without an alignment."""
    return sample if alignment is None else alignment.expect(sample)


def align_step(
    model: nn.Module,  # ExoEgoAlign
    sample: TrainSample,
    frames: AlignFrames,
) -> tuple[StepResult, AlignPrediction]:
    """Loss of a batch: the negative log-likelihood of the true ego latent.

    ``first``: of the first latent frame alone, which is that of a single picture too (the VAE is causal).
    """
    exo, ego, rays = sample.exo, sample.ego, sample.rays
    if frames == "first":
        exo, ego, rays = exo[:, :, :1], ego[:, :, :1], rays[:, :1]
    prediction = model(exo, rays)
    prediction = AlignPrediction(latent=prediction.latent.float(), log_variance=prediction.log_variance.float())
    losses = align_losses(prediction, ego.float())
    return StepResult(loss=losses.mean(), per_clip=losses.detach(), prediction=prediction.latent,
                      target=ego.float()), prediction


def zero_loss(target: Tensor) -> Tensor:  # true latent -> []
    """What a new alignment has, which expects the mean latent and is sure of nothing."""
    return 0.5 * target.square().mean()
