"""A prepared clip's folder: our take layout plus the rendered prior."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_selection import select_frames
from ..take import Take, load_take
from ..video import probe_video, read_frames
from .manifest import ClipRecord

EXO, DEPTH, META, TRUTH, PRIOR = "exo.mp4", "depth.npz", "meta.json", "ego_ground_truth.mp4", "ego_prior.mp4"
COVERAGE = "coverage.npz"  # key ``coverage`` [T, H, W] bool, where the prior holds something; older sets lack it
OBJECTS = "objects.npz"  # synthetic takes: the true objects' masks in the ego picture, see metrics/mask_files.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A clip's pictures and geometry, all of the same frames."""

    record: ClipRecord
    take: Take
    exo: Tensor  # [T, H, W, 3] uint8
    prior: Tensor  # [T, H, W, 3] uint8
    ego: Tensor | None  # [T, H, W, 3] uint8, where there is a ground truth


def read_clip(root: Path, record: ClipRecord) -> Clip:
    """Reads a clip of a manifest in ``root``.

    Raises:
        EgoXInputError: a file missing or corrupt, videos of other lengths or sizes than the record says.
    """
    folder = root / record.folder
    take = load_take(folder, frame_count=record.frames, size=record.exo_size, ego_size=record.ego_size[0])
    exo = take.read_exo()
    prior = read_all(folder / PRIOR, record.frames, record.ego_size)
    ego = read_all(folder / TRUTH, record.frames, record.ego_size) if record.ground_truth else None
    return Clip(record=record, take=take, exo=exo, prior=prior, ego=ego)


def read_all(file: Path, frames: int, size: tuple[int, int]) -> Tensor:
    """The first ``frames`` frames of a video of exactly this (width, height): [T, H, W, 3] uint8.

    Raises:
        EgoXInputError: shorter, of another size, corrupt.
    """
    info = probe_video(file)
    if (info.width, info.height) != tuple(size) or info.frame_count < frames:
        raise EgoXInputError(f"video {file.parent.name}/{file.name}",
                             got=f"{info.frame_count} frames of {info.width}x{info.height}",
                             expected=f"{frames} frames of {size[0]}x{size[1]}", fix="run prepare again")
    return read_frames(file, info, select_frames(info, frame_count=frames, width=size[0], height=size[1]))


def first_frame_then_grey(frames: Tensor) -> Tensor:
    """Wan's image-to-video condition: the first frame, grey after it; [T, H, W, 3] uint8."""
    out = torch.full_like(frames, 128)
    out[0] = frames[0]
    return out
