"""The contract between whoever samples the small model and the benches that judge it; finished videos are kept.

:class:`Sampler` is the contract. The benches name a Python module that keeps it (``--sampler``), or files, which
:class:`lab.small_model.wan_sampler.WanSampler` then samples.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from egox_core.errors import EgoXInputError
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import write_whole
from lab.drawn import SyntheticSpec
from lab.small_model.held_out import HeldOutClip
from lab.small_model.settings import DemoTraining

DEFAULT_SAMPLER = "lab.small_model.sampler"
BATCH = 8
"""Clips that are asked for at once; a killed bench loses at most these."""
FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """How a video is sampled. None means what the LoRA was trained with (``shift``: the sampler's own)."""

    lora: str = FULL  # which of the trained LoRAs: full | no_gga | no_prior | no_clean_latent; "@2": a second seed
    strength: float = 1.0
    steps: int = DemoTraining().transformer.sample_steps
    cfg: float = 1.0
    seed: int = 1234
    lambda_g: float | None = None
    gga_mode: str | None = None  # released | paper | power | off
    rays: str | None = None  # released | exact | pinhole
    shift: float | None = None
    soft_trust: bool = False  # the bias is scaled by how far the depth behind a key is to be believed


Videos = list[np.ndarray]
"""One a clip, [T, S, S, 3] uint8."""


class Sampler(Protocol):
    """Whoever samples the small model: an object, or a module with these names."""

    PRIOR_PRESET: str
    """The preset of the priors that the model knows."""

    def generate(self, clips: Sequence[HeldOutClip], settings: SampleSettings) -> np.ndarray:
        """[N, T, S, S, 3] uint8: the ego videos of N clips."""

    def through_vae(self, videos: np.ndarray) -> np.ndarray:
        """[N, T, S, S, 3] uint8 to the same: encoded and decoded by the model's own VAE."""

    def fingerprint(self, lora: str | None = None) -> str:
        """Changes with any of the model's weights, or with those alone that videos of this LoRA are sampled with."""

    def loras(self) -> Sequence[str]:
        """Names that ``settings.lora`` may have."""

    def held_out(self) -> Sequence[SyntheticSpec]:
        """Takes that no training saw; none where only the caller can know."""

    def facts(self) -> Mapping[str, Any]:
        """What the record shall say of the model: stages, steps, compute."""


PARTS = tuple(name for name in (*Sampler.__annotations__, *vars(Sampler)) if not name.startswith("_"))
"""What a module must have."""


def facts_of(sampler: Sampler) -> dict[str, Any]:
    """What the sampler says of its model, and which weights that is."""
    return {"fingerprint": sampler.fingerprint(), **sampler.facts()}


def load_sampler(name: str) -> Sampler:
    """The module of this name.

    Raises:
        EgoXInputError: it can't be imported, or lacks part of the contract.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EgoXInputError("sampler", got=f"{name!r}: {error}", expected="a Python module of this repository",
                             fix="give --sampler MODULE, see lab/small_model/contract.py") from error
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing:
        raise EgoXInputError(f"sampler {name}", got=f"no {', '.join(missing)}", expected=", ".join(PARTS),
                             fix="see lab/small_model/contract.py")
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoStore:
    """Videos on the disk, a file a clip, valid for what they were made from."""

    folder: Path
    model: str  # the sampler's fingerprint

    def generated(self, sampler: Sampler, clips: Sequence[HeldOutClip], settings: SampleSettings, label: str,
                  progress: Progress = no_progress) -> Videos:
        """Sampled videos of the clips; those that are there already are read."""
        keys = [key_of(self.model, asdict(settings), *input_hashes(clip)) for clip in clips]
        return self._filled(keys, clips, lambda some: sampler.generate(some, settings), label, progress)

    def through_vae(self, sampler: Sampler, videos: Videos, label: str, progress: Progress = no_progress) -> Videos:
        """Each video once through the model's own VAE."""
        keys = [key_of(self.model, "vae", _digest(video)) for video in videos]
        return self._filled(keys, videos, lambda some: sampler.through_vae(np.stack(some)), label, progress)

    def _filled(self, keys: Sequence[str], inputs: Sequence, make: Callable, label: str, progress: Progress) -> Videos:
        files = [self.folder / f"{key}.npy" for key in keys]
        todo = [i for i, file in enumerate(files) if not file.is_file()]
        progress(len(files) - len(todo), len(files), label)
        for begin in range(0, len(todo), BATCH):
            batch = todo[begin : begin + BATCH]
            videos = np.asarray(make([inputs[i] for i in batch]))
            for i, video in zip(batch, _checked(videos, [inputs[i] for i in batch], label), strict=True):
                with write_whole(files[i]) as temporary, temporary.open("wb") as stream:
                    np.save(stream, video)
            progress(len(files) - len(todo) + begin + len(batch), len(files), label)
        return [np.load(file) for file in files]


def input_hashes(clip: HeldOutClip) -> list[str]:
    """Of all that a sampler may look at: pictures, prior, depth, path, prompt."""
    extra = [clip.depth.trust] if clip.depth.trust is not None else []
    return [clip.prompt, *(_digest(t.numpy()) for t in (clip.exo, clip.prior, clip.coverage, clip.depth.depth_m,
                                                        clip.trajectory.w2c, *extra))]


def _checked(videos: np.ndarray, inputs: Sequence, label: str) -> np.ndarray:
    first = inputs[0]
    wanted = (len(inputs), *(first.truth.shape if isinstance(first, HeldOutClip) else first.shape))
    if videos.shape != wanted or videos.dtype != np.uint8:
        raise EgoXInputError(f"sampler, {label}", got=f"{videos.dtype} {videos.shape}", expected=f"uint8 {wanted}",
                             fix="see the contract in lab/small_model/contract.py")
    return videos


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def key_of(*parts: object) -> str:
    """A name for what is made from these."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
