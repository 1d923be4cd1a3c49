"""Count how often worker processes load the model."""

import os
import time

from egox_train.train import generate

LOADS = "EGOX_TEST_LOADS"
load, generate_clip = generate.load_base, generate._generate_clip


def load_counted(*arguments):
    with open(os.environ[LOADS], "a", encoding="utf-8") as load_log:
        load_log.write(f"{os.getpid()}\n")
    return load(*arguments)


def clip_counted(job, device: str) -> str:
    """Generate a clip in a worker process, and count the model loads."""
    result = generate_clip(job, device)
    while os.path.exists(os.environ[LOADS] + ".hold"):
        time.sleep(0.05)
    return result


generate.load_base, generate._generate_clip = load_counted, clip_counted
