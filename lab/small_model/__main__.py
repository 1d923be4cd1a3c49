"""``run.py train-demo``: trains the small model by the clock, on the VAE that ships.

    python3 -m lab.small_model --out FOLDER [--device cuda] [--minutes 9] [--workers 10]
                               [--text FILE] [--small]

Processes draw and encode rooms while the base trains (image-to-video, and copying what is known),
then the EgoX LoRA on it, both from the weights that ship. The weights are saved every minute, so
that a machine that goes away leaves the last. At the end the folder holds base, LoRA,
``figures.json`` and ``figures.md`` (rooms, clips seen, held-out losses by noise level, figures on
the test rooms) and ``rooms.png``. No host, network or environment of ``run.py`` is needed; the
packages of the extra `train` are, and the text embedding of the demo's graph, from a host or a file
that ``python3 -m lab.small_model.lotus FILE`` wrote.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch

from .run import train_small_model
from .settings import SMALL, DemoTraining


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="run.py train-demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cuda = torch.cuda.is_available()
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and figures")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument(
        "--workers",
        type=int,
        default=max(1, (os.cpu_count() or 2) * 2 // 3),
        help="processes that draw",
    )
    parser.add_argument("--text", type=Path, help="embedding; by default the host's own is made")
    parser.add_argument("--small", action="store_true", help="tiny rooms, to try it without a card")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="egox_rooms_") as work:
        train_small_model(
            args.out,
            SMALL if args.small else DemoTraining(),
            minutes=args.minutes,
            work=Path(work),
            device=args.device,
            workers=args.workers,
            text=args.text,
            tell=lambda words: print(words, flush=True),
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
