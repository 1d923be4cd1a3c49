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
from egox_core.previews.contact_sheet import SheetRow, make_contact_sheet, spread, write_png
from lab.small_model.held_out import HeldOutClip
from lab.small_model.scores import as_float

GAP_PX = 2
DIMMED, RIGHT, WRONG = 0.3, (60, 200, 60), (230, 50, 50)


def write_sheet(file: Path, clips: Sequence[HeldOutClip], videos: Mapping[str, Sequence[np.ndarray]], count: int = 12,
                zoom: int = 1, judged: str | None = None) -> None:
    """``count`` clips spread evenly, one row each: first, middle and last frame of everything, side by side.

    Args:
        videos: column name -> a video a clip, of the ego size.
        zoom: whole-number magnification, pixels repeated.
        judged: the column whose objects are judged; None: no column of objects.
    """
    rows = []
    for i in spread(len(clips), count):
        clip, of_clip = clips[i], {name: column[i] for name, column in videos.items()}
        names = ["exo", "prior", *of_clip, "truth"]
        if judged is not None:
            names.append("objects")
            hits = colour_hits(clip.judged, as_float(of_clip[judged]), as_float(clip.truth))
        for frame in (0, len(clip.truth) // 2, len(clip.truth) - 1):
            pictures = [clip.exo[frame].numpy(), clip.prior[frame].numpy(),
                        *(video[frame] for video in of_clip.values()), clip.truth[frame].numpy()]
            if judged is not None:
                pictures.append(_objects(clip, hits[:, frame], frame))
            rows.append(SheetRow(pictures=pictures, labels=() if rows else names))
    write_png(file, make_contact_sheet(rows, clips[0].truth.shape[1] * zoom, gap=GAP_PX))


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
