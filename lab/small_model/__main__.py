"""Train the small model within a given number of minutes, with the VAE that ships (``run.py
train-demo``).

    python3 -m lab.small_model --out FOLDER [--device cuda] [--minutes 9] [--workers 10]
                               [--text FILE] [--small]
    python3 -m lab.small_model --join FOLDER [--out FOLDER]

Processes draw and encode rooms while the base trains (image-to-video, and copying what is known),
then the EgoX LoRA on it, both from the weights that ship. ``--minutes`` is all of it: imports have
a share, and of the time that is left then waiting, base, LoRA and figures each one that no other
eats. The folder is right at any moment: ``figures.json`` says from the first second on what the
machine has and lacks, what was asked for and how far it got; weights come every 20 s in parts of 15
MiB (``--join`` puts the newest whole save together). At the end ``figures.md`` has it
as a table (rooms, clips seen, held-out losses by noise level, figures on the test rooms) beside
``rooms.png``. No host, network or environment of ``run.py`` is needed; the packages of the extra
`train` are, and the text embedding of the demo's graph, from a host or a file that ``python3 -m
lab.small_model.lotus FILE`` wrote.
"""

import argparse
import faulthandler
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.first_look import missing_packages, this_machine, write_first

from .drawers import Drawing, drawing

NEEDED = (
    "torch safetensors diffusers peft accelerate transformers pydantic yaml numpy cv2 scipy PIL "
    "torchmetrics psutil"
).split()
DISK_GB, WORKER_GB = 2, 1.5
"""Free disk that rooms and runs need, and main memory of a process that draws."""
OVERRUN = 1.05
"""Share of --minutes after which the program ends whatever it is at."""


def first_look(args: argparse.Namespace) -> dict[str, Any]:
    """Print what the machine has and lacks, and what will be done, and write it to a file.

    Raises:
        SystemExit: something without which nothing can be made.
    """
    machine, problems = this_machine(), []
    missing_names = missing_packages(NEEDED)
    if missing_names:
        problems.append(f"packages: {' '.join(missing_names)} (pip install -e '.[train]')")
    if machine["disk_gb"] < DISK_GB:
        problems.append(f"disk: {machine['disk_gb']} GB free for rooms, {DISK_GB} needed")
    if args.text is None and "EGOX_HOST_DIR" not in os.environ:
        problems.append("text: no --text FILE, and no ComfyUI in EGOX_HOST_DIR to make it")
    if args.text is not None and not args.text.is_file():
        problems.append(f"text: no file {args.text.name}")
    memory_gb = machine["main_memory_gb"] or 0.0
    record = {
        "machine": machine,
        "missing": problems,
        "minutes": args.minutes,
        "size": "small" if args.small else "full",
        "processes that draw": max(1, min(args.workers, int(memory_gb / WORKER_GB))),
        "doing": "nothing: see what is missing" if problems else "imports",
    }
    write_first(args.out / "figures.json", record)
    if problems:
        sys.exit("\n".join(["missing:", *problems]))
    machine_facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    print(
        f"packages are there, text from {'a file' if args.text else 'the host'}; {machine_facts}; "
        f"{record['processes that draw']} of {args.workers} processes draw",
        flush=True,
    )
    if not machine["nvidia_driver"]:
        print(
            "left out: no NVIDIA card, so a few steps for many; --small tries the way", flush=True
        )
    return record


def run(args: argparse.Namespace, record: dict[str, Any], started: float) -> None:
    """Draw the training rooms, train both stages and measure the results."""

    def tell(words: str) -> None:
        print(f"{time.monotonic() - started:.0f} s: {words}", flush=True)

    with tempfile.TemporaryDirectory(prefix="egox_rooms_") as work_folder:
        job = Drawing(Path(work_folder), args.small, args.device, record["processes that draw"])
        with drawing(job) as room_drawers:  # they import meanwhile
            import torch

            from .run import train_small_model
            from .settings import SMALL_TRAINING, DemoTraining

            train_small_model(
                args.out,
                SMALL_TRAINING if args.small else DemoTraining(),
                room_drawers,
                record,
                minutes=args.minutes,
                work_folder=Path(work_folder),
                device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
                text=args.text,
                started=started,
                print_line=tell,
            )


def main() -> int:
    start_time_s = time.monotonic()
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
    record = first_look(args)
    # Whatever still computes in a library then: all is on disk.
    faulthandler.dump_traceback_later(60 * OVERRUN * args.minutes, exit=True)
    try:
        run(args, record, start_time_s)
    except Exception as error:
        record["ended by"] = f"{type(error).__name__}: {error}"
        write_first(args.out / "figures.json", record)
        raise
    faulthandler.cancel_dump_traceback_later()
    print(f"weights: python3 -m lab.small_model --join {args.out}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
