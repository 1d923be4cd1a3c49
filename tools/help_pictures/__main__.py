"""Draw the pictures of the nodes' help pages, web/js/docs/img/<node id>.webp, from synthetic takes.

    python3 run.py make help                         # all
    python3 run.py make help --sampled               # those that the small model of models/demo samples
    python3 run.py make help --only EgoXBuildScene EgoXEvaluate

On the CPU, in about two minutes. Look at what was made before it is committed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tools.setup.layout import REPO_ROOT

from . import PICTURES, SAMPLED
from .room import Room
from .sheet import save_small
from .small_model import SmallModel

FOLDER = REPO_ROOT / "web" / "js" / "docs" / "img"
LIMIT_BYTES = 700_000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run.py make help", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NODE", choices=(*PICTURES, *SAMPLED), help="these nodes")
    parser.add_argument("--sampled", action="store_true", help="only those that the small model samples")
    parser.add_argument("--out", type=Path, default=FOLDER, help="another folder, to try something")
    options = parser.parse_args(arguments)
    room, model = Room(REPO_ROOT), SmallModel()
    makers = {name: (draw, model) for name, draw in SAMPLED.items()}
    if not options.sampled:
        makers |= {name: (draw, room) for name, draw in PICTURES.items()}
    for name, (draw, of) in makers.items():
        if options.only and name not in options.only:
            continue
        began = time.monotonic()
        size = save_small(options.out / f"{name}.webp", draw(of))
        print(f"{name:22s} {size / 1000:6.1f} kB  {time.monotonic() - began:6.1f} s", flush=True)
    together = sum(path.stat().st_size for path in options.out.glob("*.webp"))
    print(f"{'together':22s} {together / 1000:6.1f} kB in {options.out}")
    if together > LIMIT_BYTES:
        print(f"more than the {LIMIT_BYTES / 1000:.0f} kB that all pictures may take", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
