"""A LeRobot v3.0 data set that grows by one episode at a time, and is whole after each.

A file that grows is replaced by a longer one whose beginning is the same, and ``meta/info.json``,
which says how much of them counts, is replaced last. All that is half made is in a hidden folder of
the set. What a killed writer left there, or beyond what counts, is overwritten by the next episode:
its place follows from the last row that counts, not from the files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import EgoXInputError, intact
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..safe_files import file_lock, read_json_object, write_json
from .card import data_card
from .episode import COLUMNS, VALID_BY, Episode, frames_at
from .statistics import NAMES, Statistics, merged, of_numbers, of_pictures
from .tables import (
    frame_table,
    grow,
    read_rows,
    require_pyarrow,
    row_table,
    write_tasks,
)
from .videos import FORMS, as_loaded, encode, join, video_info

VERSION = "v3.0"
DATA, EPISODES = "data", "meta/episodes"
WORK = ".work"
PLACE = ("chunk_index", "file_index", "first_episode", "bytes")
"""Place of an episode in a series of files: the last two, of which LeRobot knows nothing, are the
first episode of that file, and the size of all so far before they are packed."""
INDEX_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@frozen
class SetOptions:
    """Choices that a set is written with."""

    made_by: str = ""  # model and weights of the ego videos, for the data card
    gpu_hours: float | None = None  # for an hour of video, for the data card
    chunk_files: int = 1000  # files in a folder
    data_mb: float = 100.0  # a file that would be larger is followed by another one
    video_mb: float = 200.0


@contextmanager
def open_set(
    folder: Path,
    options: SetOptions = SetOptions(),  # noqa: B008  frozen
) -> Generator[RobotSet]:
    """Hold a set, a new or a present one, for this process, and mend what a killed writer left.

    Raises:
        EgoXInputError: no pyarrow, another process writes to it, a set of another program, a damaged
            one.
    """
    require_pyarrow()
    with file_lock(folder / "meta", wait=False) as free:
        if not free:
            raise EgoXInputError(
                f"robot data set {folder.name!r}",
                got="another process that writes to it",
                expected="one writer",
                fix="wait for it, or write another set",
            )
        work = folder / WORK
        shutil.rmtree(work, ignore_errors=True)
        robots = RobotSet(folder, options)
        try:
            yield robots
        finally:
            shutil.rmtree(work, ignore_errors=True)


class RobotSet:
    """A set that this process holds; made by :func:`open_set`."""

    def __init__(self, folder: Path, options: SetOptions) -> None:
        self._folder, self._options = folder, options
        self._info: dict[str, Any] = {}
        self._tasks: list[str] = []
        self._statistics: dict[str, Statistics] = {}
        self._made: dict[str, str] = {}
        self._last: dict[str, Any] | None = None  # row of the last episode
        info = folder / "meta" / "info.json"
        if info.is_file():
            content = read_json_object(info, "info.json of the robot data set")
            # A number that is a text, a key that is gone: many places of a damaged set lead here.
            wrong = (AttributeError, LookupError, TypeError, ValueError)
            with intact(f"robot data set {folder.name!r}", wrong, expected="a whole set"):
                self._resume(content)

    def __len__(self) -> int:
        """Number of episodes."""
        return self._info.get("total_episodes", 0)

    def rate_for(
        self,
        name: str,
        times_s: Tensor,  # [T] float64, seconds
        *,
        fps: int = 0,  # that is asked for; 0: as the set has, else the clip's own
        resample: bool = False,
    ) -> int:
        """Frames a second that a clip of these times can be written with.

        Raises:
            EgoXInputError: times at another rate or uneven, and ``resample`` is off.
        """
        span = float(times_s[-1] - times_s[0])
        rate = (
            fps
            or self._info.get("fps")
            or max(1, round((len(times_s) - 1) / span if span > 0 else 1))
        )
        frames_at(times_s.double(), rate, resample, name)
        return rate

    def holds(self, name: str, made_from: str) -> bool:
        """Check whether the set has an episode of this name.

        Raises:
            EgoXInputError: it has, made from other files.
        """
        if name in self._made and self._made[name] != made_from:
            raise EgoXInputError(
                f"episode {name!r}",
                got="other files than those it was written from",
                expected="the same: an episode of a set isn't changed",
                fix="write another set",
            )
        return name in self._made

    def append(self, episode: Episode, progress: Progress = no_progress) -> None:
        """Add an episode. Until it is whole, and where ``progress`` cancels, the set stays as it was.

        Raises:
            EgoXInputError: a name that the set has, other pictures or another rate than the set's.
            OSError: a full disk; the set stays as it was.
        """
        if self.holds(episode.name, episode.made_from):
            raise EgoXInputError(
                f"episode {episode.name!r}",
                got="a name that the set has",
                expected="a new one",
                fix="give the run another name, or write another set",
            )
        features = _features(episode)
        if self._info and self._info["features"] != features:
            known = self._info["features"]
            different = sorted(k for k in {*known, *features} if known.get(k) != features.get(k))
            raise EgoXInputError(
                f"episode {episode.name!r}",
                got=f"other {', '.join(different)} than the set's",
                expected="pictures of the same kinds, sizes and rate in the whole set",
                fix="write another set, or bring the clip to the size and rate of this one",
            )
        work = self._folder / WORK
        work.mkdir(parents=True, exist_ok=True)
        files = {}
        for number, (key, (kind, frames)) in enumerate(episode.videos.items()):
            files[key] = work / f"{number}.mp4"
            encode(files[key], frames, kind, episode.fps, progress)
        self._commit(episode, features, files)

    def _index_columns(self, episode: Episode) -> dict[str, np.ndarray]:
        count, first = len(episode), self._info.get("total_frames", 0)
        tasks = [*self._tasks, episode.task]
        values = {
            "timestamp": np.arange(count) / episode.fps,
            "frame_index": np.arange(count),
            "episode_index": np.full(count, len(self)),
            "index": first + np.arange(count),
            "task_index": np.full(count, tasks.index(episode.task)),
        }
        return {name: values[name].astype(kind) for name, kind in INDEX_COLUMNS.items()}

    def _commit(
        self, episode: Episode, features: dict[str, Any], files: Mapping[str, Path]
    ) -> None:
        """Make the files that grow anew, then put them in place, info.json last."""
        made: dict[Path, Path] = {}  # by the place that each is for

        def staged(path: Path) -> Path:
            return made.setdefault(path, self._folder / WORK / f"staged_{len(made)}{path.suffix}")

        options, count = self._options, len(episode)
        first = self._info.get("total_frames", 0)
        own = {**self._index_columns(episode), **episode.columns}
        statistics = _statistics(episode, own)
        row: dict[str, Any] = {
            "episode_index": len(self),
            "tasks": [episode.task],
            "length": count,
            "dataset_from_index": first,
            "dataset_to_index": first + count,
            "egox/name": episode.name,
            "egox/made_from": episode.made_from,
            "egox/notes": episode.note,
            "egox/ego_camera": json.dumps(episode.ego_camera.to_json()),
            "egox/exo_camera": json.dumps(episode.exo_camera.to_json()),
            **{
                f"stats/{feature}/{name}": values[name].tolist()
                for feature, values in statistics.items()
                for name in NAMES
            },
        }
        for key, file in files.items():
            series = f"videos/{key}"
            path, held = self._place(series, file.stat().st_size, options.video_mb, row)
            start = self._last[f"{series}/to_timestamp"] if self._last and held else 0.0
            before = round(start * episode.fps)
            join(staged(path), [*[(path, before)] * bool(held), (file, count)], episode.fps)
            row[f"{series}/from_timestamp"] = start
            row[f"{series}/to_timestamp"] = (before + count) / episode.fps
        table = frame_table(own)
        path, held = self._place(DATA, table.nbytes, options.data_mb, row)
        grow(path, held, table, staged(path))
        path, held = self._place(EPISODES, row_table([row]).nbytes, options.data_mb, row)
        grow(path, held, row_table([row]), staged(path), one_group=True)
        tasks = list(dict.fromkeys((*self._tasks, episode.task)))
        meta, total = self._folder / "meta", _merge(self._statistics, statistics)
        write_tasks(staged(meta / "tasks.parquet"), tasks)
        write_json(staged(meta / "stats.json"), {key: _plain(each) for key, each in total.items()})
        info = {
            "codebase_version": VERSION,
            "robot_type": "human hands",
            "total_episodes": len(self) + 1,
            "total_frames": first + count,
            "total_tasks": len(tasks),
            "chunks_size": options.chunk_files,
            "data_files_size_in_mb": options.data_mb,
            "video_files_size_in_mb": options.video_mb,
            "fps": episode.fps,
            "splits": {"train": f"0:{len(self) + 1}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            "features": features,
        }
        valid = total["egox.hand_valid"]["mean"]
        card = data_card(info, valid, options.made_by, options.gpu_hours)
        staged(self._folder / "README.md").write_text(card, "utf-8")
        write_json(staged(meta / "info.json"), info)
        for path, file in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, path)
        self._info, self._tasks, self._statistics = info, tasks, total
        self._made[episode.name] = episode.made_from
        self._last = row

    def _place(
        self, series: str, size: int, limit_mb: float, row: dict[str, Any]
    ) -> tuple[Path, int]:
        """Find a series' file for an episode of so many bytes, and note it in the episode's row.

        Returns:
            The file, and how many episodes that count it has already.
        """
        place, first, known = (0, 0), len(self), 0
        if self._last:
            chunk, file, first, known = (self._last[f"{series}/{name}"] for name in PLACE)
            place = chunk, file
            if known + size >= limit_mb * 2**20:
                files = self._options.chunk_files
                place, first, known = divmod(chunk * files + file + 1, files), len(self), 0
        noted = (*place, first, known + size)
        row |= {f"{series}/{name}": value for name, value in zip(PLACE, noted, strict=True)}
        return self._path(series, place), len(self) - first

    def _path(self, series: str, place: tuple[int, int]) -> Path:
        suffix = "mp4" if series.startswith("videos/") else "parquet"
        return self._folder / series / f"chunk-{place[0]:03d}" / f"file-{place[1]:03d}.{suffix}"

    def _resume(self, info: dict[str, Any]) -> None:
        """Take up a set where info.json says it ends, and cut off what lies beyond."""
        what = f"robot data set {self._folder.name!r}"
        if info.get("codebase_version") != VERSION or set(COLUMNS) - set(info.get("features", ())):
            raise EgoXInputError(
                what,
                got="a set of another program or version",
                expected=f"one that EgoX wrote in LeRobot {VERSION}",
                fix="write another set",
            )
        self._info, rows, place = info, [], (0, 0)
        while len(rows) < info["total_episodes"]:
            rows += read_rows(self._path(EPISODES, place))
            files = info["chunks_size"]
            place = divmod(place[0] * files + place[1] + 1, files)
        rows = rows[: info["total_episodes"]]
        self._last = rows[-1]
        tasks = read_rows(self._folder / "meta" / "tasks.parquet")
        self._tasks = [row["task"] for row in tasks[: info["total_tasks"]]]
        for row in rows:
            self._made[row["egox/name"]] = row["egox/made_from"]
            self._statistics = _merge(self._statistics, _statistics_of(row, info["features"]))


def _features(episode: Episode) -> dict[str, Any]:
    """Entries of info.json for each column and video."""
    features: dict[str, Any] = {}
    for key, (kind, frames) in episode.videos.items():
        height, width = frames.shape[1:3]
        features[key] = {
            "dtype": "video",
            "shape": [height, width, FORMS[kind].channels],
            "names": ["height", "width", "channels"],
            "info": video_info(kind, (width, height), episode.fps),
        }
    for key, (kind, names) in COLUMNS.items():
        shape = [len(names) if names else 1]
        features[key] = {"dtype": kind, "shape": shape, "names": names and list(names)}
    for key, kind in INDEX_COLUMNS.items():
        features[key] = {"dtype": kind, "shape": [1], "names": None}
    return features


def _statistics(episode: Episode, columns: Mapping[str, np.ndarray]) -> dict[str, Statistics]:
    found: dict[str, Statistics] = {
        key: of_pictures(frames, partial(as_loaded, kind=kind))
        for key, (kind, frames) in episode.videos.items()
    }
    for key, values in columns.items():
        valid = None
        if key in VALID_BY:
            valid = _per_number(columns[VALID_BY[key]], values.shape[1])
        found[key] = of_numbers(values, valid)
    return found


def _per_number(of_hands: np.ndarray, numbers: int) -> np.ndarray:
    """Repeat a value of each hand for each number of both."""
    return np.repeat(of_hands, numbers // of_hands.shape[-1], -1)


def _statistics_of(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Statistics]:
    """An episode's statistics as its row has them."""
    found: dict[str, dict[str, np.ndarray]] = {
        key: {name: np.array(row[f"stats/{key}/{name}"]) for name in NAMES} for key in features
    }
    for key, each in found.items():
        weight: Any = each["count"][0]
        if key in VALID_BY:  # the row has one count for all numbers
            valid = found[VALID_BY[key]]
            weight = _per_number(valid["mean"] * valid["count"], len(each["mean"])).round()
        each["weight"] = np.zeros_like(each["mean"]) + weight
    return {**found}


def _merge(known: Mapping[str, Statistics], new: Mapping[str, Statistics]) -> dict[str, Statistics]:
    return {key: merged(known[key], each) if known else each for key, each in new.items()}


def _plain(statistics: Statistics) -> dict[str, Any]:
    return {name: statistics[name].tolist() for name in NAMES}
