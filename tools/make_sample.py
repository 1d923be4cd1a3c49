"""Make the shipped sample: a synthetic take in the take layout, under 3 MB, licence-free because it is drawn here.

    python tools/make_sample.py                        # into sample/synthetic_room, the one that ships
    python tools/make_sample.py --out DIR --seed 33    # another room

The same spec gives the same arrays on one machine; the videos' bytes also depend on the encoder's version.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from egox_core.synthetic import SyntheticSpec, make_take, write_take  # noqa: E402  (the script is run by its path)

FOLDER = ROOT / "sample" / "synthetic_room"
LIMIT_BYTES = 3_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=44)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--height", type=int, default=448, help="of both pictures, px; exo is 7/4 as wide")
    parser.add_argument("--texture", default="soft", choices=("plain", "soft", "detailed"))
    options = parser.parse_args()
    spec = SyntheticSpec(seed=options.seed, frames=options.frames, exo_width=options.height * 7 // 4,
                         exo_height=options.height, ego_size=options.height, texture=options.texture)

    def show(done: int, total: int, stage: str) -> None:
        print(f"\r{stage}: {done}/{total}", end="", flush=True)

    write_take(make_take(spec, show), options.out)
    sizes = {path.name: path.stat().st_size for path in sorted(options.out.iterdir())}
    print()
    for name, size in sizes.items():
        print(f"{name:24s} {size / 1000:8.0f} kB")
    print(f"{'together':24s} {sum(sizes.values()) / 1000:8.0f} kB in {options.out}")
    if sum(sizes.values()) > LIMIT_BYTES:
        print(f"more than the sample's limit of {LIMIT_BYTES / 1e6:.0f} MB: draw it smaller", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
