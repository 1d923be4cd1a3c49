"""A robot data set, read by the public form: what loaders and checkers let pass is held here."""

import multiprocessing
import os
import random
import re
import shutil
import subprocess
import time
import venv
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.robots import robot_set
from egox_core.robots.card import BEGIN
from egox_core.robots.episode import COLUMNS, HAND_COLUMNS, Episode, make_episodes
from egox_core.robots.robot_set import EPISODES, SetOptions, open_set
from egox_core.robots.videos import DEPTH_MAX_M, DEPTH_MIN_M
from egox_core.safe_files import read_json, write_json
from egox_core.types import KEPT_EARLIER, KEPT_NOW, REDRAWN, SEEN_KINDS
from tests.full_disk import files_up_to
from tests.refusals import refuses
from tools.setup.environment import venv_python

from .episodes import (
    BITS,
    EGO,
    EXO,
    FRAMES,
    episode,
    frames_in_order,
    number_of,
    numbered,
    rows_of,
    trajectory,
    with_maps,
)

pa = pytest.importorskip("pyarrow", reason="writes parquet")
SMALL = SetOptions(chunk_files=2, data_mb=0.2, video_mb=0.005)
"""Small files of a few episodes, two in a folder."""


def write(folder: Path, count: int, options: SetOptions = SMALL) -> None:
    """Continue a set up to so many runs, as a command that is started again does."""
    with open_set(folder, options) as robots:
        for number in range(len(robots), count):
            robots.append(episode(number))


def test_each_index_gives_the_frame_that_was_written_there(tmp_path):
    write(tmp_path, 7)
    assert len({*tmp_path.glob("videos/*/*/*.mp4")}) > 4, "several files and folders"
    episodes_written = [episode(number) for number in range(7)]
    for index, (row, pictures) in enumerate(frames_in_order(tmp_path)):
        number, frame = divmod(index, FRAMES)
        assert (row["index"], row["episode_index"]) == (index, number)
        assert set(row) == set(COLUMNS)
        for key, picture in pictures.items():
            assert number_of(picture) == index
            written = episodes_written[number].videos[key][1][frame].numpy()
            assert np.abs(picture.astype(float) - written).mean() < 3
        for key, values in episodes_written[number].columns.items():
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
        row_episode = episodes[row["episode_index"]]
        assert row_episode["dataset_from_index"] <= row["index"] < row_episode["dataset_to_index"]
        assert row_episode["tasks"] == [tasks[row["task_index"]]["task"]]
    stats = read_json(tmp_path / "meta/stats.json")
    assert set(stats) == set(info["features"])
    assert all(f"`{key}`" in card for key in stats if key.startswith(("obs", "egox", "action")))
    assert "ego_depth" not in card
    state = np.array([row["observation.state"] for row in frames])
    for name, reduce in {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}.items():
        expected = reduce(state, 0)
        if name == "std":  # of each episode at least the floor
            assert (np.array(stats["observation.state"][name]) >= np.minimum(expected, 0.02)).all()
            expected = np.maximum(expected, stats["observation.state"][name])
        np.testing.assert_allclose(stats["observation.state"][name], expected, atol=1e-6)


def without_hands(number: int) -> Episode:
    (first_episode,) = make_episodes(
        f"run {number}",
        "pour",
        numbered(EXO, 0, FRAMES),
        numbered(EGO, 0, FRAMES),
        trajectory(FRAMES, 10.0),
        None,
        fps=10,
    )
    return first_episode


def test_hands_are_in_all_episodes_or_in_none(tmp_path):
    """Runs without hands have neither state nor action, and a set of them goes on."""
    for number in range(2):
        with open_set(tmp_path / "none") as robots:
            robots.append(without_hands(number))
    info = read_json(tmp_path / "none/meta/info.json")
    assert info["total_episodes"] == 2 and not {*HAND_COLUMNS} & info["features"].keys()
    card = (tmp_path / "none/README.md").read_text("utf-8")
    assert "neither state nor action" in card and "human-hands" not in card.split(BEGIN)[0]
    write(tmp_path / "hands", 1)
    for folder, other in (("none", episode(5)), ("hands", without_hands(5))):
        with open_set(tmp_path / folder) as robots:
            with refuses("action.*hands in all episodes or in none"):
                robots.append(other)


@pytest.mark.parametrize("has_gap", [False, True])
def test_a_set_whose_unknown_hands_are_zeros_does_not_go_on(tmp_path, has_gap):
    """It was written before 1.3. Without a gap there is no difference."""
    first = episode(0)
    if not has_gap:
        columns = {**first.columns, "egox.hand_valid": np.ones((FRAMES, 2), bool)}
        first = replace(first, columns=columns)
    with open_set(tmp_path) as robots:
        robots.append(first)
    file = tmp_path / "meta/info.json"
    info = read_json(file)
    for key in ("observation.state", "action"):
        assert info["features"][key].pop("info")
    write_json(file, info)
    with open_set(tmp_path) as robots:
        if has_gap:
            with refuses("other action, observation.state than.*before 1.3 have zeros"):
                robots.append(episode(1))
        else:
            robots.append(episode(1))


def test_a_run_of_several_pieces_is_held_when_all_are_there(tmp_path):
    with open_set(tmp_path) as robots:
        for number in (1, 2):
            assert not robots.holds("run", "digest")
            robots.append(replace(episode(number), name=f"run_{number}of2", made_from="digest"))
        assert robots.holds("run", "of all", "digest")  # as a later version asks
        assert robots.holds("run", "digest") and robots.holds("run_1of2", "digest")
        with refuses("other files"):
            robots.holds("run", "another")


def assert_same(one: Path, two: Path) -> None:
    """Check that both folders have the same bytes, and of videos the same packets."""
    files = [{f.relative_to(root) for f in root.rglob("*") if f.is_file()} for root in (one, two)]
    assert files[0] == files[1]
    for file in sorted(files[0]):
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_depth_and_classes_come_back(tmp_path):
    with open_set(tmp_path) as robots:
        robots.append(with_maps(0))
        with refuses("ego_depth.*than the set's.*same kinds"):
            robots.append(episode(1))
    videos = with_maps(0).videos
    for row, pictures in frames_in_order(tmp_path):
        depth, classes = (
            videos[f"observation.images.{key}"][1][row["frame_index"], ..., 0].numpy()
            for key in ("ego_depth", "ego_seen")
        )
        known_mask = np.isfinite(depth)
        read = pictures["observation.images.ego_depth"]
        half_a_code = 1.65e-4 * (depth + 3.5)  # 1 mm at 2.6 m
        assert (np.abs(read - depth) <= half_a_code)[known_mask].all()
        assert (read[~known_mask] < 0.011).all()
        assert (
            np.abs(pictures["observation.images.ego_seen"][..., 0] - classes.astype(int)).max() < 2
        )


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


def edited(folder: Path, how: str) -> None:
    """Edit a set as the tools of LeRobot do: one row group, and sorted tasks as the index of
    pandas. ``delete`` drops our columns, ``add_feature`` and ``remove_feature`` change the
    features."""
    import pyarrow.parquet as pq

    info = read_json(folder / "meta/info.json")
    for file in (*folder.glob("data/*/*"), *folder.glob("meta/episodes/*/*")):
        table = pq.read_table(file)
        if how == "delete":
            our_words = ("egox/", "first_episode", "bytes")
            ours = [
                name
                for name in table.schema.names
                if name.startswith(our_words) or name.endswith(our_words)
            ]
            table = table.drop_columns(ours)
        if "task_index" in table.schema.names:
            turned = [info["total_tasks"] - 1 - each.as_py() for each in table["task_index"]]
            at = table.schema.get_field_index("task_index")
            table = table.set_column(at, "task_index", [turned])
        pq.write_table(table, file)
    file = folder / "meta/tasks.parquet"
    names = [row["task"] for row in reversed(pq.read_table(file).to_pylist())]
    pq.write_table(pa.table({"task_index": range(len(names)), "__index_level_0__": names}), file)
    if how == "add_feature":
        info["features"]["reward"] = {"dtype": "float32", "shape": [1], "names": None}
    if how == "remove_feature":
        del info["features"]["egox.path_deg"]
    write_json(folder / "meta/info.json", info)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("merge", ""),
        ("delete", ""),
        ("add_feature", "edited by another program: reward in it"),
        ("remove_feature", "edited by another program: no egox.path_deg in it"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_sets_that_lerobot_s_tools_wrote_go_on(tmp_path, how, message, count):
    """New rows go to new files, with the numbers that tasks have there, or the missing column is
    named."""
    write(tmp_path, count, SetOptions(made_by="a first model"))
    edited(tmp_path, how)
    if message:
        with refuses(message):
            write(tmp_path, 5)
        return
    for number in (3, 4):
        with open_set(tmp_path, SetOptions(made_by="another")) as robots:
            if how == "delete":
                with refuses(f"no egox/name of {count} episodes.*'run 3'"):
                    robots.holds("run 3", "")
            robots.append(episode(number))
    runs = [*range(count), 3, 4]
    tasks = {
        row["task_index"]: [*row.values()][1] for row in rows_of(tmp_path, "meta/tasks.parquet")
    }
    for index, (row, pictures) in enumerate(frames_in_order(tmp_path)):
        run, frame = runs[index // FRAMES], index % FRAMES
        assert (row["index"], row["frame_index"]) == (index, frame)
        assert number_of(pictures["observation.images.ego"]) == run * FRAMES + frame
        assert tasks[row["task_index"]] == episode(run).task
    assert index == len(runs) * FRAMES - 1
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "by another" in card and ("by a first model" in card) == (how == "merge")


def test_the_owner_s_card_and_files_stay(tmp_path):
    """Ours is a marked part of the card. A folder that is no set keeps what it has."""
    card, note = tmp_path / "README.md", tmp_path / "notes.txt"
    card.write_text("# My own set", "utf-8")
    note.write_text("mine", "utf-8")
    write(tmp_path, 1)
    mine = card.read_text("utf-8").replace("# My own set", "# Kitchen, by me\r\n") + "\nThanks!\n"
    card.write_bytes(mine.encode() + b"\xff")
    write(tmp_path, 2)
    text = card.read_bytes()
    assert text.startswith(b"# Kitchen, by me\r\n") and text.endswith(b"\nThanks!\n\xff")
    assert text.count(b"2 episodes, 24 frames") == 1 and b"1 episodes" not in text
    assert note.read_text("utf-8") == "mine"
    (tmp_path / "meta/info.json").unlink()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with refuses("data/chunk-000/file-000.parquet in a folder that is no set"):
        write(tmp_path, 3)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_the_card_names_all_levels(tmp_path):
    with open_set(tmp_path, SetOptions(made_by="Wan")) as robots:
        robots.append(with_maps(0))
    card = (tmp_path / "README.md").read_text("utf-8")
    (row,) = (line for line in card.splitlines() if "images.ego_seen" in line)
    levels = {*SEEN_KINDS.values(), REDRAWN, KEPT_EARLIER, KEPT_NOW}
    assert levels == {int(number) for number in re.findall(r"\b\d+\b", row)}
    assert "0.01 to 10;" in card and DEPTH_MAX_M == 10 and DEPTH_MIN_M == 0.01
    assert card.startswith("---\n") and "by Wan" in card


def test_a_video_file_ends_where_readers_still_find_its_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(robot_set, "MOST_S", 3.0)
    monkeypatch.setattr("egox_core.robots.episode.MOST_S", 3.0)
    runs = [episode(0), episode(1), episode(2), episode(3, 40), episode(12)]
    with open_set(tmp_path) as robots:
        for run in runs:
            robots.append(run)
    files = [row["videos/observation.images.ego/file_index"] for row in rows_of(tmp_path, EPISODES)]
    assert files == [0, 0, 1, 2, 3] and len({*tmp_path.glob("data/*/*")}) == 1
    assert ["file of its own" in run.fit.text() for run in runs] == [False] * 3 + [True, False]
    assert len(list(frames_in_order(tmp_path))) == 4 * FRAMES + 40


@pytest.mark.parametrize(
    ("rate", "count", "fps"), [(29.97, 600, 30), (23.976, 600, 24), (12.5, 20, 12), (29.97, 49, 0)]
)
def test_a_set_has_a_whole_rate(tmp_path, rate, count, fps):
    """A short clip is off by less than a quarter of a frame."""
    times_s = torch.arange(count).double() / rate
    with open_set(tmp_path) as robots:
        if fps:
            with refuses(f"{rate} frames a second.*whole rate.*--fps {fps} --resample"):
                robots.rate_for("clip", times_s)
        assert robots.rate_for("clip", times_s, resample=bool(fps)) == (fps or 30)


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
    """Each rename but the last may be the last one before a kill. A set then continues as if its
    writer had never stopped."""
    write(tmp_path / "undisturbed", 4)
    for count in (1, 2, 3):
        write(tmp_path / "before", count)
    for moved in (1, 3, 5):
        killed_set, left = tmp_path / f"after_{moved}", iter(range(moved))

        def killed(source, target, left=left, replace=os.replace) -> None:
            if Path(source).name.startswith("staged_") and next(left, None) is None:
                raise KeyboardInterrupt
            replace(source, target)

        shutil.copytree(tmp_path / "before", killed_set)
        with open_set(killed_set, SMALL) as robots, monkeypatch.context() as patched:
            patched.setattr(robot_set.os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                robots.append(episode(3))
        write(killed_set, 4)
        assert_same(tmp_path / "undisturbed", killed_set)


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
    """The sets are forty runs of three tasks, and runs of other rates."""
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
