"""Sizes, seeds and schedules of the small model, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.drawn.spec import Wearer

Split = Literal["train", "validation", "test"]

FIRST_SEED: Mapping[str, int] = {"train": 100_000, "validation": 900_000, "test": 950_000}
"""First scene seed of each split; the splits share none."""

MOST_CLIPS: Mapping[str, int] = {"train": 800_000, "validation": 50_000, "test": 50_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """Calm, plainly coloured rooms: a linear code of the VAE's size keeps most of them."""

    size: int = 128  # px, ego, square; exo is as high
    exo_width: int = 224  # px
    frames: int = 9
    fps: float = 8.0
    object_scale: tuple[float, float] = (1.5, 2.3)  # drawn per clip
    motion: tuple[float, float] = (0.4, 1.2)  # drawn per clip
    preset: str = "exact"  # of the ego prior
    rays: str = "exact"  # of the GGA directions
    wearer: Wearer = "drawn"
    # share of training clips with a network's depth instead of the true one
    depth_errors: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One run of the trainer: linear warm-up, then a cosine of the learning rate."""

    steps: int
    clips: int  # the first so many of the training clips
    shift: float  # of the noise levels that are drawn
    variants: int = 1  # of each clip, see latents.VARIANTS
    batch: int = 16
    learning_rate: float = 1e-3
    final_factor: float = 0.05  # of the learning rate, at the last step
    optimizer: Literal["adamw", "muon"] = "adamw"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSettings:
    """Wan 2.2 image-to-video, narrow: 36 channels in, no image embedding.

    The shipped LoRA had as many steps in seventeen rounds, the first five by Adam at shift 5 and on
    a third of the rooms (commit 7062d4f). One schedule has what the later rounds showed to be
    better from the start on: Muon, the sampling's own shift, all rooms. ``arm`` is that of the
    record ``benchmarks/results/ablation.md``, from the same base.
    """

    heads: int = 4
    head_dim: int = 64
    layers: int = 8
    ffn: int = 1024
    text_dim: int = 1024  # LotusConditioning's, so that no text encoder has to ship
    rank: int = 56
    base: Schedule = Schedule(steps=5000, clips=1104, shift=5.0)
    lora: Schedule = Schedule(
        steps=10_200, clips=3312, shift=12.0, variants=4, final_factor=0.04, optimizer="muon"
    )
    arm: Schedule = Schedule(
        steps=1500,
        clips=448,
        shift=12.0,
        variants=4,
        batch=4,
        learning_rate=1.05e-3,
        final_factor=0.0381,
        optimizer="muon",
    )
    sample_shift: float = 12.0
    sample_steps: int = 8  # on validation rooms nearer to the truth than 10 or 12
    lambda_g: float = 3.0
    preset: str = "exact"  # of the ego prior
    compile: bool = True
    seed: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTraining:
    """All stages; about 15 hours of one core beside the drawing of the rooms."""

    clips: ClipSettings = ClipSettings()
    transformer: TransformerSettings = TransformerSettings()
    train_clips: int = 3312
    validation_clips: int = 16
    test_clips: int = 64
    arms: tuple[tuple[str, int], ...] = (
        ("full", 1),
        ("exo_alone", 1),
        ("full", 2),
        ("exo_alone", 2),
    )
    """Names of ``transformer.ARMS`` with their seed, in the order of training."""

    def clips_of(self, split: Split) -> int:
        return {
            "train": self.train_clips,
            "validation": self.validation_clips,
            "test": self.test_clips,
        }[split]
