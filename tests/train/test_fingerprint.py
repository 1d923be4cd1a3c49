"""Test that the fingerprint of a file changes with its contents although its size stays."""

import numpy as np
import pytest

from egox_train.fingerprint import file_state


@pytest.mark.parametrize("form", ["depth.npy", "depth", "depth.zip"])
def test_changed_numbers_change_the_fingerprint(tmp_path, form):
    array_path = tmp_path / form
    array_file = array_path / "0.npy" if form == "depth" else array_path
    file_states = [file_state(array_path)]
    for value in (0.0, 0.0, 1.0):
        array_file.parent.mkdir(exist_ok=True)
        with array_file.open("wb") as stream:
            np.save(stream, np.full((2, 3), value))
        file_states.append(file_state(array_path))
    assert file_states[0] == 0 and file_states[1] == file_states[2]
    assert (file_states[2] != file_states[3]) is (
        form != "depth.zip"
    )  # of packed files the size tells
