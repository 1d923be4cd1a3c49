"""A picture to look at: exo, prior, LoRA strength 0, model and truth of some held-out takes at their true size.

In the last column stand the objects that are judged, in their true colours and with a border: green where the model's
colour is the object's own, red where it is its surroundings'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from egox_core.metrics.objects import colour_hits
from egox_core.safe_files import write_whole
from tools.small_model.held_out import HeldOutClip
from tools.small_model.scores import as_float

LABEL_PX, GAP_PX, TEXT = 14, 2, 0.33
DIMMED, RIGHT, WRONG = 0.3, (60, 200, 60), (230, 50, 50)


def write_sheet(file: Path, clips: Sequence[HeldOutClip], videos: Mapping[str, Sequence[np.ndarray]], count: int = 12,
                zoom: int = 1, judged: str | None = None) -> None:
    """``count`` clips spread evenly, one row each: first, middle and last frame of everything, side by side.

    Args:
        videos: column name -> a video a clip, of the ego size.
        zoom: whole-number magnification, pixels repeated.
        judged: the column whose objects are judged; None: no column of objects.
    """
    picked = sorted({round(i * (len(clips) - 1) / max(1, count - 1)) for i in range(min(count, len(clips)))})
    rows = []
    for i in picked:
        of_clip = {name: column[i] for name, column in videos.items()}
        if judged is not None:
            hits = colour_hits(clips[i].judged, as_float(of_clip[judged]), as_float(clips[i].truth))
        for frame in (0, len(clips[i].truth) // 2, len(clips[i].truth) - 1):
            pictures = [clips[i].exo[frame].numpy(), clips[i].prior[frame].numpy(),
                        *(video[frame] for video in of_clip.values()), clips[i].truth[frame].numpy()]
            if judged is not None:
                pictures.append(_objects(clips[i], hits[:, frame], frame))
            rows.append(np.concatenate([_framed(p.repeat(zoom, 0).repeat(zoom, 1)) for p in pictures], axis=1))
    names = ("prior", *videos, "truth", *(() if judged is None else ("objects",)))
    sheet = np.concatenate([_heading(clips[picked[0]], names, zoom), *rows])
    ok, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    if not ok:
        raise RuntimeError("the contact sheet could not be encoded")
    with write_whole(file) as temporary:
        temporary.write_bytes(data.tobytes())


def _objects(clip: HeldOutClip, hits: np.ndarray, frame: int) -> np.ndarray:
    """The true frame dimmed, but for the objects that are judged in it."""
    truth = clip.truth[frame].numpy()
    picture = (DIMMED * truth).astype(np.uint8)
    for mask, hit in zip(clip.judged.truth[:, frame], hits, strict=True):
        if np.isnan(hit):
            continue
        picture[mask] = truth[mask]
        rim = mask & ~(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        picture[rim] = RIGHT if hit else WRONG
    return picture


def _framed(picture: np.ndarray) -> np.ndarray:
    return np.pad(picture, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255)


def _heading(clip: HeldOutClip, names: Sequence[str], zoom: int) -> np.ndarray:
    parts = []
    for name, width in (("exo", clip.exo.shape[2]), *((n, clip.truth.shape[2]) for n in names)):
        part = np.full((LABEL_PX, width * zoom + GAP_PX, 3), 40, np.uint8)
        cv2.putText(part, name, (2, LABEL_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, TEXT, (255, 255, 255), 1, cv2.LINE_AA)
        parts.append(part)
    return np.concatenate(parts, axis=1)
