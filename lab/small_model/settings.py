"""What the small model is: sizes, seeds and steps, in one place that the model card is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lab.drawn.spec import Wearer

Split = Literal["train", "validation", "test"]

FIRST_SEED: Mapping[str, int] = {"train": 100_000, "validation": 900_000, "test": 950_000}
"""Scene seeds of a split run on from here; the splits share none."""

MOST_CLIPS: Mapping[str, int] = {"train": 800_000, "validation": 50_000, "test": 50_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """The clips: calm, plainly coloured rooms, chosen by what a linear code of the VAE's size could keep of them."""

    size: int = 128  # px, ego, square; exo is as high
    exo_width: int = 224  # px
    frames: int = 9
    fps: float = 8.0
    object_scale: tuple[float, float] = (1.5, 2.3)  # drawn for each clip
    motion: tuple[float, float] = (0.4, 1.2)  # drawn for each clip
    preset: str = "exact"  # of the ego prior, as the VAE's training sees it
    rays: str = "exact"  # of the GGA directions
    wearer: Wearer = "drawn"
    depth_errors: float = 0.2  # share of training clips whose prior and directions come of a network's depth


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeSettings:
    """Wan's VAE, narrow."""

    dim: int = 16
    skeleton_steps: int = 400  # of the steps, with its convolutions of residual branches left out
    steps: int = 6000
    batch: int = 2  # pieces of crop x crop px
    crop: int = 64
    learning_rate: float = 1.5e-3  # of biases and gains
    kernel_rate: float = 2e-3  # of the convolutions' kernels
    whole_rate: float = 0.25  # share of both rates once the skeleton is over
    outlines: float = 0.5  # what an error of the grey picture's gradient counts for
    latent_noise: float = 0.1  # of a latent channel's spread; a decoder that has seen noise forgives the sampler's
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRound:
    """A part of the base's training, which begins with the weights of the part before."""

    steps: int
    shift: float  # of the noise levels that are drawn
    rates: tuple[float, float] = (1.0, 0.05)  # shares of the learning rate, at its beginning and at its end


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRound:
    """A part of the LoRA's training, which begins with the weights of the part before."""

    steps: int
    rank: int
    shift: float  # of the noise levels that are drawn
    clips: tuple[int, int]  # of the training clips, from and to
    variants: int  # of each clip: as it is, mirrored, recoloured
    batch: int = 16  # clips a step
    rates: tuple[float, float] = (1.0, 0.05)  # as the base's
    optimizer: Literal["adamw", "muon"] = "adamw"


def falling(rounds: int, first: float = 1.0, last: float = 0.05) -> tuple[tuple[float, float], ...]:
    """Shares of the learning rate, from ``first`` to ``last`` in equal parts, for rounds that follow each other."""
    ends = [first + (last - first) * number / rounds for number in range(rounds + 1)]
    return tuple(zip(ends, ends[1:], strict=False))


ABLATION_CLIPS = 448
"""Each variant is seen three times in 1,500 steps of four."""
FIRST_CLIPS = 1104
"""For the first parts of the training."""
LATER_CLIPS, TRAIN_CLIPS = 2 * FIRST_CLIPS, 3 * FIRST_CLIPS
MUON_CLIPS = 3 * (FIRST_CLIPS,) + 4 * (LATER_CLIPS,) + 5 * (TRAIN_CLIPS,)

LORA_ROUNDS = (
    *(LoraRound(steps=600, rank=56, shift=5.0, clips=(0, FIRST_CLIPS), variants=4, rates=rates)
      for rates in falling(8)[:5]),
    *(LoraRound(steps=600, rank=56, shift=12.0, clips=(0, clips), variants=4, rates=rates, optimizer="muon")
      for clips, rates in zip(MUON_CLIPS, falling(12, first=0.525, last=0.02), strict=True)),
)
"""After the fifth round Adam gave way: on the same clips and noise Muon's loss was .010 lower after 100 steps, as much
as a round brought (at three times the rate it was higher than Adam's). The shift is that of sampling: pure noise, where
the picture is settled, gains as much in 250 steps as in 600 at 5. With it the loss of what was trained on fell below
that of validation for the first time (.327 to .360 of pure noise), so later rounds get twice the rooms: the first of
them brought validation from .350 to .335, where the two before had brought .010. The last five get three times as
many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSettings:
    """Wan 2.2 image-to-video, narrow: 36 channels in, no image embedding."""

    heads: int = 4
    head_dim: int = 64
    layers: int = 8
    ffn: int = 1024
    text_dim: int = 1024  # LotusConditioning's, so that no text encoder has to ship
    base_rounds: tuple[BaseRound, ...] = tuple(BaseRound(steps=1000, shift=5.0, rates=rates) for rates in falling(5))
    base_batch: int = 16
    base_rate: float = 1e-3
    lora_rounds: tuple[LoraRound, ...] = LORA_ROUNDS
    ablation: LoraRound = LoraRound(steps=1500, rank=56, shift=12.0, clips=(0, ABLATION_CLIPS), variants=4, batch=4,
                                    rates=(0.525, 0.02), optimizer="muon")
    sample_shift: float = 12.0
    sample_steps: int = 8  # on validation rooms nearer to the truth than 10 or 12, and calmer in quiet places
    lora_rate: float = 2e-3
    lambda_g: float = 3.0
    preset: str = "exact"  # of the ego prior
    compile: bool = True  # two thirds of a step's time, some minutes a round
    seed: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTraining:
    """All of it: no round is longer than an hour on one core (a step of base and LoRA there: about 2 and 3 s); together
    they take 13 of 14 core-hours."""

    clips: ClipSettings = ClipSettings()
    vae: VaeSettings = VaeSettings()
    transformer: TransformerSettings = TransformerSettings()
    train_clips: int = TRAIN_CLIPS
    validation_clips: int = 16
    test_clips: int = 64
    base_clips: int = FIRST_CLIPS  # of the training clips, for the base's single views
    # rows of transformer.ABLATIONS with their seed, in the order of training
    ablations: tuple[tuple[str, int], ...] = (("full", 1), ("no_gga", 1), ("no_prior", 1), ("no_clean_latent", 1),
                                              ("full", 2), ("no_gga", 2))

    def clips_of(self, split: Split) -> int:
        return {"train": self.train_clips, "validation": self.validation_clips, "test": self.test_clips}[split]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewsGate:
    """The first experiment on several exo views: short trainings that tell whether longer ones are worth it."""

    arms: tuple[str, ...]  # of transformer.VIEW_ARMS; the first is what the others are compared with
    part: LoraRound  # of each arm
    seeds: int = 2
    pose_hidden: int = 128
    pose_rate: float = 10.0

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """Arms with their seed, from 1, in the order of training."""
        return tuple((name, seed) for seed in range(1, self.seeds + 1) for name in self.arms)


GATE_PART = LoraRound(steps=300, rank=56, shift=5.0, clips=(0, FIRST_CLIPS), variants=4)
VIEWS_GATES: Mapping[str, ViewsGate] = {
    "views_gate": ViewsGate(arms=("no_pose", "rays", "rays_each_block"), part=GATE_PART),
    "views_gate_long": ViewsGate(arms=("no_pose", "rays_each_block"), part=replace(GATE_PART, steps=1000), seeds=1),
}
"""By stage, the next where the one before fails. After the last the work on this method stops. In the first the two
seeds' gains and costs lay within .03 dB of each other, so the second, three times as long, has one."""
