"""A picture to look at: exo, prior, LoRA strength 0, model and truth of some held-out takes at their true size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks._held_out import HeldOutClip
from egox_core.safe_files import write_whole

LABEL_PX, GAP_PX, TEXT = 14, 2, 0.33


def write_sheet(file: Path, clips: Sequence[HeldOutClip], videos: Mapping[str, Sequence[np.ndarray]], count: int = 12,
                zoom: int = 1) -> None:
    """``count`` clips spread evenly, one row each: first, middle and last frame of everything, side by side.

    Args:
        videos: column name -> a video a clip, of the ego size.
        zoom: whole-number magnification, pixels repeated.
    """
    picked = sorted({round(i * (len(clips) - 1) / max(1, count - 1)) for i in range(min(count, len(clips)))})
    rows = [_row(clips[i], {name: column[i] for name, column in videos.items()}, frame, zoom)
            for i in picked for frame in (0, len(clips[i].truth) // 2, len(clips[i].truth) - 1)]
    sheet = np.concatenate([_heading(clips[picked[0]], videos, zoom), *rows])
    ok, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    if not ok:
        raise RuntimeError("the contact sheet could not be encoded")
    with write_whole(file) as temporary:
        temporary.write_bytes(data.tobytes())


def _row(clip: HeldOutClip, videos: Mapping[str, np.ndarray], frame: int, zoom: int) -> np.ndarray:
    pictures = [clip.exo[frame].numpy(), clip.prior[frame].numpy(), *(v[frame] for v in videos.values()),
                clip.truth[frame].numpy()]
    return np.concatenate([_framed(p.repeat(zoom, 0).repeat(zoom, 1)) for p in pictures], axis=1)


def _framed(picture: np.ndarray) -> np.ndarray:
    return np.pad(picture, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255)


def _heading(clip: HeldOutClip, videos: Mapping[str, Sequence[np.ndarray]], zoom: int) -> np.ndarray:
    parts = []
    for name, width in (("exo", clip.exo.shape[2]), *((n, clip.truth.shape[2]) for n in ("prior", *videos, "truth"))):
        part = np.full((LABEL_PX, width * zoom + GAP_PX, 3), 40, np.uint8)
        cv2.putText(part, name, (2, LABEL_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, TEXT, (255, 255, 255), 1, cv2.LINE_AA)
        parts.append(part)
    return np.concatenate(parts, axis=1)
