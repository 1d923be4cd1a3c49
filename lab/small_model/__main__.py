"""``run.py train-demo``: trains the small model by the clock, on the VAE that ships.

    python3 -m lab.small_model --out FOLDER [--device cuda] [--minutes 9] [--workers 10]
                               [--text FILE] [--small]
    python3 -m lab.small_model --join FOLDER [--out FOLDER]

Processes draw and encode rooms while the base trains (image-to-video, and copying what is known),
then the EgoX LoRA on it, both from the weights that ship. ``--minutes`` is all of it, imports included:
waiting, base, LoRA and figures each have a share that no other eats. The folder is right at any
moment: weights come every 20 s in parts of 15 MiB (``--join`` puts the newest whole save together),
and ``figures.json`` says how far it got. At the end ``figures.md`` has it as a table (rooms, clips
seen, held-out losses by noise level, figures on the test rooms) beside ``rooms.png``. No host,
network or environment of ``run.py`` is needed; the packages of the extra `train` are, and the text
embedding of the demo's graph, from a host or a file that ``python3 -m lab.small_model.lotus FILE``
wrote.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

NEEDED = (
    "torch safetensors diffusers peft accelerate transformers pydantic yaml numpy cv2 scipy PIL "
    "torchmetrics psutil"
).split()
DISK_BYTES, WORKER_BYTES = 2e9, 1.5e9
"""Free disk that rooms and runs need, and main memory of a process that draws."""


def first_look(text: Path | None, workers: int) -> int:
    """Say in the first seconds what is missing; the number of processes that memory allows.

    Raises:
        SystemExit: something without which nothing can be made.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    problems = []
    if missing:
        problems.append(f"packages: {' '.join(missing)} (pip install -e '.[train]')")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < DISK_BYTES:
        problems.append(f"disk: {free / 1e9:.1f} GB free for rooms, {DISK_BYTES / 1e9:.0f} needed")
    if text is None and "EGOX_HOST_DIR" not in os.environ:
        problems.append("text: no --text FILE, and no ComfyUI in EGOX_HOST_DIR to make it")
    if text is not None and not text.is_file():
        problems.append(f"text: no file {text.name}")
    if problems:
        sys.exit("\n".join(["missing:", *problems]))
    import psutil

    fitting = max(1, int(psutil.virtual_memory().available / WORKER_BYTES))
    if fitting < workers:
        print(f"main memory for {fitting} processes that draw, not {workers}", flush=True)
    return min(fitting, workers)


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
    import torch

    from .run import train_small_model
    from .settings import SMALL, DemoTraining

    training = SMALL if args.small else DemoTraining()
    shares = {
        "first rooms": training.first_rooms_until,
        "base": training.base.until,
        "LoRA": training.lora.until,
        "figures": training.figures_until,
    }
    plan = ", ".join(f"{name} until {60 * args.minutes * at:.0f} s" for name, at in shares.items())
    print(f"{time.monotonic() - started:.1f} s: {plan}; {workers} processes draw", flush=True)
    with tempfile.TemporaryDirectory(prefix="egox_rooms_") as work:
        train_small_model(
            args.out,
            training,
            minutes=args.minutes,
            work=Path(work),
            device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            workers=workers,
            text=args.text,
            started=started,
            tell=lambda words: print(words, flush=True),
        )
    print(f"weights: python3 -m lab.small_model --join {args.out}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
