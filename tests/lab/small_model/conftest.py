"""Drawn clips for the tests of the small model's training."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.small_model.clips import make_clips
from tests.lab.small_model.tiny import TINY


class HerePool:
    """Draws at once, in this process: starting another one costs more than the clips."""

    def __init__(self, workers: int, **_: Any) -> None:
        self.workers = workers

    def __enter__(self) -> "HerePool":
        return self

    def __exit__(self, *_: object) -> None:
        """No process to wait for."""

    def submit(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        future: Future[None] = Future()
        future.set_result(function(*arguments))
        return future


@contextmanager
def drawn_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as change:
        change.setattr("lab.small_model.clips.ProcessPoolExecutor", HerePool)
        yield


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A shard of training clips and one of validation."""
    folder = tmp_path_factory.mktemp("clips")
    with drawn_here():
        for split, count in (("train", 3), ("validation", 2)):
            assert make_clips(folder, split, count, TINY)
    return folder
