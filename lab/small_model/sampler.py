"""The small model that ships, for the benches that judge it: a module that is a :class:`.contract.Sampler`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lab.drawn import SyntheticSpec
from lab.small_model.contract import FULL, SampleSettings
from lab.small_model.held_out import HeldOutClip
from lab.small_model.wan_sampler import WanSampler
from tools.setup.environment import this_environment
from tools.setup.layout import SetupError

from .clips import clip_spec
from .files import WorkFiles
from .lotus import save_text_embedding
from .settings import FIRST_SEED, DemoTraining
from .stages import ablation_lora, read_record

Kind = TypeVar("Kind", bound=WanSampler)
PRIOR_PRESET = DemoTraining().transformer.preset


def generate(clips: Sequence[HeldOutClip], settings: SampleSettings) -> np.ndarray:
    """[N, T, S, S, 3] uint8."""
    return _sampler().generate(clips, settings)


def through_vae(videos: np.ndarray) -> np.ndarray:
    """[N, T, S, S, 3] uint8, encoded and decoded by the model's own VAE."""
    return _sampler().through_vae(videos)


def fingerprint(lora: str | None = None) -> str:
    """Changes with any weight; of one LoRA, with no other LoRA's."""
    return _sampler().fingerprint(lora)


def facts() -> dict[str, Any]:
    """Hashes and the stages' records."""
    stages = {name: read_record(WorkFiles(), name) for name in ("vae", "base", "lora")}
    return {**_sampler().facts(), "stages": stages}


def loras() -> Sequence[str]:
    """The LoRA that ships ("full"), and those of the ablation, "@" and the number of their seed after each."""
    return tuple(_loras())


def held_out() -> Sequence[SyntheticSpec]:
    """The test scenes: no training and no validation saw their seeds."""
    training = DemoTraining()
    return [clip_spec(FIRST_SEED["test"] + number, training.clips) for number in range(training.test_clips)]


def _loras() -> dict[str, Path]:
    files = WorkFiles()
    trained = {f"{name}@{seed}": ablation_lora(files, name, seed) for name, seed in DemoTraining().ablations}
    return {FULL: files.lora, **{name: file for name, file in trained.items() if file.is_file()}}


def open_sampler(kind: type[Kind], loras: Mapping[str, Path]) -> Kind:
    """Base, VAE and these LoRAs in a sampler of this kind, with the flow shift that they are sampled with.

    Raises:
        SetupError: the small model isn't there.
    """
    files = WorkFiles()
    missing = [f.name for f in (files.base, files.vae, *loras.values()) if not f.is_file()]
    if missing:
        raise SetupError(f"The small model lacks {', '.join(missing)}; python3 run.py train-demo makes them.")
    if not files.text.is_file():
        save_text_embedding(this_environment(), files.text)
    return kind(files.base, files.vae, loras, str(files.text), DemoTraining().transformer.sample_shift)


@lru_cache(maxsize=1)
def _sampler() -> WanSampler:
    return open_sampler(WanSampler, _loras())
