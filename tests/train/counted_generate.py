"""Count how often worker processes load the model."""

import os
import time

from egox_train.train import generate

LOAD_LOG_VARIABLE = "EGOX_TEST_LOADS"
original_load, original_generate_clip = generate.load_base, generate._generate_clip


def load_counted(*arguments):
    with open(os.environ[LOAD_LOG_VARIABLE], "a", encoding="utf-8") as load_log:
        load_log.write(f"{os.getpid()}\n")
    return original_load(*arguments)


def clip_counted(job, device: str) -> str:
    """Generate a clip in a worker process, and count the model loads."""
    result = original_generate_clip(job, device)
    while os.path.exists(os.environ[LOAD_LOG_VARIABLE] + ".hold"):
        time.sleep(0.05)
    return result


generate.load_base, generate._generate_clip = load_counted, clip_counted
