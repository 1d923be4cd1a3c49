"""Random pieces of the training clips, from all shards that are there by now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .clips import read_shard, shard_files

SHARES = {"ego": 0.5, "exo": 0.3, "prior": 0.2}
"""How often a piece is taken of each video: the ego video is what must be drawn well."""

COLOUR_SHARE = 0.5  # of pieces whose colour channels are exchanged: more palettes than there are clips


class ClipPool:
    """Holds the clips as bytes; :meth:`look` takes in shards that were written since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.videos: dict[str, list[Tensor]] = {name: [] for name in SHARES}
        self._known: set[Path] = set()

    def look(self) -> int:
        """Reads new shards; how many clips there are now."""
        for file in shard_files(self.folder, "train"):
            if file in self._known:
                continue
            self._known.add(file)
            for clip in read_shard(file):
                for name in SHARES:
                    self.videos[name].append(getattr(clip, name))
        return len(self.videos["ego"])

    def pieces(self, count: int, crop: int, draw: np.random.Generator) -> Tensor:
        """``count`` pieces [count, 3, T, crop, crop], -1...1: anywhere, mirrored or not, in own or other colours."""
        out = []
        for name in draw.choice(list(SHARES), count, p=list(SHARES.values())):
            video = self.videos[name][draw.integers(len(self.videos[name]))]
            top, left = (int(draw.integers(size - crop + 1)) for size in video.shape[1:3])
            piece = video[:, top : top + crop, left : left + crop].movedim(-1, 0)
            if draw.random() < 0.5:
                piece = piece.flip(-1)
            if draw.random() < COLOUR_SHARE:
                piece = piece[torch.from_numpy(draw.permutation(3))]
            out.append(piece)
        return torch.stack(out).float() / 127.5 - 1
