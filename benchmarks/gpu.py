"""Everything that only a GPU can tell, without weights: kernels, forwards, memory, training.

    python3 run.py bench gpu      on any CUDA GPU; without one, or with --small, at a small size

Each kernel of guided attention is compared with float64 at the real shape and timed beside plain
attention; steps of Wan 14B's shape with random weights run through the host, guided, plain and with
exo kept, also with the device's memory held to 24 and 16 GB; one training step of rank 256 is
taken; egox_demo runs on the real server. What the card's owner needs comes first: five minutes give
kernels, steps, training and tests on a card of 9.0. All parts in the host share a process; each part
has a limit, and what no longer fits into the time is left out and named. Times have a bar on 9.0,
where they were measured. The result is a table without names of people, computers or folders, fit
for a bug report, written after every row, so that Ctrl-C keeps it:
benchmarks/results/gpu_<name>.md, at the end .json too.

`python3 -m benchmarks.gpu` in a copy of the tree does the same without run.py's environment, with
the ComfyUI in COMFYUI_DIR; kernels need torch and numpy alone.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.gpu_row import PACK, Row, anonymous
from benchmarks.support.record import RESULTS, add_arguments, finish, machine, versions
from tools.rigs.wan_shapes import CLIPS, forward_flops
from tools.setup.host import find_host
from tools.setup.layout import SetupError

SLOWER_THAN_FLOPS = 1.6
"""Factor of a forward's time over that of its multiplications, for guessing what still fits."""
START_LIMIT_S, END_LIMIT_S, TICK_S = 150.0, 10.0, 0.25
LARGE_BYTES = 40e9
"""A card with as much holds bf16 weights; on others fp8 comes first."""
HOST_PARTS = ("host fp8 24", "host fp8 16", "demo", "host fast 24", "host fast 16")
FIRST_PARTS = ("kernels bf16", "host bf16", "train bf16", "kernels fp16", "tests")
"""Parts that the card's owner needs first: the time leaves out the last."""
SMALL_PLAN = (*FIRST_PARTS, *HOST_PARTS, "train fp8")
LARGE_PLAN = (*FIRST_PARTS, *HOST_PARTS, "host fp16", "train fp8")
OTHER_PLAN = ("kernels bf16", "host fp8", "train fp8", "tests", *HOST_PARTS, *FIRST_PARTS[1:4])
LEAST = {"kernels": (12, 2), "tests": (25, 1), "train": (20, 12), "demo": (45, 0), "host": (15, 8)}
"""Least cost of a part, guessed: seconds to begin, and forwards beside."""
WITHOUT_A_GPU = "Without a GPU nothing here tells speed or memory."
now, sleep = time.monotonic, time.sleep


@dataclass(slots=True)
class Report:
    """Rows so far; ``keep`` is called after each."""

    rows: list[tuple[str, Row]] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)  # numbers of the device, once known
    keep: Callable[[Row], None] = lambda row: None

    def add(self, part: str, row: Row) -> None:
        self.rows.append((part, row))
        if row.what == "device":
            self.card = row.numbers
        self.keep(row)


def least_seconds(part: str, forward_s: float) -> float:
    """A guess on the low side; ``forward_s``: one forward, 0 of the small size."""
    begin, forwards = LEAST[part.partition(" ")[0]]
    return begin + forwards * forward_s if forward_s else 1.0


def measure(
    size: str, host: bool, args: argparse.Namespace, report: Report, say: Callable[[str], None]
) -> None:
    """All parts within the time, into ``report``; the device's first, which says what follows."""
    start, workers = now(), {}
    job = {"size": size, "total_bytes": None, "forward_limit_s": 0.0, "judged": False}
    job["dynamic"] = not args.disable_dynamic_vram
    try:
        run_part("device", job, START_LIMIT_S, start + START_LIMIT_S, report, say, workers)
        if not report.card:
            return
        limit_s = forward_flops(size, CLIPS[size].tokens) / report.card["matrix_flops_per_second"]
        job |= {"total_bytes": report.card.get("total_bytes"), "forward_limit_s": limit_s}
        parts, forward_s, enough = SMALL_PLAN, 0.0, 5.0
        if size == "14b":
            capability, room = report.card["capability"], report.card["total_bytes"]
            enough, forward_s = 15.0 if capability >= [9, 0] else 30.0, SLOWER_THAN_FLOPS * limit_s
            job["judged"] = capability == [9, 0]
            parts = LARGE_PLAN if room >= LARGE_BYTES else OTHER_PLAN
            parts = [
                x for x in parts if not x.endswith((" 24", " 16")) or room > 0.95e9 * int(x[-2:])
            ]
        minutes = args.minutes or enough
        parts = [part for part in parts if host or not part.startswith(("host", "demo"))]
        parts = [part for part in parts if re.match(args.only, part)]
        say(
            f"It ends after {minutes:g} minutes (--minutes), most important first. Ctrl-C keeps "
            "what is there."
        )
        ends = start + 60 * minutes
        for number, part in enumerate(parts):
            least = least_seconds(part, forward_s)
            if least > ends - now():
                report.not_run[part] = "the time was over"
            else:
                run_part(part, job, START_LIMIT_S + 4 * least, ends, report, say, workers)
            for kind in set(workers) - set(map(process_of, parts[number + 1 :])):
                workers.pop(kind).end()
    finally:
        for worker in workers.values():
            worker.end()


def process_of(part: str) -> str:
    """Parts of one name share a process, one after the other."""
    kind = part.partition(" ")[0]
    return "kernels" if kind in ("device", "tests") else kind


class Worker:
    """A process that computes parts, with a folder for what it says."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.errors = Path(self.folder.name) / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                worker_command(),
                cwd=PACK,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def end(self) -> None:
        self.process.terminate()  # first, so that it can end a server of its own
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


def run_part(
    part: str,
    job: dict[str, Any],
    limit_s: float,
    ends: float,
    report: Report,
    say: Callable[[str], None],
    workers: dict[str, Worker],
) -> None:
    """A part in the process of its kind, a fresh one if there is none; its rows as they come, after
    the last of which the process is kept for the next part."""
    say(f"... {part}")
    start, said, kind = now(), 0, process_of(part)
    worker = workers.pop(kind, None) or Worker()
    told = Path(worker.folder.name) / f"{part}.jsonl"
    told.touch()
    try:
        with suppress(BrokenPipeError):  # it ended, as is seen below
            line = json.dumps({**job, "part": part, "told": str(told)})
            worker.process.stdin.write(f"{line}\n".encode())
            worker.process.stdin.flush()
        while True:
            over = worker.process.poll() is not None
            whole = told.read_text("utf-8").split("\n")[:-1]
            for row in map(json.loads, whole[said:]):
                if row is None:
                    workers[kind] = worker
                    return
                report.add(part, Row(**row))
            said = len(whole)
            if over:
                words = worker.errors.read_text("utf-8", "replace").strip().splitlines()
                text = anonymous(f"its process ended: {words[-1] if words else 'no word'}")
                report.not_run[part] = text[:300]
                return
            if now() >= min(start + limit_s, ends):
                why = "it took too long" if start + limit_s < ends else "the time was over"
                report.not_run[part] = f"stopped: {why}"
                return
            sleep(TICK_S)
    finally:
        report.seconds[part] = round(now() - start, 1)
        if kind not in workers:
            worker.end()


def worker_command() -> list[str]:
    return [sys.executable, "-m", "benchmarks.support.gpu_worker"]


def row_line(row: dict[str, Any]) -> str:
    held = {True: "yes", False: "**NO**", None: ""}[row["held"]]
    return f"| {row['what']} | {row['measured'].replace('|', '/')} | {row['bar']} | {held} |"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown for a bug report: facts, rows, what held and didn't, what wasn't run."""
    return "\n".join(_table_lines(result))


def _table_lines(result: dict[str, Any]) -> Iterator[str]:
    facts = ", ".join(f"{name} {value}" for name, value in result["facts"].items())
    yield f"**EgoX on {result['name']}**, {result['size']} size: {facts}\n"
    yield "| what | measured | bar | held |\n|---|---|---|---|"
    yield from map(row_line, result["rows"])
    judged = [row for row in result["rows"] if row["held"] is not None]
    yield f"\nHeld: {sum(row['held'] for row in judged)} of {len(judged)}."
    for title, items in (
        ("Did not hold", [row["what"] for row in judged if not row["held"]]),
        ("Not run", [f"{part}: {why}" for part, why in result["not_run"].items()]),
    ):
        if items:
            yield f"{title}:\n" + "\n".join(f"- {item}" for item in items)
    if result["size"] == "small":
        yield WITHOUT_A_GPU


def unused_card() -> str:
    """Reason why torch sees no GPU although an NVIDIA driver is installed; empty where none is."""
    windows = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32/nvcuda.dll"
    if torch.cuda.is_available() or not (
        shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists() or windows.is_file()
    ):
        return ""
    if torch.version.cuda is None:
        return "torch is a build without CUDA: install one with it (EGOX_TORCH_INDEX is its index)"
    return (
        f"its driver is too old for torch's CUDA {torch.version.cuda}: update the driver, or "
        "install a torch for an older CUDA"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small also where there is a GPU")
    parser.add_argument(
        "--minutes", type=float, help="stop after so long (default 15, before Hopper 30; small 5)"
    )
    parser.add_argument("--only", default="", help='parts that begin so, as "host bf16" or "train"')
    parser.add_argument("--disable-dynamic-vram", action="store_true", help="as ComfyUI has it")
    add_arguments(parser)
    args = parser.parse_args()
    if not args.small and (reason := unused_card()):
        sys.exit(f"bench gpu: there is an NVIDIA card, but {reason}. (--small runs without it.)")
    size = "14b" if torch.cuda.is_available() and not args.small else "small"
    host = None
    with suppress(SetupError):
        host = find_host()
    args.save, start = args.save or size == "14b", time.monotonic()
    packages = [name for name in ("triton", "diffusers") if find_spec(name)]
    facts = {
        **versions(),
        "CUDA": torch.version.cuda or "none",
        **{name: metadata.version(name) for name in packages},
        "ComfyUI": host.version_text if host else "none",
        "system": machine()["system"],
    }
    report = Report(not_run={} if host else {"host": "ComfyUI is not installed"})

    def say(text: str) -> None:
        if not args.json:
            print(text, file=sys.stderr, flush=True)

    def so_far() -> tuple[str, dict[str, Any]]:
        name = report.card.get("name", "none")
        rows = [{"part": part, **row.as_dict()} for part, row in report.rows]
        return f"gpu_{re.sub(r'[^a-z0-9]+', '_', name.lower())}" + "_small" * (
            name != "none" and size == "small"
        ), {
            "name": name.replace("none", "a CPU"),
            "size": size,
            "facts": facts,
            "rows": rows,
            "not_run": report.not_run,
            "part_seconds": report.seconds,
            "seconds": round(time.monotonic() - start, 1),
            "passed": bool(rows) and all(row["held"] is not False for row in rows),
        }

    def keep(row: Row) -> None:
        say(row_line(row.as_dict()))
        if args.save:
            file, result = so_far()
            (RESULTS / f"{file}.md").write_text(table(result) + "\n", "utf-8")

    report.keep = keep
    try:
        measure(size, host is not None, args, report, say)
    except KeyboardInterrupt:
        report.not_run["the rest"] = "ended by Ctrl-C"
    file, result = so_far()
    finish(file, result, args, table(result))
    if args.save:
        (RESULTS / f"{file}.md").write_text(table(result) + "\n", "utf-8")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
