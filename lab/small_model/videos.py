"""Videos of the small model on the disk, so that a bench that was stopped goes on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, field
from pathlib import Path

import numpy as np

from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import atomic_write

from .files import REPO_ROOT
from .held_out import HeldOutClip
from .sampler import SampleSettings, SmallModelSampler

BATCH = 8
"""Clips that are sampled at once; a killed bench loses at most these."""
Videos = list[np.ndarray]
"""One per clip, [T, S, S, 3] uint8."""


@frozen
class VideoStore:
    """Sampled videos, one file per clip, named by everything that they were made from."""

    folder: Path = REPO_ROOT / "output" / "small_model" / "videos"
    sampler: SmallModelSampler = field(default_factory=SmallModelSampler.shipped)

    def generated(
        self,
        clips: Sequence[HeldOutClip],
        settings: SampleSettings,
        label: str,
        progress: Progress = no_progress,
    ) -> Videos:
        """Sampled videos of the clips; those that are there are read."""
        model = self.sampler.fingerprint()
        keys = [_key(model, asdict(settings), *_input_hashes(clip)) for clip in clips]
        return self._filled(
            keys, clips, lambda some: self.sampler.generate(some, settings), label, progress
        )

    def through_vae(self, videos: Videos, label: str, progress: Progress = no_progress) -> Videos:
        """Each video once through the model's own VAE."""
        keys = [_key(self.sampler.fingerprint(), "vae", _digest(video)) for video in videos]
        return self._filled(
            keys, videos, lambda some: self.sampler.through_vae(np.stack(some)), label, progress
        )

    def _filled(
        self, keys: Sequence[str], inputs: Sequence, make: Callable, label: str, progress: Progress
    ) -> Videos:
        files = [self.folder / f"{key}.npy" for key in keys]
        todo = [i for i, file in enumerate(files) if not file.is_file()]
        progress(len(files) - len(todo), len(files), label)
        for begin in range(0, len(todo), BATCH):
            batch = todo[begin : begin + BATCH]
            videos = make([inputs[i] for i in batch])
            for i, video in zip(batch, videos, strict=True):
                with atomic_write(files[i]) as temporary, temporary.open("wb") as stream:
                    np.save(stream, video)
            progress(len(files) - len(todo) + begin + len(batch), len(files), label)
        return [np.load(file) for file in files]


def _input_hashes(clip: HeldOutClip) -> list[str]:
    """Digests of everything that a sampler may look at: pictures, prior, depth, path."""
    return [
        _digest(t.numpy())
        for t in (clip.exo, clip.prior, clip.coverage, clip.depth.depth_m, clip.trajectory.w2c)
    ]


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
