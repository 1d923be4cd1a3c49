"""Validate on held-out clips during training: their loss, sample videos, PSNR and SSIM.

The loss is at fixed noise and noise levels, so that two models are compared on the very same task.
The truth of the samples is what the VAE makes of the true latent, so the figures are those of the
transformer alone: a perfect one would reach the cap, whatever the VAE loses."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.metrics import psnr, ssim_map

from ..data.cache_store import CacheReader
from ..video_writer import write_video
from ..wan.diffusers_processor import GgaScope
from ..wan.vae import VaeEncoder
from .config import ConditioningConfig, TrainConfig
from .loss import flow_loss
from .samples import CachedSamples, TrainingItem, TrainSample, draw_noise, sample_generator
from .sampling import sample_ego

RESULT_NAMES = ("validation/loss", "validation/zero", "validation/psnr", "validation/ssim")
VALIDATION_SEED = 20_000
LEVELS = (
    0.21,
    0.5,
    0.68,
    0.81,
    0.9,
    0.97,
)  # the middles of six equal parts of the released schedule (shift 3)
SEED = 1234
FPS = 20.0
Element = TypeVar("Element")


@torch.no_grad()
def clip_loss(
    model: nn.Module,
    scope: GgaScope,
    sample: TrainSample,
    number: int,
    conditioning: ConditioningConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
) -> tuple[float, float]:
    """Compute the loss of one held-out clip, and the loss of predicting zero.

    Args:
        number: of the clip among all that are held out; with the level it decides the noise.
    """
    level_losses, zero_losses = [], []
    device_sample = sample.to(device, dtype)
    for noise_level in LEVELS:
        noise = draw_noise(
            sample,
            sample_generator(VALIDATION_SEED, number, f"{noise_level:g}"),
            not conditioning.exo_clean,
        )
        with torch.autocast(torch.device(device).type, dtype, enabled=autocast):
            loss_result = flow_loss(
                model,
                scope,
                device_sample,
                noise.to(device, dtype),
                torch.tensor([noise_level], device=device),
                conditioning,
            )
        level_losses.append(float(loss_result.loss))
        zero_losses.append(float(loss_result.target.square().mean()))
    return sum(level_losses) / len(level_losses), sum(zero_losses) / len(zero_losses)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Generator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def check_validation(config: TrainConfig) -> None:
    """Check that validation can decode sample videos.

    Raises:
        EgoXInputError: samples are wanted, and there is no VAE.
    """
    vae = config.validation.vae
    if (
        config.validation.every
        and config.validation.sample_steps
        and (vae is None or not vae.exists())
    ):
        raise EgoXInputError(
            "validation.sample_steps",
            got="no validation.vae"
            if vae is None
            else f"validation.vae {vae.name!r}, which is not there",
            expected="the VAE of the cache",
            fix="set validation.vae, or set validation.sample_steps=0",
        )


def spread_over_takes(
    samples: CachedSamples, items: Sequence[TrainingItem], count: int
) -> list[TrainingItem]:
    """Choose at most ``count`` items from as many takes as possible.

    They are evenly spread within each take, because neighbouring clips are similar."""
    items_by_take: dict[str, list[TrainingItem]] = {}
    for item in items:
        items_by_take.setdefault(samples.reader.take_of(item.clip), []).append(item)
    takes = _spread_evenly(list(items_by_take.values()), min(count, len(items_by_take)))
    item_counts = [0] * len(takes)
    while sum(item_counts) < min(count, sum(map(len, takes))):
        for take_index, take_items in enumerate(takes):
            item_counts[take_index] += (
                item_counts[take_index] < len(take_items) and sum(item_counts) < count
            )
    return [
        item
        for take_items, item_count in zip(takes, item_counts, strict=True)
        for item in _spread_evenly(take_items, item_count)
    ]


def _spread_evenly(elements: Sequence[Element], count: int) -> list[Element]:
    """Choose ``count`` elements at even distances, starting with the first."""
    return [elements[index * len(elements) // count] for index in range(count)]


@frozen
class HeldOutClips:
    """Held-out clips for validation."""

    config: TrainConfig
    samples: CachedSamples
    items: tuple[TrainingItem, ...]

    @classmethod
    def of(cls, config: TrainConfig, reader: CacheReader) -> HeldOutClips | None:
        """Collect the clips for validation, or return None without any."""
        if not config.validation.every or not any(
            entry.split == "validation" for entry in reader.index.entries
        ):
            return None
        cached_samples = CachedSamples(config, "validation")
        return cls(
            config=config,
            samples=cached_samples,
            items=tuple(
                item
                for clip_group in cached_samples.groups
                for item in spread_over_takes(cached_samples, clip_group, config.validation.clips)
            ),
        )

    def load_share(
        self, process: int, processes: int, *, equal_counts: bool
    ) -> list[tuple[int, TrainSample]]:
        """Load the held-out clips that one process evaluates.

        Args:
            equal_counts: every process gets equally many, since weights that are spread need all of
                them in each forward; what is only there to fill up has the number -1.

        Raises:
            EgoXInputError: a clip that can't be read.
        """
        clip_numbers = list(range(process, len(self.items), processes))
        if equal_counts:
            clip_numbers += [-1] * (-(-len(self.items) // processes) - len(clip_numbers))
        return [
            (clip_number, self.samples.load(self.items[clip_number]))
            for clip_number in clip_numbers
        ]

    @torch.no_grad()
    def score(
        self,
        model: nn.Module,
        scope: GgaScope,
        numbered_samples: Sequence[tuple[int, TrainSample]],
        step: int,  # optimizer steps done, for the names of sample videos
        vae: VaeEncoder | None,  # decodes samples; None: losses only
        *,
        device: torch.device,
        dtype: torch.dtype,
        autocast: bool = False,
        # [items, 1 + len(COLUMNS)] float64: 1 where scored, then the values; zeros for others'
        # clips
    ) -> Tensor:
        """Compute the validation losses of one process's clips.

        With ``vae``, sample videos are written and PSNR and SSIM measured. The model's
        training mode is kept.

        All forwards come before the first decoding, which may fail on one process alone.
        """
        config = self.config
        rows = torch.zeros(len(self.items), 1 + len(RESULT_NAMES), dtype=torch.float64)
        forward_options = {"device": device, "dtype": dtype, "autocast": autocast}
        latents = []
        with _evaluation_mode(model):
            for clip_number, clip_sample in numbered_samples:
                values = clip_loss(
                    model,
                    scope,
                    clip_sample,
                    max(clip_number, 0),
                    config.conditioning,
                    **forward_options,
                )
                if clip_number >= 0:
                    rows[clip_number, :3] = torch.tensor((1.0, *values))
                if vae is not None:
                    latents.append(
                        sample_ego(
                            model,
                            scope,
                            clip_sample.to(device, dtype),
                            config.conditioning,
                            autocast=autocast,
                            seed=SEED,
                            steps=config.validation.sample_steps,
                            shift=config.timesteps.shift or 1.0,
                            recompute_exo=config.validation.recompute_exo,
                            parks_exo=config.memory.checkpoint_offload,
                        ).cpu()
                    )
        for (clip_number, clip_sample), latent in zip(
            numbered_samples, latents, strict=False
        ):  # without a VAE there are none
            if clip_number >= 0 and vae is not None:
                rows[clip_number, 3:] = torch.tensor(
                    self._write_sample_video(
                        vae, self.items[clip_number], clip_sample, latent, step
                    )
                )
        return rows

    def _write_sample_video(
        self, vae: VaeEncoder, item: TrainingItem, sample: TrainSample, latent: Tensor, step: int
    ) -> tuple[float, float]:
        """Write a sample beside the true video, and measure its PSNR and SSIM.

        The video is ``samples/step-N/<clip>.mp4``.
        """
        sampled_video, true_video = vae.decode(latent[0]), vae.decode(sample.ego[0])
        input_videos = [
            vae.decode(input_latent[0]) for input_latent in (sample.exo, sample.cond_ego)
        ]
        file = self._folder(step) / f"{item.clip}.mp4"
        write_video(
            file, torch.cat((*input_videos, sampled_video, true_video), dim=2), FPS, threads=1
        )
        return float(psnr(sampled_video, true_video).mean()), float(
            ssim_map(sampled_video, true_video).mean()
        )

    def _folder(self, step: int) -> Path:
        return Path(self.config.output) / "samples" / f"step-{step:08d}"

    def videos(self, step: int) -> list[Path]:
        """List the sample videos of one validation."""
        return sorted(self._folder(step).glob("*.mp4"))

    def values(
        self, rows: Tensor
    ) -> dict[str, float] | None:  # [items, 1 + len(COLUMNS)] of all processes together
        """Average the validation results of all clips, by their names in the log."""
        if not bool((rows[:, 0] == 1).all()):
            return None
        result_count = len(RESULT_NAMES) if self.makes_sample_videos else 2
        return dict(
            zip(
                RESULT_NAMES[:result_count],
                rows[:, 1 : 1 + result_count].mean(0).tolist(),
                strict=True,
            )
        )

    @property
    def makes_sample_videos(self) -> bool:
        """True if validation also samples videos."""
        return self.config.validation.sample_steps > 0 and self.config.task != "base_i2v"
