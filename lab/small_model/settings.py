"""Define the settings of the small model's training."""

from collections.abc import Mapping
from typing import Literal

from egox_core.frozen import frozen
from lab.drawn.spec import Wearer

Split = Literal["train", "validation", "test"]

FIRST_SEED: Mapping[str, int] = {"train": 100_000, "validation": 900_000, "test": 950_000}
"""First scene seed of each split; the splits share none."""

MAX_ROOMS: Mapping[str, int] = {"train": 800_000, "validation": 50_000, "test": 50_000}


@frozen
class ClipSettings:
    """Settings of the drawn training clips."""

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
class Stage:
    """Settings of one training stage."""

    until: float  # share of the time at which it ends, counted from when all is imported
    learning_rate: float
    optimizer: Literal["adamw", "muon"]
    batch: int  # on a card


@frozen
class DemoTraining:
    """Settings of both training stages."""

    clips: ClipSettings = ClipSettings()
    rooms: int = MAX_ROOMS["train"]  # at most; drawing ends with its share of the time
    validation_rooms: int = 16
    test_rooms: int = 24
    # Share of the minutes for imports and text; what they take more, all others have less.
    ready_until: float = 0.2
    # Shares of the time from then on: the first rooms are there or the run ends, drawing ends,
    # figures end.
    first_rooms_until: float = 0.25
    drawing_until: float = 0.7
    figures_until: float = 0.97
    base: Stage = Stage(until=0.55, learning_rate=4e-4, optimizer="adamw", batch=128)
    lora: Stage = Stage(until=0.82, learning_rate=6e-4, optimizer="muon", batch=64)
    batch_on_cpu: int = 4
    rank: int = 56
    shift: float = 12.0  # of noise levels, drawn and sampled
    uniform_share: float = 0.25  # of noise levels, so that fine detail is learnt, too
    lambda_g: float = 3.0
    position_scale: float = 0.5  # what was learnt at half of the size is where it was
    ema_decay: float = 0.998
    sample_steps: int = 2
    seed: int = 2


SMALL_TRAINING = DemoTraining(
    clips=ClipSettings(size=32, exo_width=64, frames=5),
    rooms=3,
    validation_rooms=2,
    test_rooms=2,
    batch_on_cpu=2,
)
"""The same way in seconds: for tests, and to try the command without a card."""
