"""``run.py train-demo``: trains the small model by the clock, on the VAE that ships.

    python3 -m lab.small_model --out FOLDER [--device cuda] [--minutes 9] [--workers 10]
                               [--text FILE] [--small]
    python3 -m lab.small_model --join FOLDER [--out FOLDER]

Processes draw and encode rooms while the base trains (image-to-video, and copying what is known),
then the EgoX LoRA on it, both from the weights that ship. ``--minutes`` is all of it: imports have a
share, and of the time that is left then waiting, base, LoRA and figures each one that no other eats.
The folder is right at any moment: weights come every 20 s in parts of 15 MiB (``--join`` puts the
newest whole save together), and ``figures.json`` says how far it got. At the end ``figures.md`` has it
as a table (rooms, clips seen, held-out losses by noise level, figures on the test rooms) beside
``rooms.png``. No host, network or environment of ``run.py`` is needed; the packages of the extra
`train` are, and the text embedding of the demo's graph, from a host or a file that ``python3 -m
lab.small_model.lotus FILE`` wrote.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from .drawers import Drawing, drawing

NEEDED = (
    "torch safetensors diffusers peft accelerate transformers pydantic yaml numpy cv2 scipy PIL "
    "torchmetrics psutil"
).split()
DISK_BYTES, WORKER_BYTES = 2e9, 1.5e9
"""Free disk that rooms and runs need, and main memory of a process that draws."""


def first_look(text: Path | None, workers: int) -> int:
    """Say in the first seconds what is there, missing and left out; the number of processes that
    memory allows.

    Raises:
        SystemExit: something without which nothing can be made.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    problems = []
    if missing:
        problems.append(f"packages: {' '.join(missing)} (pip install -e '.[train]')")
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    if disk < DISK_BYTES:
        problems.append(f"disk: {disk / 1e9:.1f} GB free for rooms, {DISK_BYTES / 1e9:.0f} needed")
    if text is None and "EGOX_HOST_DIR" not in os.environ:
        problems.append("text: no --text FILE, and no ComfyUI in EGOX_HOST_DIR to make it")
    if text is not None and not text.is_file():
        problems.append(f"text: no file {text.name}")
    if problems:
        sys.exit("\n".join(["missing:", *problems]))
    import psutil

    memory = psutil.virtual_memory().available
    fitting = max(1, min(workers, int(memory / WORKER_BYTES)))
    source = "a file" if text else "the host"
    print(
        f"packages are there, text from {source}; disk {disk / 1e9:.1f} GB free, main memory "
        f"{memory / 1e9:.1f}; {fitting} of {workers} processes draw",
        flush=True,
    )
    if shutil.which("nvidia-smi") is None:
        print(
            "left out: no NVIDIA card, so a few steps for many; --small tries the way", flush=True
        )
    return fitting


def main() -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="run.py train-demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, help="folder for weights and figures")
    parser.add_argument("--join", type=Path, help="put the parts in this folder together")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument(
        "--workers",
        type=int,
        default=max(1, (os.cpu_count() or 2) * 2 // 3),
        help="processes that draw",
    )
    parser.add_argument("--text", type=Path, help="embedding; by default the host's own is made")
    parser.add_argument("--small", action="store_true", help="tiny rooms, to try it without a card")
    args = parser.parse_args()
    if args.join is not None:
        from .parts import join_parts

        print("\n".join(map(str, join_parts(args.join, args.out or args.join))))
        return 0
    if args.out is None:
        parser.error("give --out FOLDER")
    workers = first_look(args.text, args.workers)
    with tempfile.TemporaryDirectory(prefix="egox_rooms_") as work:
        job = Drawing(Path(work), args.small, args.device, workers)
        with drawing(job) as drawers:  # they import meanwhile
            import torch

            from .run import train_small_model
            from .settings import SMALL, DemoTraining

            train_small_model(
                args.out,
                SMALL if args.small else DemoTraining(),
                drawers,
                minutes=args.minutes,
                work=Path(work),
                device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
                text=args.text,
                started=started,
                tell=lambda words: print(
                    f"{time.monotonic() - started:.0f} s: {words}", flush=True
                ),
            )
    print(f"weights: python3 -m lab.small_model --join {args.out}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
