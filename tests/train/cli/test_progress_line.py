"""Test the progress line on the console."""

import pytest

from egox_train.cli.progress_line import ProgressLine


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr("egox_train.cli.progress_line.time.monotonic", lambda: seconds[0])
    return seconds


def test_console_shows_one_line_per_task(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress_line = ProgressLine()
    for finished_count in range(1, 5):
        clock[0] += 10.0
        progress_line(finished_count, 4, "first")
    progress_line(1, 4, "second")  # as many steps: it stepped back
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and printed.count("\r") == 5
    assert "[2/4] first, 0:00:10 left" in printed and "[4/4] first in 0:00:30" in printed
    assert printed.endswith(f"\r{'[1/4] second, 0:00:00 left':<100}")


def test_resumed_run_estimates_time_from_its_own_steps(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress_line = ProgressLine()
    progress_line(901, 1000, "steps")
    clock[0] += 1.0
    progress_line(902, 1000, "steps")
    assert "[902/1000] steps, 0:00:49 left" in capsys.readouterr().err
