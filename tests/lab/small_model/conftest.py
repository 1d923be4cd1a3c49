"""Drawn clips for the tests of the small model's training."""

from pathlib import Path

import pytest

from lab.small_model.clips import make_clips
from tests.lab.small_model.tiny import TINY


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A shard of training clips and one of validation."""
    folder = tmp_path_factory.mktemp("clips")
    for split, count in (("train", 3), ("validation", 2)):
        assert make_clips(folder, split, count, TINY)
    return folder
