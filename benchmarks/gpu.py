"""Everything that only a GPU can tell, without weights: kernels, forwards, memory, training.

    python3 run.py bench gpu      on any CUDA GPU; without one, or with --small, at a small size

Each kernel of guided attention is compared with float64 at the real shape and timed beside plain
attention; steps of Wan 14B's shape with random weights run through the host, guided, plain and with
exo kept, also with the device's memory held to 24 and 16 GB; one training step of rank 256 is
taken; egox_demo runs on the real server. What the card's owner needs comes first: five minutes give
kernels, training, tests and steps on a card of 9.0. All parts in the host share a process; no part
may take more than half of the time, and what doesn't fit into it is named. Times have a bar on 9.0,
where they were measured. The result is a table without names of people, computers or folders, fit
for a bug report, written after every row, so that Ctrl-C keeps it:
benchmarks/results/gpu_<name>.md, at the end .json too.

`python3 -m benchmarks.gpu` in a copy of the tree does the same without run.py's environment, with
the ComfyUI in COMFYUI_DIR; kernels need torch and numpy alone.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.gpu_row import PACK, Row, anonymous
from benchmarks.support.record import RESULTS, add_arguments, finish, machine, versions
from tools.rigs.wan_shapes import CLIPS, forward_flops
from tools.setup.host import find_host
from tools.setup.layout import SetupError

END_LIMIT_S, TICK_S = 10.0, 0.25
LARGE_BYTES = 40e9
"""A card with as much runs and trains bf16 weights; others fp8 ones."""
MINUTES = {"small": 10.0, "14b": 15.0}
BEFORE_HOPPER = 2.0
"""Factor of the time on cards below 9.0."""
WITHOUT_A_GPU = "Without a GPU nothing here tells speed or memory."


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


def plan(weights: str) -> tuple[str, ...]:
    """Parts in the order in which the card's owner needs them; neighbours that begin alike share a
    process."""
    first = "kernels bf16", "kernels fp16", f"train {weights}", "tests"
    in_host = weights, "fp8 24", "fp8 16", "fast 24", "fast 16"
    return (*first, *(f"host {part}" for part in in_host), "demo")


def measure(
    size: str, host: bool, args: argparse.Namespace, report: Report, say: Callable[[str], None]
) -> None:
    """All parts within the time, into ``report``; the device's first, which says what follows."""
    started, minutes, parts = time.monotonic(), args.minutes or MINUTES[size], plan("bf16")
    job = {"size": size, "total_bytes": None, "forward_limit_s": 0.0, "judged": False}
    job["dynamic"] = not args.disable_dynamic_vram
    run_parts(["device"], job, 30 * minutes, started + 60 * minutes, report, say)
    if not report.card:
        return
    limit_s = forward_flops(size, CLIPS[size].tokens) / report.card["matrix_flops_per_second"]
    job |= {"total_bytes": report.card.get("total_bytes"), "forward_limit_s": limit_s}
    if size == "14b":
        capability, room = report.card["capability"], report.card["total_bytes"]
        job["judged"] = capability == [9, 0]
        if not args.minutes and capability < [9, 0]:
            minutes *= BEFORE_HOPPER
        parts = plan("bf16" if room >= LARGE_BYTES else "fp8")
        parts = [x for x in parts if not x.endswith((" 24", " 16")) or room > 0.95e9 * int(x[-2:])]
    parts = [part for part in parts if host or not part.startswith(("host", "demo"))]
    parts = [part for part in parts if re.match(args.only, part)]
    say(
        f"It ends after {minutes:g} minutes (--minutes), most important first. Ctrl-C keeps "
        "what is there."
    )
    for _, group in groupby(parts, key=lambda part: part.partition(" ")[0]):
        left = list(group)
        while left:
            left = run_parts(left, job, 30 * minutes, started + 60 * minutes, report, say)


def run_parts(
    parts: list[str],
    job: dict[str, Any],
    limit_s: float,
    ends: float,
    report: Report,
    say: Callable[[str], None],
) -> list[str]:
    """Parts in a process of their own, their rows as they come; those left after a part that ended
    the process or took longer than ``limit_s``."""
    started, said, left = time.monotonic(), 0, list(parts)
    if started >= ends:
        report.not_run |= dict.fromkeys(parts, "the time was over")
        return []
    with tempfile.TemporaryDirectory() as folder:
        told, errors = Path(folder) / "told", Path(folder) / "errors"
        told.touch()
        words = json.dumps({**job, "parts": parts, "told": str(told)})
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [*worker_command(), words], cwd=PACK, stdout=subprocess.DEVNULL, stderr=stream
            )
        say(f"... {parts[0]}")
        try:
            over = False
            while not over and time.monotonic() < min(started + limit_s, ends):
                time.sleep(TICK_S)
                over = process.poll() is not None
                whole = told.read_text("utf-8").split("\n")[:-1]
                for row in map(json.loads, whole[said:]):
                    if row is not None:
                        report.add(left[0], Row(**row))
                        continue
                    report.seconds[left.pop(0)] = round(time.monotonic() - started, 1)
                    if not left:
                        return []
                    started = time.monotonic()
                    say(f"... {left[0]}")
                said = len(whole)
        finally:
            end(process)
        last = (errors.read_text("utf-8", "replace").strip() or "no word").splitlines()[-1]
    why = "the time was over" if time.monotonic() >= ends else "it took too long"
    why = f"its process ended: {last}" if over else f"stopped: {why}"
    report.not_run[left.pop(0)] = anonymous(why)[:300]
    return left


def end(process: subprocess.Popen) -> None:
    process.terminate()  # first, so that it can end a server of its own
    try:
        process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def worker_command() -> list[str]:
    return [sys.executable, "-m", "benchmarks.support.gpu_worker"]


def row_line(row: dict[str, Any]) -> str:
    held = {True: "yes", False: "**NO**", None: ""}[row["held"]]
    return f"| {row['what']} | {row['measured'].replace('|', '/')} | {row['bar']} | {held} |"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown for a bug report: facts, rows, what held and didn't, what wasn't run."""
    facts = ", ".join(f"{name} {value}" for name, value in result["facts"].items())
    judged = [row for row in result["rows"] if row["held"] is not None]
    lines = [
        f"**EgoX on {result['name']}**, {result['size']} size: {facts}\n",
        "| what | measured | bar | held |\n|---|---|---|---|",
        *map(row_line, result["rows"]),
        f"\nHeld: {sum(row['held'] for row in judged)} of {len(judged)}.",
    ]
    for title, items in (
        ("Did not hold", [row["what"] for row in judged if not row["held"]]),
        ("Not run", [f"{part}: {why}" for part, why in result["not_run"].items()]),
    ):
        if items:
            lines.append(f"{title}:\n" + "\n".join(f"- {item}" for item in items))
    if result["size"] == "small":
        lines.append(WITHOUT_A_GPU)
    return "\n".join(lines)


def unused_card() -> bool:
    """Say whether an NVIDIA driver is installed while torch sees no GPU."""
    return not torch.cuda.is_available() and shutil.which("nvidia-smi") is not None


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small also where there is a GPU")
    parser.add_argument(
        "--minutes", type=float, help="stop after so long (default 15, before Hopper 30; small 10)"
    )
    parser.add_argument("--only", default="", help='parts that begin so, as "host bf16" or "train"')
    parser.add_argument("--disable-dynamic-vram", action="store_true", help="as ComfyUI has it")
    add_arguments(parser)
    args = parser.parse_args()
    if not args.small and unused_card():
        sys.exit(
            "bench gpu: there is an NVIDIA card that torch doesn't see. Install a torch with CUDA "
            "(EGOX_TORCH_INDEX is its index), or a newer driver. (--small runs without it.)"
        )
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
