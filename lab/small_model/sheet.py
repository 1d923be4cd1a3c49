"""A picture to look at: exo, prior, sampled videos and truth of some held-out takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from egox_train.contact_sheet import SheetRow, make_contact_sheet, spread, write_png

from .held_out import HeldOutClip


def write_sheet(
    file: Path,
    clips: Sequence[HeldOutClip],
    videos: Mapping[str, Sequence[np.ndarray]],
    count: int = 12,
) -> None:
    """``count`` clips spread evenly: first, middle and last frame of everything, side by side.

    Args:
        videos: column name -> one video per clip, of the ego size.
    """
    rows = []
    for i in spread(len(clips), count):
        clip = clips[i]
        columns = {
            "exo": clip.exo.numpy(),
            "prior": clip.prior.numpy(),
            **{name: of[i] for name, of in videos.items()},
            "truth": clip.truth.numpy(),
        }
        for frame in (0, len(clip.truth) // 2, len(clip.truth) - 1):
            rows.append(
                SheetRow(
                    pictures=[video[frame] for video in columns.values()],
                    labels=() if rows else tuple(columns),
                )
            )
    write_png(file, make_contact_sheet(rows, clips[0].truth.shape[1]))
