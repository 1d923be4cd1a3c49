"""``run.py train-demo``: trains the small model that ships, stage by stage, in slices of any length.

    python3 run.py train-demo [--stage NAME ...] [--work FOLDER] [--threads N] [--workers N] [--device cpu|cuda]

SIGTERM or Ctrl-C saves and ends with 0; the same command goes on. Stages may run side by side in two calls: the VAE
takes clips as they are drawn. While ``run.py test`` or ``run.py bench`` runs, training waits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tools.setup.environment import Environment, this_environment
from tools.setup.layout import SetupError

from .card import write_card
from .files import WorkFiles
from .settings import DemoTraining
from .stages import EXPERIMENTS, STAGES, StageContext


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py train-demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="append", choices=(*STAGES, *EXPERIMENTS),
                        help="only this one (again for more); "
                        f"{', '.join(EXPERIMENTS)}: an experiment, left out unless named")
    parser.add_argument("--work", type=Path, default=WorkFiles().work,
                        help="folder for everything that doesn't ship (default: in the user's cache folder)")
    parser.add_argument("--out", type=Path, default=WorkFiles().shipped,
                        help="folder for the weights (default: models/demo)")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as torch has them")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw clips")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    files = WorkFiles(args.work, args.out)
    context = StageContext(files=files, training=DemoTraining(), environment=_environment(),
                           device=args.device, workers=args.workers, tell=lambda text: print(text, flush=True))
    for name in args.stage or STAGES:
        print(f"stage {name}", flush=True)
        if not {**STAGES, **EXPERIMENTS}[name](context):
            print(f"stage {name} stopped and saved; the same command goes on", flush=True)
            return 0
        write_card(files, context.training)
    return 0


def _environment() -> Environment | None:
    try:
        return this_environment()
    except SetupError:  # only one stage needs a host, and says so
        return None


if __name__ == "__main__":
    raise SystemExit(main())
