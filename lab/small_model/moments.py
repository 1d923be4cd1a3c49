"""Drawn rooms as moments for the predictor: four exo views and six gazes of the wearer, a file
each.

    python3 -m lab.small_model.moments FOLDER [--split train] [--first 0] [--count 1104]

Files that are there are kept, so that it goes on where it stopped and several processes may share
the rooms by ``--first``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.cli.progress_line import ProgressLine
from egox_core.predict.moment import ViewMoment, write_moment
from lab.drawn import SyntheticTake, make_take
from lab.drawn.gazes import draw_gazes, ego_pictures
from lab.drawn.rig import UP
from lab.drawn.spec import MOST_EXO_VIEWS

from .clips import clip_spec
from .settings import FIRST_SEED, ClipSettings

GAZES = 6  # of a room, the wearer's own among them


def moment_of(
    take: SyntheticTake,
    frame: int,
    others: Tensor | None = None,  # [G, 3, 4] float64, ego_from_world of other gazes
) -> ViewMoment:
    """All exo views of one frame of a take, the ego picture and those of other gazes."""
    pictures, poses = take.ego_rgb[frame][None], take.ego_w2c[frame][None]
    if others is not None:
        pictures = torch.cat((pictures, ego_pictures(take, [frame] * len(others), others)))
        poses = torch.cat((poses, others))
    return ViewMoment(
        name=f"{take.spec.seed}-{frame}",
        exo=torch.stack([view.exo_rgb[frame] for view in take.views]),
        exo_cameras=tuple(view.exo_camera for view in take.views),
        exo_w2c=torch.stack([view.exo_w2c for view in take.views]),
        ego=pictures,
        ego_camera=take.ego_camera,
        ego_w2c=poses,
        up=torch.tensor(UP, dtype=torch.float64),
    )


def draw_moment(seed: int, folder: Path) -> None:
    """The first frame of a room as a file, unless it is there; outlines unsmoothed, a third of
    the cost."""
    file = folder / f"{seed}-0.safetensors"
    if not file.is_file():
        spec = clip_spec(seed, ClipSettings())
        spec = replace(spec, frames=1, exo_views=MOST_EXO_VIEWS, edge_samples=1)
        take = make_take(spec)
        gazes = draw_gazes(np.random.default_rng((seed, 0)), take.ego_w2c[0], GAZES - 1)
        write_moment(moment_of(take, 0, gazes), file)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=tuple(FIRST_SEED), default="train")
    parser.add_argument("--first", type=int, default=0, help="room of the split")
    parser.add_argument("--count", type=int, default=1104, help="of rooms")
    args = parser.parse_args()
    torch.set_num_threads(1)
    progress = ProgressLine()
    for number in range(args.first, args.first + args.count):
        draw_moment(FIRST_SEED[args.split] + number, args.folder / args.split)
        progress(number - args.first + 1, args.count, "rooms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
