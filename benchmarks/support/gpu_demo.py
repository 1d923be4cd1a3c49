"""Benchmark the shipped workflow egox_demo on a real ComfyUI server, for ``bench gpu``."""

import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from benchmarks.support.gpu_row import Row, judged_row
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir
from tools.setup.environment import this_environment
from tools.setup.server import Server

SECOND_BAR_S = 2.5


def demo_row(size: str, judged: bool) -> Row:
    """Measure the time of the demo workflow's first run and of a second run with another seed."""
    from tools.setup.demo import DemoOptions, apply_options, inputs_by_type, run_prompt

    environment, run_seconds = this_environment(), []
    small_options = DemoOptions(frames=5, size=64, steps=1)
    prompt = apply_options(
        read_prompt("egox_demo"), small_options if size == "small" else DemoOptions(), None
    )
    with tempfile.TemporaryDirectory() as root:
        base_folder = make_base_dir(Path(root), environment.layout)
        (base_folder.root / "index.html").write_text("")  # no page: its package may be missing
        front_end_arguments = ("--front-end-root", root)
        # The nodes' names as they run: a bench's own output is its result.
        with (
            redirect_stdout(sys.stderr),
            Server(
                environment, base_folder, base_folder.root / "log", arguments=front_end_arguments
            ) as server,
        ):
            for seed in (1, 2):
                inputs_by_type(prompt, "EgoXWanSampler")[0]["seed"] = seed
                start_time_s = time.perf_counter()
                run_prompt(server, prompt)
                run_seconds.append(time.perf_counter() - start_time_s)
    return judged_row(
        "egox_demo on the server",
        "first run {:.1f} s, second {:.2f} s".format(*run_seconds),
        {f"second <= {SECOND_BAR_S} s": run_seconds[1] <= SECOND_BAR_S},
        is_judged=judged,
        seconds=run_seconds,
    )
