"""Measure what a preview costs on a CPU: from depth and path on, and from the video on."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import psutil  # which ComfyUI needs

from egox_core.file_names import EXO
from tools.rigs.moge_file import write_moge_standin
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir
from tools.setup.demo import LOAD, PRIOR, inputs_by_type, run_prompt
from tools.setup.environment import this_environment
from tools.setup.server import Server

MOGE, POSES = "EgoXMoGeVideo", "EgoXEgoPoseInput"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
POLL_S = 0.2
READY = "ready"
CHILD = f"""import sys
import torch
from egox_train.cli.preview import main
print("{READY}", flush=True)
sys.stdin.readline()
code = main(sys.argv[1:])
print("{READY}", flush=True)
sys.stdin.readline()
raise SystemExit(code)
"""


@contextmanager
def measured(process_id: int, result: dict[str, float]) -> Iterator[None]:
    """Write the CPU seconds of a process, and its memory beyond that at the start, to a dict."""
    process, is_over = psutil.Process(process_id), threading.Event()
    first_bytes = most_bytes = process.memory_info().rss
    first_s = sum(process.cpu_times()[:2])

    def watch() -> None:
        nonlocal most_bytes
        while not is_over.wait(POLL_S):
            most_bytes = max(most_bytes, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    result["cpu_s"] = sum(process.cpu_times()[:2]) - first_s
    result["beyond_gb"] = (most_bytes - first_bytes) / 1e9
    result["peak_gb"] = most_bytes / 1e9


def cost_of_take(take: Path) -> dict[str, float]:
    """Run ``run.py preview`` with a take's depth and path, to its saved videos."""
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, "--take", str(take), "--out", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        assert process.stdin and process.stdout
        assert process.stdout.readline().strip() == READY
        with measured(process.pid, result):
            process.stdin.write("\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.strip() == READY:
                    break
                print(line, end="", file=sys.stderr)
        process.communicate("\n")
    if process.returncode:
        raise SystemExit(process.returncode)
    return result


def cost_of_video(video: Path) -> dict[str, float]:
    """Run egox_preview on ComfyUI with a stand-in for MoGe-2 ViT-S, and the example's head."""
    environment, result = this_environment(), dict[str, float]()
    prompt = read_prompt("egox_preview")
    inputs_by_type(prompt, LOAD)[0]["file"] = f"cost/{EXO}"
    pose_inputs = inputs_by_type(prompt, POSES)[0]
    keyframes = json.loads(pose_inputs["keyframes"])
    keyframes.pop("made_on", None)  # the example's head, in a video that it wasn't made on
    pose_inputs["keyframes"] = json.dumps(keyframes)
    inputs_by_type(prompt, PRIOR)[0]["draw_anyway"] = True  # it need not see the drawn floor
    with tempfile.TemporaryDirectory() as root:
        base = make_base_dir(Path(root), environment.layout)
        (base.root / "index.html").write_text("")  # no page: its package may be missing
        (base.input / "cost").mkdir(parents=True)
        shutil.copyfile(video, base.input / "cost" / EXO)
        moge_file = inputs_by_type(prompt, MOGE)[0]["model_name"]
        write_moge_standin(base.models / "geometry_estimation" / moge_file)
        server = Server(environment, base, base.root / "log", arguments=("--front-end-root", root))
        server.variables = {**server.variables, **ONE_THREAD}
        with redirect_stdout(sys.stderr), server:
            with measured(server.process.pid, result):
                run_prompt(server, prompt)
    return result


def cost_text(costs: dict[str, dict[str, float]]) -> str:
    return "\n".join(
        f"{name}: {json.dumps({key: round(value, 2) for key, value in cost.items()})}"
        for name, cost in costs.items()
    )
