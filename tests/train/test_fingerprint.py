"""Test that files of one size with other contents have other fingerprints."""

import numpy as np
import pytest

from egox_train.fingerprint import file_state


@pytest.mark.parametrize("form", ["depth.npy", "depth", "depth.zip"])
def test_changed_numbers_change_the_fingerprint(tmp_path, form):
    path = tmp_path / form
    file = path / "0.npy" if form == "depth" else path
    states = [file_state(path)]
    for value in (0.0, 0.0, 1.0):
        file.parent.mkdir(exist_ok=True)
        with file.open("wb") as stream:
            np.save(stream, np.full((2, 3), value))
        states.append(file_state(path))
    assert states[0] == 0 and states[1] == states[2]
    assert (states[2] != states[3]) is (form != "depth.zip")  # of packed files the size tells
