"""Sizes, seeds and schedules of the small model, in one place."""

from collections.abc import Mapping
from typing import Literal

from egox_core.frozen import frozen
from lab.drawn.spec import Wearer

Split = Literal["train", "validation", "test"]

FIRST_SEED: Mapping[str, int] = {"train": 100_000, "validation": 900_000, "test": 950_000}
"""First scene seed of each split; the splits share none."""

MAX_CLIPS: Mapping[str, int] = {"train": 800_000, "validation": 50_000, "test": 50_000}


@frozen
class ClipSettings:
    """Calm, plainly coloured rooms: a linear code of the VAE's size keeps most of them."""

    size: int = 256  # px, ego, square; exo is as high
    exo_width: int = 448  # px
    frames: int = 9
    fps: float = 8.0
    object_scale: tuple[float, float] = (1.5, 2.3)  # drawn per clip
    motion: tuple[float, float] = (0.4, 1.2)  # drawn per clip
    preset: str = "exact"  # of the ego prior
    rays: str = "exact"  # of the GGA directions
    wearer: Wearer = "drawn"
    # share of training clips with a network's depth instead of the true one
    depth_errors: float = 0.2


@frozen
class Schedule:
    """One run of the trainer: linear warm-up, then a cosine of the learning rate."""

    steps: int
    clips: int  # the first so many of the training clips
    learning_rate: float
    optimizer: Literal["adamw", "muon"]
    batch: int = 8


@frozen
class DemoTraining:
    """Both stages, from the weights that ship: about 24 hours of one core, after six for the rooms
    and their latents."""

    clips: ClipSettings = ClipSettings()
    variants: int = 2  # of each training clip, see latents.VARIANTS
    validation_clips: int = 16
    base: Schedule = Schedule(steps=4000, clips=368, learning_rate=4e-4, optimizer="adamw")
    lora: Schedule = Schedule(steps=6000, clips=736, learning_rate=6e-4, optimizer="muon")
    rank: int = 56
    shift: float = 12.0  # of noise levels, drawn and sampled
    uniform_share: float = 0.25  # of noise levels
    lambda_g: float = 3.0
    position_scale: float = 0.5  # what was learnt at half of the size is where it was
    compile: bool = True
    seed: int = 2
