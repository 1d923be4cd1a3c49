"""Everything that only a GPU can tell, in ten minutes and without weights: kernels, forwards, memory, training.

    python3 run.py bench gpu                 on any CUDA GPU; without one the same at a small size
    python3 -m benchmarks.gpu [--small]      in a Python that has torch and numpy

Each kernel of guided attention is compared with float64 at the real shape and timed beside plain attention; a forward
of Wan 14B's shape with random weights runs in bf16, fp16 and fp8, in plain torch and through the host where it is
installed, with offload forced, with dynamic memory on and within 24 GB; one training step of rank 256 is taken. Parts
run in processes of their own with a limit, and what no longer fits into the time is left out and named. The result is
a table without names of people, computers or folders, fit for a bug report: benchmarks/results/gpu_<name>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.gpu_row import Row, anonymous
from benchmarks.support.gpu_worker import CAP_GB, DEVICE_IS_LOST, GPU_TESTS, REPO_ROOT, SAYS
from benchmarks.support.record import RESULTS, add_arguments, finish, machine, versions
from tools.rigs.wan_shapes import CLIPS, forward_flops
from tools.setup.host import find_host
from tools.setup.layout import SetupError

MINUTES = {"14b": 10.0, "small": 3.5}
SLOWER_THAN_FLOPS = 1.6
"""What a forward takes beside the time of its multiplications, for guessing what still fits into the time."""
START_LIMIT_S, LIMIT_S, ENDING_S = 150.0, 60.0, 60.0
NEEDS_A_GPU = (
    "guided over plain attention at 28,028 tokens (bar 1.15), and which kernel gives it",
    "the kernels cudnn and efficient, the fused kernel for rows of bias; the tests marked gpu",
    "seconds of a forward of the 14B, its 50 steps beside the FLOP limit, its peak memory",
    "the host's dynamic memory, its forced offload, and the 24 GB cap",
    "seconds and peak memory of a training step at full size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parts that share a process; ``host``: how the host is started in it, None: it isn't."""

    parts: tuple[str, ...]
    host: dict[str, Any] | None = None


@dataclass(slots=True)
class Report:
    """What came of it so far."""

    rows: list[tuple[str, Row]] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)  # of the device, once known

    def add(self, part: str, row: Row) -> None:
        self.rows.append((part, row))
        if row.what == "device":
            self.numbers = row.numbers


def plan(size: str, on_gpu: bool, host: bool) -> list[Group]:
    """All groups, what matters most first: the watchdog leaves out the last ones."""
    if not on_gpu:
        groups = [Group(parts=("device", "kernels", "torch bf16", "torch fp16", "torch fp8",
                               "torch_24gb fp8", "torch_offload bf16", "train bf16", "train fp8"))]
        started = {"dynamic": False, "cap_gb": None, "no_vram": False}
        return [*groups, Group(parts=("host bf16", "host fp8"), host=started)] if host else groups
    tests = ("tests",) if (REPO_ROOT / GPU_TESTS).is_dir() and size == "14b" else ()
    dynamic = {"dynamic": True, "cap_gb": None, "no_vram": False}
    groups = [
        Group(parts=("device",)),  # alone: how long the others take is guessed from it
        Group(parts=("kernels", "torch bf16")),
        Group(parts=("host bf16", "host fp8"), host=dynamic),
        Group(parts=("host_24gb fp8", "host_24gb bf16"), host=dynamic | {"cap_gb": CAP_GB}),
        Group(parts=("train fp8", "train bf16", "torch_offload bf16", "torch_24gb fp8", *tests)),
        Group(parts=("host fp16",), host=dynamic),
        Group(parts=("host_offload fp8",), host={"dynamic": False, "cap_gb": None, "no_vram": True}),
        Group(parts=("torch fp16", "torch fp8")),
    ]
    return [group for group in groups if host or group.host is None]


def least_seconds(part: str, forward_s: float) -> float:
    """A guess at what a part takes, on the low side; ``forward_s``: one forward of this size."""
    kind = part.partition(" ")[0]
    begin, forwards = {"device": (2, 0), "kernels": (10, 1), "tests": (20, 1), "torch": (5, 6),
                       "torch_24gb": (5, 6), "torch_offload": (10, 4), "train": (15, 9), "host": (25, 6),
                       "host_24gb": (25, 8), "host_offload": (25, 12)}[kind]
    return begin + forwards * forward_s


def measure(size: str, groups: list[Group], minutes: float, show: bool = True) -> Report:
    """All parts, within the time."""
    report, ends = Report(), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as keep:
        for group in groups:
            left = list(group.parts)
            while left:
                left = _one_process(size, left, group.host, ends, Path(keep), report, show)
    return report


def _one_process(size: str, parts: list[str], host: dict[str, Any] | None, ends: float, keep: Path, report: Report,
                 show: bool) -> list[str]:
    """Runs parts in a fresh process; those that are left when it had to be ended."""
    rate = report.numbers.get("matrix_flops_per_second")
    forward_s = SLOWER_THAN_FLOPS * forward_flops(size, CLIPS[size].tokens) / rate if rate else 0.0
    # Work of a small size takes no time worth guessing.
    least = {part: least_seconds(part, forward_s) if size == "14b" else 1.0 for part in parts}
    left_s = ends - time.monotonic()
    if all(seconds > left_s for seconds in least.values()):
        report.not_run |= {part: "the time was over" for part in parts}
        return []
    job = {"size": size, "parts": parts, "matrix_rate": rate, "keep": str(keep), "least_s": least, "left_s": left_s,
             "host": None if host is None else {**host, "total_bytes": report.numbers.get("total_bytes")}}
    waiting, now_at, limit = list(parts), None, time.monotonic() + START_LIMIT_S
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(worker_command(job), cwd=REPO_ROOT, stdout=subprocess.PIPE, stderr=errors,
                                   text=True, encoding="utf-8", errors="replace")
        lines = _lines(process)
        try:
            while True:
                try:
                    said = lines.get(timeout=max(0.1, min(limit, ends) - time.monotonic()))
                except queue.Empty:
                    part = now_at or waiting[0]
                    report.not_run[part] = "stopped: it took too long" if limit < ends else "stopped: the time was over"
                    waiting.remove(part)
                    return waiting
                if said is None:
                    process.wait(ENDING_S)
                    break
                kind, part = said["kind"], said.get("part")
                if kind == "unusable":
                    report.not_run |= {one: f"the host did not start: {said['why']}" for one in waiting}
                    return []
                if kind == "start":
                    now_at, limit = part, time.monotonic() + LIMIT_S + 4 * least_seconds(part, forward_s)
                    if show:
                        print(f"... {part}", file=sys.stderr, flush=True)
                elif kind == "row":
                    report.add(part, Row(**said["row"]))
                elif kind in ("end", "skipped"):
                    waiting.remove(part)
                    now_at, limit = None, time.monotonic() + START_LIMIT_S
                    if kind == "skipped":
                        report.not_run[part] = "the time was over"
                    else:
                        report.seconds[part] = round(said["seconds"], 1)
        finally:
            process.kill()
            process.wait()
        if not waiting or (now_at is None and process.returncode == DEVICE_IS_LOST):
            return waiting
        errors.seek(0)
        last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        part = now_at or waiting[0]
        report.not_run[part] = anonymous(f"its process ended: {last[0] if last else 'without a word'}")[:300]
        waiting.remove(part)
        return waiting


def worker_command(job: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.support.gpu_worker", json.dumps(job)]


def _lines(process: subprocess.Popen[str]) -> queue.Queue[dict[str, Any] | None]:
    """What the process says, as it says it; None at its end. A thread, because pipes can't be waited for on Windows."""
    out: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            if line.startswith(SAYS):
                out.put(json.loads(line.removeprefix(SAYS)))
        out.put(None)

    threading.Thread(target=read, daemon=True).start()
    return out


def table(result: dict[str, Any]) -> str:
    """The result as Markdown for a bug report: facts, rows, what held, what didn't, what was not run."""
    return "\n".join(_table_lines(result))


def _table_lines(result: dict[str, Any]) -> Iterator[str]:
    facts = ", ".join(f"{name} {value}" for name, value in result["facts"].items())
    yield f"**EgoX on {result['name']}**, {result['size']} size: {facts}"
    yield ""
    yield "| what | measured | bar | held |"
    yield "|---|---|---|---|"
    for row in result["rows"]:
        held = {True: "yes", False: "**NO**", None: ""}[row["held"]]
        yield f"| {row['what']} | {row['measured'].replace('|', '/')} | {row['bar']} | {held} |"
    yield ""
    judged = [row for row in result["rows"] if row["held"] is not None]
    yield f"Held: {sum(row['held'] for row in judged)} of {len(judged)}."
    failed = [row["what"] for row in judged if not row["held"]]
    if failed:
        yield "Did not hold:"
        yield from (f"- {what}" for what in failed)
    if result["not_run"]:
        yield "Not run:"
        yield from (f"- {part}: {why}" for part, why in result["not_run"].items())
    if result["needs_a_gpu"]:
        yield "These need a CUDA GPU and say nothing here:"
        yield from (f"- {what}" for what in result["needs_a_gpu"])


def main() -> int:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the whole path at a small size (always without a GPU)")
    parser.add_argument("--minutes", type=float, help="stop after so long (default 10; 3.5 at the small size)")
    parser.add_argument("--no-host", action="store_true", help="leave out what goes through ComfyUI")
    add_arguments(parser)
    args = parser.parse_args()
    size = "14b" if on_gpu and not args.small else "small"
    host = None if args.no_host else _host()
    name = torch.cuda.get_device_name(0) if on_gpu else "a CPU"
    start = time.monotonic()
    report = measure(size, plan(size, on_gpu, host is not None), args.minutes or MINUTES[size], show=not args.json)
    if host is None:
        report.not_run["forwards through the host"] = "left out" if args.no_host else "ComfyUI is not installed"
    facts = {**versions(), "CUDA": torch.version.cuda or "none", "Triton": _version("triton"),
             "ComfyUI": host.version_text if host else "none", "system": machine()["system"]}
    rows = [{"part": part, **row.as_dict()} for part, row in report.rows]
    result = {"name": name, "size": size, "facts": facts, "rows": rows, "not_run": report.not_run,
              "part_seconds": report.seconds, "seconds": round(time.monotonic() - start, 1),
              "needs_a_gpu": list(NEEDS_A_GPU) if size == "small" else [],
              "passed": all(row["held"] is not False for row in rows) and bool(rows)}
    args.save = args.save or size == "14b"
    file = "gpu_" + (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") if on_gpu else "none")
    file += "_small" if on_gpu and size == "small" else ""
    text = table(result)
    finish(file, result, args, text)
    if args.save:
        (RESULTS / f"{file}.md").write_text(text + "\n", encoding="utf-8")
        print(f"\nKept as {(RESULTS / file).relative_to(REPO_ROOT).as_posix()}.json and .md", file=sys.stderr)
    return 0 if result["passed"] else 1


def _host() -> Any:
    try:
        return find_host()
    except SetupError:
        return None


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    sys.exit(main())
