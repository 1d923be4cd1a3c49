"""``bench gpu``: the shipped workflow egox_demo on the host's real server."""

import tempfile
import time
from pathlib import Path

from benchmarks.support.gpu_row import Row
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir, read_models
from tools.setup.environment import this_environment
from tools.setup.server import Server

SECOND_BAR_S = 2.5


def demo_row(size: str, judged: bool) -> Row:
    """The first run, and one with another seed; small: with stand-in weights and few pixels."""
    from tools.setup.demo import DemoOptions, apply_options, of_type, use_standins  # needs av

    environment = this_environment()
    prompt, repo = read_prompt("egox_demo"), environment.layout.repo
    with tempfile.TemporaryDirectory() as root:
        base, arguments = make_base_dir(Path(root), environment.layout), ()
        (page := base.root / "page").mkdir()  # nobody looks at it, and its package may be missing
        (page / "index.html").write_text("")
        if size == "small":
            options = DemoOptions(frames=5, size=64, steps=1)
            prompt = use_standins(apply_options(prompt, options, None))
            arguments = read_models(repo / "models", base, "pack")
        arguments += ("--front-end-root", str(page))
        began = time.perf_counter()
        with Server(environment, base, base.root / "log", arguments=arguments) as server:
            up_s, seconds = time.perf_counter() - began, []
            for seed in (1, 2):
                for sampler in of_type(prompt, "EgoXWanSampler"):
                    sampler["seed"] = seed
                began = time.perf_counter()
                outcome = server.client.run(prompt, timeout=300.0)
                if outcome.status != "success":
                    raise RuntimeError(outcome.error_text)
                seconds.append(time.perf_counter() - began)
    return Row(
        what="egox_demo on the server",
        measured=f"first run {seconds[0]:.1f} s, second {seconds[1]:.2f} s (start {up_s:.1f} s)",
        bar=f"second <= {SECOND_BAR_S} s" if judged else "",
        held=seconds[1] <= SECOND_BAR_S if judged else None,
        numbers={"first_s": seconds[0], "second_s": seconds[1], "start_s": up_s},
    )
