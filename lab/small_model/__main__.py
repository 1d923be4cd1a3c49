"""``run.py train-demo``: trains the small model on the VAE that ships, stage by stage, in slices of
any length.

    python3 run.py train-demo --out FOLDER [--stage base|lora] [--work FOLDER] [--threads N]
    [--workers N]

Each stage draws the rooms that it needs, makes their latents and trains, from the weights that
ship. SIGTERM or Ctrl-C saves and ends with 0; the same command goes on. A stage whose weights and
record are in the folder of the weights is done; without ``--out`` that is the folder of the shipped
ones. The model card, ``demo.json`` beside the records (the figure of ``run.py demo``) and the tables
of results are written after a look at the new weights.
"""

import argparse
from pathlib import Path

import torch

from .files import WorkFiles
from .settings import DemoTraining
from .stages import STAGES, StageContext


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="run.py train-demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage", choices=tuple(STAGES), help="only this one")
    parser.add_argument(
        "--work",
        type=Path,
        default=WorkFiles().work,
        help="folder for everything that doesn't ship",
    )
    parser.add_argument(
        "--out", type=Path, default=WorkFiles().shipped, help="folder for the weights"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw clips")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    context = StageContext(
        files=WorkFiles(args.work, args.out),
        training=DemoTraining(),
        device=args.device,
        workers=args.workers,
        tell=lambda text: print(text, flush=True),
    )
    for name in [args.stage] if args.stage else STAGES:
        print(f"stage {name}", flush=True)
        if not STAGES[name](context):
            print(f"stage {name} stopped and saved; the same command goes on", flush=True)
            return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
