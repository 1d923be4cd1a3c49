"""A robot data set, read by the public form: what loaders and checkers let pass is held here."""

import multiprocessing
import os
import random
import shutil
import subprocess
import time
import venv
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.robots import robot_set
from egox_core.robots.episode import COLUMNS
from egox_core.robots.robot_set import SetOptions, open_set
from egox_core.safe_files import read_json
from tests.full_disk import files_up_to
from tests.refusals import refuses
from tools.setup.environment import venv_python

from .episodes import BITS, FRAMES, episode, frames_in_order, number_of, rows_of, with_maps

pytest.importorskip("pyarrow", reason="writes parquet")
SMALL = SetOptions(chunk_files=2, data_mb=0.2, video_mb=0.005)
"""Small files of a few episodes, two in a folder."""


def write(folder: Path, count: int, options: SetOptions = SMALL) -> None:
    """Go on with a set up to so many runs, as a command that is started again does."""
    with open_set(folder, options) as robots:
        for number in range(len(robots), count):
            robots.append(episode(number))


def test_each_index_gives_the_frame_that_was_written_there(tmp_path):
    write(tmp_path, 7)
    assert len({*tmp_path.glob("videos/*/*/*.mp4")}) > 4, "several files and folders"
    whole = [episode(number) for number in range(7)]
    for index, (row, pictures) in enumerate(frames_in_order(tmp_path)):
        number, frame = divmod(index, FRAMES)
        assert (row["index"], row["episode_index"]) == (index, number)
        assert set(row) == set(COLUMNS)
        for key, picture in pictures.items():
            assert number_of(picture) == index
            written = whole[number].videos[key][1][frame].numpy()
            assert np.abs(picture.astype(float) - written).mean() < 3
        for key, values in whole[number].columns.items():
            np.testing.assert_allclose(row[key], values[frame], atol=1e-6, equal_nan=False)
    assert index == 7 * FRAMES - 1


def test_info_tasks_and_statistics_are_of_what_is_there(tmp_path):
    import pyarrow.parquet as pq

    write(tmp_path, 4)
    info, frames = read_json(tmp_path / "meta/info.json"), rows_of(tmp_path, "data")
    assert info["total_frames"] == len(frames) and info["splits"] == {"train": "0:4"}
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet").to_pylist()
    assert [each["task_index"] for each in tasks] == [0, 1, 2]
    episodes, card = rows_of(tmp_path, "meta/episodes"), (tmp_path / "README.md").read_text("utf-8")
    for row in frames:
        own = episodes[row["episode_index"]]
        assert own["dataset_from_index"] <= row["index"] < own["dataset_to_index"]
        assert own["tasks"] == [tasks[row["task_index"]]["task"]]
    found = read_json(tmp_path / "meta/stats.json")
    assert set(found) == set(info["features"])
    assert all(f"`{key}`" in card for key in found if key.startswith(("obs", "egox", "action")))
    assert "ego_depth" not in card
    state = np.array([row["observation.state"] for row in frames])
    left = state[[row["egox.hand_valid"][0] for row in frames], :24]
    for name, of in {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}.items():
        np.testing.assert_allclose(found["observation.state"][name][:24], of(left, 0), atol=1e-6)


def assert_same(one: Path, two: Path) -> None:
    """The same bytes, of videos the same packets."""
    files = [{f.relative_to(root) for f in root.rglob("*") if f.is_file()} for root in (one, two)]
    assert files[0] == files[1]
    for file in sorted(files[0]):
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_depth_and_classes_come_back(tmp_path):
    with open_set(tmp_path) as robots:
        robots.append(with_maps(0))
        with refuses("ego_depth.*same kinds"):
            robots.append(episode(1))
    own = with_maps(0).videos
    for row, pictures in frames_in_order(tmp_path):
        depth, seen = (
            own[f"observation.images.{key}"][1][row["frame_index"], ..., 0].numpy()
            for key in ("ego_depth", "ego_seen")
        )
        known = np.isfinite(depth)
        read = pictures["observation.images.ego_depth"]
        half_a_code = 1.65e-4 * (depth + 3.5)  # 1 mm at 2.6 m
        assert (np.abs(read - depth) <= half_a_code)[known].all()
        assert (read[~known] < 0.011).all()
        assert np.abs(pictures["observation.images.ego_seen"][..., 0] - seen.astype(int)).max() < 2


def test_what_does_not_belong_is_refused(tmp_path):
    write(tmp_path, 1)
    with open_set(tmp_path) as robots:
        with refuses("run 0.*new one"):
            robots.append(episode(0))
        with refuses("other .*rate"):
            robots.append(episode(1, fps=20, source_fps=20.0))
        with refuses("other files"):
            robots.holds("run 0", "other files")
        with refuses("another process.*one writer"):
            write(tmp_path, 3)
        with refuses("8 frames.*resample"):
            episode(2, source_fps=8.0)
        assert robots.rate_for("x", torch.arange(9) / 8, resample=True) == 10
    (tmp_path / "meta/info.json").write_text('{"codebase_version": "v2.1"}', "utf-8")
    with refuses("another program.*v3.0"):
        write(tmp_path, 2)


def test_a_cancelled_or_failed_episode_leaves_the_set_as_it_was(tmp_path):
    write(tmp_path / "set", 2)
    shutil.copytree(tmp_path / "set", tmp_path / "before")

    def cancel(count: int, total: int, stage: str) -> None:
        raise KeyboardInterrupt

    with open_set(tmp_path / "set") as robots, pytest.raises(KeyboardInterrupt):
        robots.append(episode(2), cancel)
    assert_same(tmp_path / "before", tmp_path / "set")
    large = max(file.stat().st_size for file in (tmp_path / "set").rglob("*.*"))
    with open_set(tmp_path / "set") as robots, pytest.raises(OSError), files_up_to(large):
        robots.append(episode(2))
    assert_same(tmp_path / "before", tmp_path / "set")


def test_files_put_in_place_before_a_kill_are_cut_off(tmp_path, monkeypatch):
    """Each rename but the last may be the last that a killed process made; and a set goes on as if
    its writer had never stopped."""
    write(tmp_path / "undisturbed", 4)
    for count in (1, 2, 3):
        write(tmp_path / "before", count)
    for moved in (1, 3, 5):
        own, left = tmp_path / f"after_{moved}", iter(range(moved))

        def killed(source, target, left=left, replace=os.replace) -> None:
            if Path(source).name.startswith("staged_") and next(left, None) is None:
                raise KeyboardInterrupt
            replace(source, target)

        shutil.copytree(tmp_path / "before", own)
        with open_set(own, SMALL) as robots, monkeypatch.context() as patched:
            patched.setattr(robot_set.os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                robots.append(episode(3))
        write(own, 4)
        assert_same(tmp_path / "undisturbed", own)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_ten_kills_leave_a_set_that_loads_and_goes_on(tmp_path):
    write(tmp_path / "undisturbed", 40)
    random.seed(0)
    for _ in range(10):
        writer = multiprocessing.get_context("fork").Process(
            target=write, args=(tmp_path / "set", 40)
        )
        writer.start()
        time.sleep(random.uniform(0.3, 2.0))
        writer.kill()
        writer.join()
        if (tmp_path / "set" / "meta" / "info.json").is_file():
            total = read_json(tmp_path / "set" / "meta" / "info.json")["total_frames"]
            for index, (row, pictures) in enumerate(
                islice(frames_in_order(tmp_path / "set"), total)
            ):
                assert row["index"] == index
                assert number_of(pictures["observation.images.ego"]) == index % 2**BITS
            assert index == total - 1
    write(tmp_path / "set", 40)
    assert_same(tmp_path / "undisturbed", tmp_path / "set")


LOADS = """
import sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
episodes = LeRobotDataset("egox", root=sys.argv[1], video_backend="pyav")
for index in range(len(episodes)):
    frame = episodes[index]
    cells = frame["observation.images.ego"][0, 4, 4::8]
    number = sum(int(cell > 0.5) << bit for bit, cell in enumerate(cells))
    assert int(frame["index"]) == index and number == index % 256
"""


@pytest.mark.slow
@pytest.mark.parametrize("package", ["lerobot-doctor", "lerobot"])
def test_checkers_and_loaders_of_others_take_it(tmp_path, package):
    """Forty runs of three tasks; and a set of runs of other rates."""
    write(tmp_path / "even", 40, SetOptions())
    with open_set(tmp_path / "resampled") as robots:
        for number, rate in enumerate((10.0, 24.0, 8.0, 24.0)):
            robots.append(episode(number, count=40, source_fps=rate, resample=True))
    venv.create(tmp_path / "venv", with_pip=True)
    python = venv_python(tmp_path / "venv")
    try:
        words = [python, "-m", "pip", "install", "--quiet", package]
        installed = subprocess.run(words, timeout=480).returncode == 0
    except subprocess.TimeoutExpired:
        installed = False
    if not installed:
        pytest.skip(f"{package} doesn't resolve here within eight minutes")
    if package == "lerobot":
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        subprocess.run([python, "-c", LOADS, tmp_path / "even"], check=True, env=offline)
        return
    for name in ("even", "resampled"):
        subprocess.run([python, "-m", "lerobot_doctor.cli", "check", tmp_path / name], check=True)
