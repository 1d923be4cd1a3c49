"""Hours of use in one server: is anything held, left behind, or drawn otherwise than before?

    python3 run.py bench soak [--minutes 60] [--seed N] [--save]

For whoever changes what lives longer than a run: caches, stores, routes. Two clients at once send
random graphs of the demo's models on the real server (valid, invalid, cancelled, two models in
turns), upload videos and unload models. Equal graphs must end in equal latents. Asked: memory of
the last sixth at most 3 % over that of the second sixth, no more threads or open files at the end
than after warming up, no file left, no error that isn't ours.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.torch import load_file, save_file

from benchmarks.support.record import bench_parser, finish
from egox_core.wan.weights import file_metadata
from tools.setup.api_client import Event, Outcome, PromptRefused, read_prompt
from tools.setup.base_dir import make_base_dir
from tools.setup.demo import DemoOptions, apply_options
from tools.setup.environment import Environment
from tools.setup.host import find_host
from tools.setup.layout import REPO_ROOT, Layout
from tools.setup.server import Server

OTHER_MODEL = "soak_other.safetensors"
CHOICES = (
    ("EgoXWanSampler", {"seed": (1, 2), "lambda_g": (0.0, 3.0), "recompute_exo": (1, 2),
                        "sampler": ("released", "euler")}),
    ("EgoXLoadLora", {"strength": (0.0, 1.0)}),
    ("UNETLoader", {"unet_name": ("egox_demo_wan22_i2v.safetensors", OTHER_MODEL)}),
)
INVALID = (
    ("EgoXLoadExoVideo", {"file": "sample/nobody.mp4"}), ("EgoXDecodeEgoHalf", {"pinhole_fov": 900}),
    ("EgoXWanSampler", {"lambda_g": -3.0}), ("EgoXWanSampler", {"steps": 0}),
    ("EgoXEgoPoseInput", {"file": "../meta.json"}), ("EgoXDepthAlign", {"depth_file": "none.npz"}),
)
"""Node, input, value that must be refused, by the host's check or in our words. A constant where a
socket is gets past the host's check and is not tried."""


def inputs_of(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(node["inputs"] for node in prompt.values() if node["class_type"] == kind)


class Soak:
    """Deeds of both clients, and the account of them."""

    def __init__(self, server: Server, seed: int) -> None:
        self.base, self.seed, self.client = server.base.root, seed, server.client
        self.until, self.counts, self.latents = 0.0, Counter[str](), dict[str, str]()
        self.faults: list[str] = []

    def work(self, number: int) -> None:
        """Random things until the time is over; anything unforeseen is a fault."""
        draw = random.Random(f"{self.seed} {number}")
        deeds = [*[self.valid] * 3, self.invalid, self.cancelled, self.upload, self.free]
        while time.monotonic() < self.until:
            deed = draw.choice(deeds)
            self.counts[deed.__name__] += 1
            try:
                deed(draw)
            except (OSError, RuntimeError, LookupError, ValueError) as error:
                self.faults.append(f"{deed.__name__}: {type(error).__name__}: {error}")

    def graph(self, draw: random.Random) -> tuple[str, dict[str, Any]]:
        """One of some hundred graphs, and its name."""
        options = DemoOptions(frames=draw.choice((5, 9)), size=64, steps=draw.choice((2, 4)))
        prompt = apply_options(read_prompt("egox_demo"), options, None)
        name = f"{options.frames} {options.steps}"
        for kind, choices in CHOICES:
            chosen = {key: draw.choice(values) for key, values in choices.items()}
            inputs_of(prompt, kind).update(chosen)
            name += f" {chosen}"
        sampler = next(k for k, n in prompt.items() if n["class_type"] == "EgoXWanSampler")
        place = {"samples": [sampler, 0], "filename_prefix": f"soak/{draw.getrandbits(64):x}"}
        prompt["soak"] = {"class_type": "SaveLatent", "inputs": place}
        return name, prompt

    def run(self, prompt: dict[str, Any], on_event: Callable[[Event], None] | None = None) -> Outcome:
        """Run ``prompt`` and drop its entry in the host's history, 18 kB that it would keep."""
        outcome = self.client.run(prompt, on_event, timeout=900)
        self.client.post("/history", {"delete": [outcome.prompt_id]})
        # The host looks whether the prompt to cancel runs, then interrupts what runs by then.
        self.counts["hit by the other's cancel"] += outcome.status == "interrupted" and not on_event
        return outcome

    def valid(self, draw: random.Random) -> None:
        name, prompt = self.graph(draw)
        outcome = self.run(prompt)
        if outcome.status == "interrupted":
            return
        if outcome.status != "success":
            raise RuntimeError(outcome.error_text)
        (file,) = (self.base / "output").glob(prompt["soak"]["inputs"]["filename_prefix"] + "*")
        digest = hashlib.sha256(load_file(file)["latent_tensor"].numpy().tobytes()).hexdigest()
        self.counts["compared"] += name in self.latents
        if self.latents.setdefault(name, digest) != digest:
            raise ValueError(f"another latent than before: {name}")

    def invalid(self, draw: random.Random) -> None:
        prompt = self.graph(draw)[1]
        kind, values = draw.choice(INVALID)
        inputs_of(prompt, kind).update(values)
        try:
            outcome = self.run(prompt)
        except PromptRefused:
            return
        kind_of_error = str((outcome.error or {}).get("exception_type"))
        if outcome.status != "interrupted" and "EgoXInputError" not in kind_of_error:
            raise RuntimeError(f"{kind} {values}: {outcome.status} {outcome.error_text}")

    def cancelled(self, draw: random.Random) -> None:
        _, prompt = self.graph(draw)
        left = iter(range(draw.randrange(1, 12)))

        def on_event(event: Event) -> None:
            if "prompt_id" in event[1] and next(left, None) is None:
                self.client.interrupt(event[1]["prompt_id"])

        outcome = self.run(prompt, on_event)
        if outcome.status == "error":
            raise RuntimeError(outcome.error_text)

    def upload(self, draw: random.Random) -> None:
        """A video of the sample, or a third of one, which must be refused."""
        content = (REPO_ROOT / "sample" / "calm_room" / "exo.mp4").read_bytes()
        whole = draw.random() < 0.5
        head = '--edge\r\nContent-Disposition: form-data; name="f"; filename="exo.mp4"\r\n\r\n'
        body = head.encode() + content[: None if whole else len(content) // 3] + b"\r\n--edge--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=edge", "Origin": self.client.address}
        request = urllib.request.Request(f"{self.client.address}/egox/upload", body, kind)
        try:
            urllib.request.urlopen(request, timeout=120).read()
        except urllib.error.HTTPError as error:
            if whole or error.code != 400:
                raise

    def free(self, draw: random.Random) -> None:
        self.client.post("/free", {"unload_models": True, "free_memory": draw.random() < 0.5})


def figures(process: psutil.Process, base: Path) -> dict[str, float]:
    """The server's memory in MB, threads, open files, and the pack's temporary folders now."""
    left = [*Path(tempfile.gettempdir()).glob("egox_*"), *(base / "input" / "egox").glob(".*")]
    return {"mb": process.memory_info().rss / 2**20, "threads": process.num_threads(),
            "files": len(process.open_files()), "left": len(left)}


def measure(minutes: float, seed: int, root: Path) -> dict[str, Any]:
    """The server's figures, five seconds apart, and what the clients counted."""
    base = make_base_dir(root, Layout())
    demo = REPO_ROOT / "models/demo/diffusion_models/egox_demo_wan22_i2v.safetensors"
    weights = load_file(demo)
    weights["patch_embedding.weight"] = weights["patch_embedding.weight"] * 0.9
    (folder := base.models / "diffusion_models").mkdir()
    save_file(weights, folder / OTHER_MODEL, file_metadata(demo, "the demo's model"))
    environment = Environment(find_host(), Path(sys.executable), Layout())
    with Server(environment, base, root / "server.log") as server:
        soak, process = Soak(server, seed), psutil.Process(server.process.pid)
        seen = [figures(process, root)]
        soak.until = time.monotonic() + 60 * minutes
        workers = [threading.Thread(target=soak.work, args=(n,), daemon=True) for n in (0, 1)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(5)
            seen.append(figures(process, root))
        time.sleep(30)
        last = figures(process, root)
    part = max(1, len(seen) // 6)
    early, late = (np.median([f["mb"] for f in fs]) for fs in (seen[part : 2 * part], seen[-part:]))
    warm = {k: max(f[k] for f in seen[: 2 * part]) for k in ("threads", "files")}
    warm["left"] = seen[0]["left"]
    passed = late <= early * 1.03 and all(last[k] <= warm[k] for k in warm)
    return {"minutes": minutes, "seed": seed, "counts": dict(soak.counts), "faults": soak.faults,
            "early_mb": early, "late_mb": late, "warm": warm, "last": last, "passed": bool(passed and not soak.faults)}


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak_") as root:
        result = measure(args.minutes, args.seed, Path(root))
    return finish("soak", result, args, json.dumps(result, indent=1), result["passed"])


if __name__ == "__main__":
    raise SystemExit(main())
