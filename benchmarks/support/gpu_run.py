"""Run the parts of the GPU benchmark in order, within a time limit, and write the result page."""

import _thread
import argparse
import faulthandler
import gc
import json
import math
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.support import gpu_attention, gpu_card
from benchmarks.support.gpu_row import Row, error_line
from benchmarks.support.record import RESULTS, add_machine_facts, machine, versions
from egox_core.gga import BACKENDS
from egox_core.safe_files import atomic_write, write_json
from tools.rigs.wan_shapes import CLIPS, forward_flops
from tools.setup.host import Host
from tools.setup.layout import SetupError

LARGE_BYTES = 40e9
"""A card with as much runs and trains bf16 weights; others fp8 ones."""
NO_GPU_NOTE = "Without a GPU nothing here tells speed or memory."
PartFunctions = dict[str, Callable[[], Iterable[Row]]]


@contextmanager
def time_limit(seconds: float | None) -> Generator[None]:
    """Limit the time of a ``with`` block by raising TimeoutError in the main thread after
    ``seconds`` seconds.

    It is interrupted as by Ctrl-C, also behind ``nohup``, where Ctrl-C is ignored, and where it
    waits for a lock or a process. What computes in a library goes on until it returns.
    """
    if seconds is None:
        yield
        return
    is_block_finished = threading.Event()

    def interrupt_main_thread() -> None:
        is_block_finished.set()
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        else:
            _thread.interrupt_main()

    old_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    limit_timer = threading.Timer(seconds, interrupt_main_thread)
    limit_timer.daemon = True
    limit_timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if not is_block_finished.is_set():
            raise
        raise TimeoutError from None
    finally:
        limit_timer.cancel()
        signal.signal(signal.SIGINT, old_handler)


@dataclass(slots=True)
class Report:
    """Collect the table rows of a benchmark in progress, and save them after each row."""

    rows: list[tuple[str, Row]] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)  # numbers of the device, once known
    keep: Callable[[Row], None] = lambda row: None

    def run(
        self, part: str, rows: Callable[[], Iterable[Row]], seconds: float | None = None
    ) -> None:
        """Run one part of the benchmark within a time limit, and report a failure or a timeout as a
        table row."""
        start_time_s = time.monotonic()
        try:
            with time_limit(seconds):
                for row in rows():
                    self.add(part, row)
        except TimeoutError:
            text = f"ended after {time.monotonic() - start_time_s:.0f} s, its share of the time"
            self.add(part, Row(what=part, measured=text))
        except (Exception, SetupError) as error:  # noqa: BLE001  (the other parts are wanted)
            self.add(part, Row(what=part, measured=f"failed: {error_line(error)}", held=False))
        self.seconds[part] = round(time.monotonic() - start_time_s, 1)
        gc.collect()
        if torch.cuda.is_available():
            with suppress(RuntimeError):  # after an error of the card itself
                torch.cuda.empty_cache()

    def add(self, part: str, row: Row) -> None:
        self.rows.append((part, row))
        if row.what == "device":
            self.card = row.numbers
        self.keep(row)


def list_parts(
    size: str, device: torch.device, gpu_numbers: dict[str, Any], host: bool
) -> PartFunctions:
    """List the parts of the GPU benchmark, most important first."""
    is_judged = size == "14b" and gpu_numbers["capability"] == [9, 0]
    gpu_bytes = gpu_numbers.get("total_bytes", LARGE_BYTES)
    weights = "bf16" if gpu_bytes >= LARGE_BYTES else "fp8"
    limit_s = forward_flops(size, CLIPS[size].tokens) / gpu_numbers["matrix_flops_per_second"]
    settings = {"size": size, "total_bytes": gpu_numbers.get("total_bytes"), "judged": is_judged}
    settings["forward_limit_s"] = limit_s

    def host_part(name: str) -> Iterable[Row]:
        from benchmarks.support.gpu_host import host_rows  # noqa: PLC0415

        return host_rows(name, settings)

    def demo(_: str) -> Iterable[Row]:
        from benchmarks.support.gpu_demo import demo_row  # noqa: PLC0415

        return [demo_row(size, is_judged)]

    def kernels(dtype: str) -> Iterable[Row]:
        cases = [(dtype, batch) for batch in (1, 2)]
        return gpu_attention.kernel_rows(size, device, ("auto", *BACKENDS), cases, is_judged)

    def train(kind: str) -> Iterable[Row]:
        return [gpu_card.training_row(size, kind, device, is_judged)]

    def tests(_: str) -> Iterable[Row]:
        return [gpu_card.tests_row(device)]

    host_functions = {"host": host_part, "demo": demo} if host else {}
    functions = {"kernels": kernels, "train": train, "tests": tests} | host_functions
    parts = ["kernels bf16", f"host {weights}", f"train {weights}", "train 24 GB", "train 16 GB"]
    parts += ["kernels fp16", "tests"]
    parts += [
        f"host {kind} {limit_gb}"
        for kind in ("fp8", "fast")
        for limit_gb in (24, 16)
        if gpu_bytes > 0.95e9 * limit_gb
    ]
    return {
        part: partial(functions[kind], details)
        for part in (*parts, "demo")
        for kind, _, details in [part.partition(" ")]
        if kind in functions
    }


SHARE = 0.34
"""Most of the time that is left which one part may take."""
LEAST_S = 20.0
"""A part isn't begun with less."""
OVERRUN = 1.05
"""Share of --minutes after which the program ends whatever it is at."""


def row_line(row: dict[str, Any]) -> str:
    limit_met_text = {True: "yes", False: "**NO**", None: ""}[row["held"]]
    return (
        f"| {row['what']} | {row['measured'].replace('|', '/')} | {row['bar']} | {limit_met_text} |"
    )


def table(result: dict[str, Any]) -> str:
    """Format the GPU benchmark's result as Markdown."""
    machine_facts = ", ".join(f"{name} {value}" for name, value in result["facts"].items())
    judged_rows = [row for row in result["rows"] if row["held"] is not None]
    lines = [
        f"**EgoX on {result['name']}**, {result['size']} size: {machine_facts}\n",
        "| what | measured | bar | held |\n|---|---|---|---|",
        *map(row_line, result["rows"]),
        f"\nHeld: {sum(row['held'] for row in judged_rows)} of {len(judged_rows)}.",
    ]
    for title, bullet_items in (
        ("Did not hold", [row["what"] for row in judged_rows if not row["held"]]),
        (
            "Not run",
            [f"{part_name}: {skip_reason}" for part_name, skip_reason in result["not_run"].items()],
        ),
        ("Left out", result["left_out"]),
        ("Running when this was written", [result["running"]] if result["running"] else []),
        ("To come", result["to_come"]),
    ):
        if bullet_items:
            lines.append(
                f"{title}:\n" + "\n".join(f"- {bullet_text}" for bullet_text in bullet_items)
            )
    if result["size"] == "small":
        lines.append(NO_GPU_NOTE)
    return "\n".join(lines)


def has_unused_gpu() -> bool:
    """Check whether this machine has an NVIDIA driver although torch finds no GPU."""
    return not torch.cuda.is_available() and shutil.which("nvidia-smi") is not None


def run_bench(
    host: Host | None,
    start_s: float,  # of time.monotonic
    args: argparse.Namespace,
    left_out_parts: list[str],  # by the first look
) -> int:
    """Run the benchmark parts that the command line selects, and return the exit code."""
    if not args.small and has_unused_gpu():
        sys.exit(
            "bench gpu: there is an NVIDIA card that torch doesn't see. Install a torch with CUDA "
            "(EGOX_TORCH_INDEX is its index), or a newer driver. (--small runs without it.)"
        )
    minutes_left = OVERRUN * args.minutes - (time.monotonic() - start_s) / 60
    # Whatever still computes in a library then: all rows are on disk.
    faulthandler.dump_traceback_later(max(1.0, 60 * minutes_left), exit=True)
    memory_text = ""
    if host is not None and (not args.only or args.only.startswith(("host", "demo"))):
        from benchmarks.support.gpu_host import start_host  # noqa: PLC0415

        memory_text = start_host()  # before anything asks the driver
    has_cuda_gpu = torch.cuda.is_available()
    size = "14b" if has_cuda_gpu and not args.small else "small"
    if size == "small":
        torch.set_num_threads(1)  # work this small is only held up by a second thread
    # By number, since not all of torch takes it without.
    device = (
        torch.device("cuda", torch.cuda.current_device()) if has_cuda_gpu else torch.device("cpu")
    )
    is_saving = args.save or size == "14b" or args.out is not None
    package_names = [name for name in ("triton", "diffusers") if find_spec(name)]
    facts = {
        **versions(),
        "CUDA": torch.version.cuda or "none",
        **{name: metadata.version(name) for name in package_names},
        "ComfyUI": f"{host.version_text} ({memory_text})" if host and memory_text else "none",
        "system": machine()["system"],
    }
    report = Report(not_run={} if host else {"host": "ComfyUI is not installed"})
    running_part, later_parts = "device", ["what the device is"]

    def print_line(text: str) -> None:
        if not args.json:
            print(text, file=sys.stderr, flush=True)

    def current_result() -> dict[str, Any]:
        rows = [{"part": part_name, **row.as_dict()} for part_name, row in report.rows]
        return {
            "name": report.card.get("name", "a CPU"),
            "size": size,
            "facts": facts,
            "left_out": left_out_parts,
            "rows": rows,
            "running": running_part,
            "to_come": later_parts,
            "not_run": report.not_run,
            "part_seconds": report.seconds,
            "seconds": round(time.monotonic() - start_s, 1),
            "passed": bool(rows) and all(row["held"] is not False for row in rows),
        }

    def write() -> None:
        if is_saving:
            write_result(args.out, current_result())

    def keep(row: Row) -> None:
        print_line(row_line(row.as_dict()))
        write()

    report.keep = keep
    try:
        report.run("device", lambda: [gpu_card.device_row(device)])
        part_functions = list_parts(size, device, report.card, bool(memory_text))
        later_parts = [part_name for part_name in part_functions if part_name.startswith(args.only)]
        while later_parts:
            running_part, *later_parts = later_parts
            seconds_left = 60 * args.minutes - (time.monotonic() - start_s)
            if seconds_left < min(LEAST_S, 30 * args.minutes):
                report.not_run[running_part] = "the time was over"
                continue
            part_seconds = seconds_left * (1 if args.only else SHARE)
            print_line(f"... {running_part}, {part_seconds:.0f} s at most")
            write()
            report.run(running_part, part_functions[running_part], part_seconds)
    except KeyboardInterrupt:
        report.not_run |= dict.fromkeys([running_part, *later_parts], "ended by Ctrl-C")
    running_part, later_parts = "", []
    result = current_result()
    print(json.dumps(add_machine_facts("gpu", result), indent=1) if args.json else table(result))
    write()
    faulthandler.cancel_dump_traceback_later()
    return 0 if result["passed"] else 1


def _without_non_finite(value: Any) -> Any:
    """Replace NaN and infinite numbers by None, because JSON can't represent them."""
    if isinstance(value, dict):
        return {name: _without_non_finite(nested_value) for name, nested_value in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_non_finite(nested_value) for nested_value in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_result(out: Path | None, result: dict[str, Any]) -> None:
    """Write the result page and its JSON file atomically to a folder."""
    card_name = re.sub(r"[^a-z0-9]+", "_", result["name"].lower())
    name_suffix = "_small" if result["size"] == "small" else ""
    file = RESULTS / f"gpu_{card_name}{name_suffix}" if out is None else out / "gpu"
    write_json(file.with_suffix(".json"), add_machine_facts("gpu", _without_non_finite(result)))
    with atomic_write(file.with_suffix(".md")) as temporary_file:
        temporary_file.write_text(table(result) + "\n", "utf-8")
