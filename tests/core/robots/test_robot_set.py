"""Test robot data sets: frames by index, continuation, other tools' edits, and interrupted
writing."""

import os
import shutil
import subprocess
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.robots import robot_set
from egox_core.robots.card import BEGIN
from egox_core.robots.episode import COLUMNS, HAND_COLUMNS, Episode, make_episodes
from egox_core.robots.robot_set import EPISODES, SetOptions, open_set
from egox_core.safe_files import read_json, write_json
from tests.full_disk import limit_file_size
from tests.paths import read_folder_files
from tests.refusals import refuses
from tools.setup.environment import venv_python

from .episodes import (
    EGO_SIZE,
    EXO_SIZE,
    FRAMES,
    draw_numbered,
    frames_in_order,
    make_episode,
    make_episode_with_maps,
    read_number,
    read_rows,
    walking_path,
)

pa = pytest.importorskip("pyarrow", reason="writes parquet")
SMALL_FILES = SetOptions(chunk_files=2, data_mb=0.2, video_mb=0.005)
"""Options for files of a few episodes, with two files in a folder."""


def write_episodes(folder: Path, count: int, options: SetOptions = SMALL_FILES) -> None:
    """Add episodes to a data set up to a given number, as a restarted command does."""
    with open_set(folder, options) as robot_data:
        for number in range(len(robot_data), count):
            robot_data.append(make_episode(number))


def test_each_index_gives_the_frame_that_was_written_there(tmp_path):
    write_episodes(tmp_path, 7)
    assert len({*tmp_path.glob("videos/*/*/*.mp4")}) > 4, "several files and folders"
    episodes_written = [make_episode(episode_number) for episode_number in range(7)]
    for index, (row, pictures) in enumerate(frames_in_order(tmp_path)):
        episode_number, frame = divmod(index, FRAMES)
        assert (row["index"], row["episode_index"]) == (index, episode_number)
        assert set(row) == set(COLUMNS)
        for key, picture in pictures.items():
            assert read_number(picture) == index
            expected_picture = episodes_written[episode_number].videos[key][1][frame].numpy()
            assert np.abs(picture.astype(float) - expected_picture).mean() < 3
        for key, values in episodes_written[episode_number].columns.items():
            np.testing.assert_allclose(row[key], values[frame], atol=1e-6, equal_nan=False)
    assert index == 7 * FRAMES - 1


def test_info_tasks_and_statistics_agree_with_the_frames(tmp_path):
    import pyarrow.parquet as pq

    write_episodes(tmp_path, 4)
    info = read_json(tmp_path / "meta/info.json")
    frame_rows = read_rows(tmp_path, "data")
    assert info["total_frames"] == len(frame_rows)
    assert info["splits"] == {"train": "0:4"}
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet").to_pylist()
    assert [task_row["task_index"] for task_row in tasks] == [0, 1, 2]
    episodes = read_rows(tmp_path, "meta/episodes")
    card_text = (tmp_path / "README.md").read_text("utf-8")
    for row in frame_rows:
        row_episode = episodes[row["episode_index"]]
        assert row_episode["dataset_from_index"] <= row["index"] < row_episode["dataset_to_index"]
        assert row_episode["tasks"] == [tasks[row["task_index"]]["task"]]
    set_statistics = read_json(tmp_path / "meta/stats.json")
    assert set(set_statistics) == set(info["features"])
    assert all(
        f"`{key}`" in card_text
        for key in set_statistics
        if key.startswith(("obs", "egox", "action"))
    )
    assert "ego_depth" not in card_text
    statistics = set_statistics["observation.state"]
    state_rows = np.array([row["observation.state"] for row in frame_rows])
    for name in ("min", "max", "mean"):
        np.testing.assert_allclose(statistics[name], getattr(state_rows, name)(0), atol=1e-6)
    assert (np.array(statistics["std"]) >= state_rows.std(0) - 1e-6).all(), "or an episode's floor"


def episode_without_hands(number: int) -> Episode:
    (first_episode,) = make_episodes(
        f"run {number}",
        "pour",
        draw_numbered(EXO_SIZE, 0, FRAMES),
        draw_numbered(EGO_SIZE, 0, FRAMES),
        walking_path(FRAMES, 10.0),
        None,
        fps=10,
    )
    return first_episode


def test_hands_are_in_all_episodes_or_in_none(tmp_path):
    """Check that episodes with and without hands aren't mixed in one data set."""
    for number in range(2):
        with open_set(tmp_path / "none") as robot_data:
            robot_data.append(episode_without_hands(number))
    info = read_json(tmp_path / "none/meta/info.json")
    assert info["total_episodes"] == 2
    assert not {*HAND_COLUMNS} & info["features"].keys()
    card_text = (tmp_path / "none/README.md").read_text("utf-8")
    assert (
        "neither state nor action" in card_text and "human-hands" not in card_text.split(BEGIN)[0]
    )
    write_episodes(tmp_path / "hands", 1)
    for folder, other_episode in (("none", make_episode(5)), ("hands", episode_without_hands(5))):
        with open_set(tmp_path / folder) as robot_data:
            with refuses("hands, which the set ha.*in all episodes of a set or in none"):
                robot_data.append(other_episode)


@pytest.mark.parametrize("has_gap", [False, True])
def test_set_whose_unknown_hands_are_zeros_is_not_continued(tmp_path, has_gap):
    """Check that an old data set, in which unknown hands are stored as zeros, gets no new
    episodes."""
    first_episode = make_episode(0)
    if not has_gap:
        columns = {**first_episode.columns, "egox.hand_valid": np.ones((FRAMES, 2), bool)}
        first_episode = replace(first_episode, columns=columns)
    with open_set(tmp_path) as robot_data:
        robot_data.append(first_episode)
    info_file = tmp_path / "meta/info.json"
    info = read_json(info_file)
    for key in ("observation.state", "action"):
        assert info["features"][key].pop("info")
    write_json(info_file, info)
    with open_set(tmp_path) as robot_data:
        if has_gap:
            with refuses("other action, observation.state than.*before 1.3 have zeros"):
                robot_data.append(make_episode(1))
        else:
            robot_data.append(make_episode(1))


def test_set_of_1_3_goes_on_and_says_where_its_gaps_change(tmp_path):
    write_episodes(tmp_path, 2)
    info_file = tmp_path / "meta/info.json"
    info = read_json(info_file)
    for key in ("observation.state", "action"):
        info["features"][key]["info"] = {"egox.gaps": "bridged"}
    write_json(info_file, info)
    for count in (3, 4):
        write_episodes(tmp_path, count)
        for key in ("observation.state", "action"):
            assert read_json(info_file)["features"][key]["info"] == {
                "egox.gaps": "bridged in the world; before episode 2: last pose in the head's frame"
            }


def write_places(folder: Path, numbers: range) -> None:
    """Add episodes at places of their own, whose left hand is at rest in 99 % of the frames."""
    rng = np.random.default_rng(numbers.start)
    with open_set(folder, SetOptions(data_mb=0.01)) as robot_data:
        for number in numbers:
            run_episode = make_episode(number)
            state = run_episode.columns["observation.state"]
            place = number * 0.1 + rng.normal(0, 0.01, state.shape)
            place[:, :24] = 0.5
            place[: 1 if number == 0 else 0, :24] += 0.3
            place[:, 0] = 0.5
            place[:, -1] = np.repeat((-1.0, 0.0, 1.0), (2, 8, 2))
            place = place.astype(np.float32)
            columns = {**run_episode.columns, "observation.state": place, "action": place}
            robot_data.append(replace(run_episode, columns=columns))


@pytest.mark.parametrize("edit", ["none", "averaged", "delete"])
def test_quantiles_are_those_of_all_frames(tmp_path, edit):
    """Check the quantiles of six episodes at places of their own, also in a set that an older
    version averaged, and in one that LeRobot edited."""
    write_places(tmp_path, range(3))
    if edit == "averaged":
        write_json(tmp_path / "meta/stats.json", {})
    elif edit != "none":
        edit_as_lerobot(tmp_path, edit)
    write_places(tmp_path, range(3, 6))
    statistics = read_json(tmp_path / "meta/stats.json")
    frame_rows = read_rows(tmp_path, "data")
    names = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    for key in ("observation.state", "action", "egox.path_deg", "egox.ego_c2w", "index"):
        values = np.array([row[key] for row in frame_rows], np.float64).reshape(6 * FRAMES, -1)
        for name, share in names.items():
            np.testing.assert_allclose(
                np.array(statistics[key][name])[24:],
                np.quantile(values, share, axis=0)[24:],
                atol=1e-6,
            )
    values = np.array([row["action"] for row in frame_rows])
    ordered = [statistics["action"][name] for name in ("min", *names, "max")]
    assert (np.diff(ordered, axis=0)[:, 1:] >= 0).all(), "all but what never moves"
    for lower_name, upper_name in (("q01", "q99"), ("q10", "q90")):
        lower, upper = (np.array(statistics["action"][name]) for name in (lower_name, upper_name))
        assert upper[0] - lower[0] > 0.03
        scaled_values = 2 * (values - lower) / (upper - lower) - 1
        assert np.abs(scaled_values[:, 24:]).max() < (1.1 if lower_name == "q01" else 1.35)
        assert np.abs(scaled_values[:, :24]).max() <= 10, "a hand at rest in 99 % of the frames"
    episodes = read_rows(tmp_path, "meta/episodes")
    pictures = statistics["observation.images.ego"]
    for name, bound in (("q01", np.min), ("q50", np.min), ("q90", np.max)):
        rows = [np.array(row[f"stats/observation.images.ego/{name}"]) for row in episodes]
        assert np.array(pictures[name]).tolist() == bound(rows, axis=0).tolist()


def test_run_of_several_pieces_is_complete_with_all_of_them(tmp_path):
    with open_set(tmp_path) as robot_data:
        for number in (1, 2):
            assert not robot_data.holds("run", "digest")
            robot_data.append(
                replace(make_episode(number), name=f"run_{number}of2", made_from="digest")
            )
        assert robot_data.holds("run", "of all", "digest")  # as a later version asks
        assert robot_data.holds("run", "digest")
        assert robot_data.holds("run_1of2", "digest")
        with refuses("other files"):
            robot_data.holds("run", "another")


def test_depth_and_classes_are_read_back(tmp_path):
    with open_set(tmp_path) as robot_data:
        robot_data.append(make_episode_with_maps(0))
        with refuses("ego_depth.*than the set's.*same kinds"):
            robot_data.append(make_episode(1))
    videos = make_episode_with_maps(0).videos
    for row, pictures in frames_in_order(tmp_path):
        depth, classes = (
            videos[f"observation.images.{key}"][1][row["frame_index"], ..., 0].numpy()
            for key in ("ego_depth", "ego_seen")
        )
        known_mask = np.isfinite(depth)
        read_depth = pictures["observation.images.ego_depth"]
        max_rounding = 1.65e-4 * (depth + 3.5)  # 1 mm at 2.6 m
        assert (np.abs(read_depth - depth) <= max_rounding)[known_mask].all()
        assert (read_depth[~known_mask] < 0.011).all()
        assert (
            np.abs(pictures["observation.images.ego_seen"][..., 0] - classes.astype(int)).max() < 2
        )


def test_unfitting_episodes_and_sets_are_refused(tmp_path):
    write_episodes(tmp_path, 1)
    with open_set(tmp_path) as robot_data:
        with refuses("run 0.*new one"):
            robot_data.append(make_episode(0))
        with refuses("other .*rate"):
            robot_data.append(make_episode(1, fps=20, source_fps=20.0))
        with refuses("ego of 32x64 px.*64x64 px, as in the set"):
            robot_data.require_same_form("run 1", True, (32, 64), None)
        with refuses("other files"):
            robot_data.holds("run 0", "other files")
        with refuses("another process.*one writer"):
            write_episodes(tmp_path, 3)
        with refuses("8 frames.*resample"):
            make_episode(2, source_fps=8.0)
        assert robot_data.rate_for("x", torch.arange(9) / 8, resample=True) == 10
    (tmp_path / "meta/info.json").write_text('{"codebase_version": "v2.1"}', "utf-8")
    with refuses("another program.*v3.0"):
        write_episodes(tmp_path, 2)


def edit_as_lerobot(folder: Path, edit: str) -> None:
    """Edit a data set as LeRobot's tools do: one row group per file and sorted tasks."""
    import pyarrow.parquet as pq

    info = read_json(folder / "meta/info.json")
    for parquet_file in (*folder.glob("data/*/*"), *folder.glob("meta/episodes/*/*")):
        table = pq.read_table(parquet_file)
        if edit == "delete":
            egox_words = ("egox/", "first_episode", "bytes")
            egox_columns = [
                name
                for name in table.schema.names
                if name.startswith(egox_words) or name.endswith(egox_words)
            ]
            table = table.drop_columns(egox_columns)
        if "task_index" in table.schema.names:
            reversed_tasks = [
                info["total_tasks"] - 1 - task_index.as_py() for task_index in table["task_index"]
            ]
            column_index = table.schema.get_field_index("task_index")
            table = table.set_column(column_index, "task_index", [reversed_tasks])
        pq.write_table(table, parquet_file)
    parquet_file = folder / "meta/tasks.parquet"
    task_names = [row["task"] for row in reversed(pq.read_table(parquet_file).to_pylist())]
    pq.write_table(
        pa.table({"task_index": range(len(task_names)), "__index_level_0__": task_names}),
        parquet_file,
    )
    if edit == "add_feature":
        info["features"]["reward"] = {"dtype": "float32", "shape": [1], "names": None}
    if edit == "remove_feature":
        del info["features"]["egox.path_deg"]
    write_json(folder / "meta/info.json", info)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("merge", ""),
        ("delete", ""),
        ("add_feature", "edited by another program: reward in it"),
        ("remove_feature", "edited by another program: no egox.path_deg in it"),
    ],
)
def test_sets_edited_by_lerobot_can_be_continued(tmp_path, edit, message):
    """Check that episodes can be added to a set that LeRobot edited, unless a column is missing."""
    count = 3
    write_episodes(tmp_path, count, SetOptions(made_by="a first model"))
    edit_as_lerobot(tmp_path, edit)
    if message:
        with refuses(message):
            write_episodes(tmp_path, 5)
        return
    for number in (3, 4):
        with open_set(tmp_path, SetOptions(made_by="another")) as robot_data:
            if edit == "delete":
                with refuses(f"no egox/name of {count} episodes.*'run 3'"):
                    robot_data.holds("run 3", "")
            robot_data.append(make_episode(number))
    run_numbers = [*range(count), 3, 4]
    tasks = {
        row["task_index"]: [*row.values()][1] for row in read_rows(tmp_path, "meta/tasks.parquet")
    }
    for index, (row, pictures) in enumerate(frames_in_order(tmp_path)):
        run_number = run_numbers[index // FRAMES]
        frame_number = index % FRAMES
        assert (row["index"], row["frame_index"]) == (index, frame_number)
        assert read_number(pictures["observation.images.ego"]) == run_number * FRAMES + frame_number
        assert tasks[row["task_index"]] == make_episode(run_number).task
    assert index == len(run_numbers) * FRAMES - 1
    card_text = (tmp_path / "README.md").read_text("utf-8")
    assert "by another" in card_text
    assert ("by a first model" in card_text) == (edit == "merge")


def test_users_card_text_and_files_are_preserved(tmp_path):
    """Check that only the marked part of a data set's card is rewritten and no other folder
    changes."""
    card_file, user_note = tmp_path / "README.md", tmp_path / "notes.txt"
    card_file.write_text("# My own set", "utf-8")
    user_note.write_text("mine", "utf-8")
    write_episodes(tmp_path, 1)
    user_text = (
        card_file.read_text("utf-8").replace("# My own set", "# Kitchen, by me\r\n") + "\nThanks!\n"
    )
    card_file.write_bytes(user_text.encode() + b"\xff")
    write_episodes(tmp_path, 2)
    card_bytes = card_file.read_bytes()
    assert card_bytes.startswith(b"# Kitchen, by me\r\n") and card_bytes.endswith(
        b"\nThanks!\n\xff"
    )
    assert card_bytes.count(b"2 episodes, 24 frames") == 1
    assert b"1 episode," not in card_bytes
    assert user_note.read_text("utf-8") == "mine"
    (tmp_path / "meta/info.json").unlink()
    files_before = read_folder_files(tmp_path)
    with refuses("data/chunk-000/file-000.parquet in a folder that is no set"):
        write_episodes(tmp_path, 3)
    assert files_before == read_folder_files(tmp_path)


def test_video_files_are_split_by_length(tmp_path, monkeypatch):
    monkeypatch.setattr(robot_set, "MAX_S", 3.0)
    monkeypatch.setattr("egox_core.robots.episode.MAX_S", 3.0)
    episodes = [
        make_episode(0),
        make_episode(1),
        make_episode(2),
        make_episode(3, 40),
        make_episode(12),
    ]
    with open_set(tmp_path) as robot_data:
        for run_episode in episodes:
            robot_data.append(run_episode)
    file_indices = [
        row["videos/observation.images.ego/file_index"] for row in read_rows(tmp_path, EPISODES)
    ]
    assert file_indices == [0, 0, 1, 2, 3]
    assert len({*tmp_path.glob("data/*/*")}) == 1
    assert ["file of its own" in run_episode.fit.text() for run_episode in episodes] == [
        False
    ] * 3 + [True, False]
    assert len(list(frames_in_order(tmp_path))) == 4 * FRAMES + 40


@pytest.mark.parametrize(
    ("source_fps", "count", "expected_fps"),
    [(29.97, 600, 30), (23.976, 600, 24), (12.5, 20, 12), (29.97, 49, 0)],
)
def test_frame_rate_of_a_set_is_a_whole_number(tmp_path, source_fps, count, expected_fps):
    """Check that frame rates are rounded to whole numbers if the error is below a quarter frame."""
    times_s = torch.arange(count).double() / source_fps
    with open_set(tmp_path) as robot_data:
        if expected_fps:
            with refuses(
                f"{source_fps} frames a second.*whole rate.*--fps {expected_fps} --resample"
            ):
                robot_data.rate_for("clip", times_s)
        assert robot_data.rate_for("clip", times_s, resample=bool(expected_fps)) == (
            expected_fps or 30
        )


def test_cancelled_or_failed_episode_leaves_the_set_unchanged(tmp_path):
    write_episodes(tmp_path / "set", 2)
    shutil.copytree(tmp_path / "set", tmp_path / "before")

    def cancel(count: int, total: int, stage: str) -> None:
        raise KeyboardInterrupt

    with open_set(tmp_path / "set") as robot_data, pytest.raises(KeyboardInterrupt):
        robot_data.append(make_episode(2), cancel)
    assert read_folder_files(tmp_path / "before") == read_folder_files(tmp_path / "set")
    largest_file = max(file.stat().st_size for file in (tmp_path / "set").rglob("*.*"))
    with (
        open_set(tmp_path / "set") as robot_data,
        pytest.raises(OSError),
        limit_file_size(largest_file),
    ):
        robot_data.append(make_episode(2))
    assert read_folder_files(tmp_path / "before") == read_folder_files(tmp_path / "set")


def test_set_continues_after_a_kill_between_renames(tmp_path, monkeypatch):
    """Check that a data set is complete after the writer was killed between any two renames."""
    write_episodes(tmp_path / "undisturbed", 4)
    for count in (1, 2, 3):
        write_episodes(tmp_path / "before", count)
    for rename_count in (1, 3, 5):
        killed_set = tmp_path / f"after_{rename_count}"
        remaining_renames = iter(range(rename_count))

        def replace_or_stop(
            source, target, remaining_renames=remaining_renames, replace=os.replace
        ) -> None:
            if Path(source).name.startswith("staged_") and next(remaining_renames, None) is None:
                raise KeyboardInterrupt
            replace(source, target)

        shutil.copytree(tmp_path / "before", killed_set)
        with (
            open_set(killed_set, SMALL_FILES) as robot_data,
            monkeypatch.context() as patch_context,
        ):
            patch_context.setattr(robot_set.os, "replace", replace_or_stop)
            with pytest.raises(KeyboardInterrupt):
                robot_data.append(make_episode(3))
        write_episodes(killed_set, 4)
        assert read_folder_files(tmp_path / "undisturbed") == read_folder_files(killed_set)


LEROBOT_LOADER = """
import sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
episodes = LeRobotDataset("egox", root=sys.argv[1], video_backend="pyav")
for index in range(len(episodes)):
    frame = episodes[index]
    cells = frame["observation.images.ego"][0, 4, 4::8]
    number = sum(int(cell > 0.5) << bit for bit, cell in enumerate(cells))
    assert int(frame["index"]) == index and number == index % 256
"""
LEROBOT_NORMALIZER = """
import sys
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.processor.converters import create_transition
from lerobot.processor.core import TransitionKey
from lerobot.processor.normalize_processor import NormalizerProcessorStep
episodes = LeRobotDataset("egox", root=sys.argv[1], video_backend="pyav")
normalize = NormalizerProcessorStep(
    features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(48,))},
    norm_map={FeatureType.ACTION: NormalizationMode.QUANTILES},
    stats=episodes.meta.stats,
)
for batch in torch.utils.data.DataLoader(episodes.hf_dataset, batch_size=32):
    scaled = normalize(create_transition(action=batch["action"]))[TransitionKey.ACTION].abs()
    assert scaled[:, 24:].max() <= 1.1, "places of their own"
    assert scaled[:, :24].max() <= 10, "a hand at rest"
"""


@pytest.mark.slow
@pytest.mark.parametrize("package", ["lerobot-doctor", "lerobot"])
def test_lerobot_loads_the_set_and_its_checker_accepts_it(tmp_path, package):
    """Check that LeRobot loads sets of forty episodes, three tasks and several frame rates.

    Its normaliser by quantiles blows nothing up."""
    write_episodes(tmp_path / "even", 40, SetOptions())
    with open_set(tmp_path / "resampled") as robot_data:
        for number, rate in enumerate((10.0, 24.0, 8.0, 24.0)):
            robot_data.append(make_episode(number, count=40, source_fps=rate, resample=True))
    venv.create(tmp_path / "venv", with_pip=True)
    python = venv_python(tmp_path / "venv")
    try:
        install_command = [python, "-m", "pip", "install", "--quiet", package]
        is_installed = subprocess.run(install_command, timeout=480).returncode == 0
    except subprocess.TimeoutExpired:
        is_installed = False
    if not is_installed:
        pytest.skip(f"{package} doesn't resolve here within eight minutes")
    if package == "lerobot":
        offline_environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        write_places(tmp_path / "places", range(10))
        for script, name in ((LEROBOT_LOADER, "even"), (LEROBOT_NORMALIZER, "places")):
            subprocess.run(
                [python, "-c", script, tmp_path / name], check=True, env=offline_environment
            )
        return
    for name in ("even", "resampled"):
        subprocess.run([python, "-m", "lerobot_doctor.cli", "check", tmp_path / name], check=True)
