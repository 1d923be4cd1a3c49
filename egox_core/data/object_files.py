"""Object masks of a synthetic take, cut to a clip: the same frames and the same size as its true ego video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import EgoXInputError
from ..metrics.mask_files import read_masks, write_masks
from .clip_files import OBJECTS


def objects_of(ego_video: Path | None) -> Path | None:
    """The masks that lie beside a true ego video, where there are any."""
    file = None if ego_video is None else ego_video.with_name(OBJECTS)
    return file if file is not None and file.is_file() else None


def carry_objects(source: Path, target: Path, clip: str, indices: Tensor, size: int) -> None:
    """Write the masks of the frames ``indices`` at ``size`` x ``size`` px for ``clip``; objects that none of them shows
    are left out.

    Raises:
        EgoXInputError: masks that can't be read, are shorter than the clip, or not square.
    """
    masks = read_masks(source, None)
    frames, height, width = masks.truth.shape[1:]
    if int(indices[-1]) >= frames or height != width:
        raise EgoXInputError(f"object masks of clip {clip}", got=f"{frames} frames of {width}x{height}",
                             expected=f"square ones, at least {int(indices[-1]) + 1} frames",
                             fix="write the take again, or delete its objects.npz")
    truth = masks.truth[:, indices.numpy()]
    if height != size and len(truth):
        truth = interpolate(torch.from_numpy(truth).float(), size=(size, size), mode="nearest").bool().numpy()
    shown = truth.any(axis=(1, 2, 3))
    seen = None if masks.seen is None else masks.seen[:, indices.numpy()][shown]
    write_masks(target, clip, truth[shown], list(np.array(masks.ids, dtype=str)[shown]), truth_seen=seen)
