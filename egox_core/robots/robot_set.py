"""Write a LeRobot data set that grows by one episode at a time and is always valid.

A file that grows is replaced by a longer one whose beginning is the same, and ``meta/info.json``,
which says how much of them counts, is replaced last. All that is half made is in a hidden folder of
the set. What a killed writer left there, or beyond what counts, is overwritten by the next episode:
its place follows from the last row that counts, not from the files."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count as numbers_from
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import EgoXInputError, intact, needs_package
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..safe_files import (
    file_lock,
    read_json_object,
    require_writable,
    visible_files,
    write_json,
)
from .card import data_card
from .episode import (
    COLUMNS,
    EGO_VIDEO,
    EXO_VIDEO,
    HAND_COLUMNS,
    Episode,
    fill_columns,
    nearest_frames,
)
from .statistics import (
    NAMES,
    OF_LEAST_STD,
    Statistics,
    episode_statistics,
    merge_statistics,
    quantiles_of,
    with_least_width,
)
from .tables import (
    append_to_parquet,
    frame_table,
    read_column,
    read_rows,
    row_groups,
    row_table,
    write_tasks,
)
from .videos import MAX_S, encode, join_videos, video_feature

VERSION = "v3.0"
DATA, EPISODES = "data", "meta/episodes"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
FIRST_FILE = {"chunk_index": 0, "file_index": 0}
WORK = ".work"
TEXT_CODING = ("utf-8", "surrogateescape")
VIDEOS = [f"observation.images.{name}" for name in ("exo", "ego", "ego_depth", "ego_seen")]
GAPS_KEY, GAPS = "egox.gaps", "bridged in the world"
"""Says of state and action what stands where a hand isn't valid. Sets before 1.3 have zeros
there."""
GAPS_COLUMNS = ("action", "observation.state")
GAPS_OF_1_3 = "bridged"
"""In sets of 1.3 the hand's last pose in the head's frame, and in the action the state."""
PLACE_KEYS = ("chunk_index", "file_index", "first_episode", "bytes")
"""Place of an episode in a series of files: the last two, of which LeRobot knows nothing, are the
first episode of that file, and the size of all so far before they are packed."""


@frozen
class SetOptions:
    """Options of a data set that apply to all episodes."""

    made_by: str = ""  # model and weights of the ego videos, for the data card
    gpu_hours: float | None = None  # for an hour of video, for the data card
    license: str = ""  # identifier that the hub knows, for the data card
    chunk_files: int = 1000  # files in a folder
    data_mb: float = 100.0  # a file that would be larger is followed by another one
    video_mb: float = 200.0


def require_pyarrow() -> None:
    """Check that the package pyarrow is installed, which writes data sets.

    Raises:
        EgoXInputError: no pyarrow.
    """
    with needs_package("pyarrow", "LeRobot data set", expected="the extra `robots`"):
        import pyarrow.parquet  # noqa: F401


@contextmanager
def open_set(
    folder: Path,
    options: SetOptions = SetOptions(),  # noqa: B008  frozen
) -> Generator[RobotSet]:
    """Open a new or existing data set for writing, and remove what an interrupted writer left.

    Raises:
        EgoXInputError: no pyarrow, nothing can be written, another process writes to it, a set of
            another program, a damaged one.
    """
    require_pyarrow()
    require_writable(folder, f"robot data set {folder.name!r}", repr(folder.name))
    with file_lock(folder / "meta", wait=False) as is_free:
        if not is_free:
            raise EgoXInputError(
                f"robot data set {folder.name!r}",
                got="another process that writes to it",
                expected="one writer",
                fix="wait for it, or write another set",
            )
        work_folder = folder / WORK
        was_killed = work_folder.is_dir()
        shutil.rmtree(work_folder, ignore_errors=True)
        robot_set = RobotSet(folder, options, was_killed)
        try:
            yield robot_set
        finally:
            try:
                if was_killed or robot_set.has_new_episodes:
                    robot_set.write_quantiles()
            finally:
                shutil.rmtree(work_folder, ignore_errors=True)


class RobotSet:
    """Data set that is open for writing (see :func:`open_set`)."""

    def __init__(self, folder: Path, options: SetOptions, was_killed: bool) -> None:
        self._folder, self._options = folder, options
        self._info: dict[str, Any] = {}
        self._tasks: list[str] = []
        self._digests: dict[str, str] = {}  # an episode's name to the digest of its files
        self._statistics: Mapping[str, Statistics] = {}
        self._last: dict[str, Any] = {}  # row of the last episode
        self._episode_count, self._rows_in_file = (
            0,
            0,
        )  # of episodes: all, and in the last file of them
        self._made_by: list[str] = []
        self.has_new_episodes = False
        self._unnamed_episodes = 0  # episodes whose names another program left out
        self._was_edited = (
            False  # by a program that lays out files otherwise: ours go into new ones
        )
        info_path = folder / "meta" / "info.json"
        if info_path.is_file():
            content = read_json_object(info_path, "info.json of the robot data set")
            # A number that is a text, a key that is gone: many places of a damaged set lead here.
            content_errors = (AttributeError, LookupError, TypeError, ValueError)
            with intact(f"robot data set {folder.name!r}", content_errors, expected="a whole set"):
                self._load_state(content)
            return
        meta_folder = info_path.parent
        first_videos = folder.glob(f"videos/*/{FILE}.mp4".format(**FIRST_FILE))
        own_files = self._path(DATA, 0), self._path(EPISODES, 0), meta_folder / "tasks.parquet"
        foreign_file = next(
            (
                file
                for file in (*own_files, meta_folder / "stats.json", *first_videos)
                if file.exists()
            ),
            None,
        )
        if foreign_file is not None and not was_killed:
            raise EgoXInputError(
                f"robot data set {folder.name!r}",
                got=f"{foreign_file.relative_to(folder).as_posix()} in a folder that is no set",
                expected="a set, or a folder without files of those names",
                fix="write another set",
            )

    def __len__(self) -> int:
        """Count the episodes."""
        return self._episode_count

    def rate_for(
        self,
        name: str,
        times_s: Tensor,  # [T] float64, seconds
        *,
        # The requested frame rate; 0 takes that of the set, or else of the clip.
        fps: int = 0,
        resample: bool = False,
    ) -> int:
        """Choose the frame rate at which a clip with these times can be added.

        Raises:
            EgoXInputError: times at another rate or uneven, and ``resample`` is off.
        """
        duration_s = float(times_s[-1] - times_s[0])
        clip_rate = max(1, round((len(times_s) - 1) / duration_s)) if duration_s > 0 else 1
        rate = fps or self._info.get("fps", clip_rate)
        nearest_frames(times_s.double(), rate, resample, name)
        return rate

    @property
    def has_hands(self) -> bool | None:
        """Tell if the episodes have state and action, None for a set without episodes."""
        return "action" in self._info["features"] if self._info else None

    def require_same_form(
        self,
        name: str,
        has_hands: bool,
        ego_size: tuple[int, int] | None,  # (width, height) of the ego video
        exo_size: tuple[int, int] | None,  # of the exo video; None: without it
    ) -> None:
        """Check, before any work on it, that a run has hands and pictures as the set's.

        Raises:
            EgoXInputError: hands in the set or the run alone, pictures of another size.
        """
        if self.has_hands not in (None, has_hands):
            raise EgoXInputError(
                f"episode {name!r}",
                got="hands, which the set hasn't" if has_hands else "no hands, which the set has",
                expected="state and action in all episodes of a set or in none",
                fix="write another set, or give this run hands as the others have them",
            )
        features = self._info.get("features", {})
        for key, size in ((EGO_VIDEO, ego_size), (EXO_VIDEO, exo_size)):
            if size is None or key not in features:
                continue
            set_height, set_width = features[key]["shape"][:2]
            if (set_width, set_height) != size:
                raise EgoXInputError(
                    f"episode {name!r}",
                    got=f"{key} of {size[0]}x{size[1]} px",
                    expected=f"{set_width}x{set_height} px, as in the set",
                    fix="write another set, or bring the clip to the size of this one",
                )

    def holds(self, name: str, *made_from: str) -> bool:
        """Check whether the data set already has the episodes of a run.

        Args:
            made_from: digest of what it is made of, and that of older versions.

        Raises:
            EgoXInputError: it has, made from other files; episodes whose names aren't known.
        """
        if self._unnamed_episodes:
            raise self._edited_error(
                f"no egox/name of {self._unnamed_episodes} episodes, so that {name!r} may be "
                "among them"
            )
        piece_pattern = re.compile(rf"{re.escape(name)}(?:_\d+of(\d+))?")
        matches = {
            episode_name: match
            for episode_name in self._digests
            if (match := piece_pattern.fullmatch(episode_name))
        }
        if any(self._digests[episode_name] not in made_from for episode_name in matches):
            raise EgoXInputError(
                f"episode {name!r}",
                got="other files, task or options than it was written with",
                expected="the same: an episode of a set isn't changed",
                fix="write another set",
            )
        return name in matches or any(
            len(matches) == int(piece_match[1]) for piece_match in matches.values()
        )

    def append(self, episode: Episode, progress: Progress = no_progress) -> None:
        """Add an episode to the data set.

        Until it is whole, and where ``progress`` cancels, the set stays as it was.

        Raises:
            EgoXInputError: a name that the set has, other pictures or another rate than the set's.
            OSError: a full disk; the set stays as it was.
        """
        if episode.name in self._digests:
            raise EgoXInputError(
                f"episode {episode.name!r}",
                got="a name that the set has",
                expected="a new one",
                fix="give the run another name, or write another set",
            )
        ego_size, exo_size = (
            (episode.videos[key][1].shape[2], episode.videos[key][1].shape[1])
            if key in episode.videos
            else None
            for key in (EGO_VIDEO, EXO_VIDEO)
        )
        self.require_same_form(episode.name, "action" in episode.columns, ego_size, exo_size)
        features = _features(episode, self._gaps_text)
        set_features = self._info.get("features", features)
        differing_keys = sorted(
            key
            for key in {*set_features, *features}
            if _without_gaps(set_features, key) != _without_gaps(features, key)
        )
        if "action" in features and not self._gaps_text:
            differing_keys += GAPS_COLUMNS
        if differing_keys:
            raise EgoXInputError(
                f"episode {episode.name!r}",
                got=f"other {', '.join(differing_keys)} than the set's",
                expected=(
                    "videos of the same kinds and rate in the whole set, and gaps of the hands "
                    "bridged (sets before 1.3 have zeros there)"
                ),
                fix="write another set, or write the clip with the options and rate of this one",
            )
        self._write(episode, features, progress)

    def write_quantiles(self) -> None:
        """Write the quantiles of all frames together into stats.json, computed from the columns.

        Until then it has bounds (see :func:`.statistics.merge_statistics`), as it keeps for
        pictures, which have no column.
        """
        frame_count = self._info.get("total_frames", 0)
        if not frame_count:
            return
        files = visible_files(self._folder / DATA, "*.parquet", nested=True)
        statistics = dict(self._statistics)
        for key in statistics.keys() & COLUMNS.keys():
            values = read_column(files, key, frame_count)
            statistics[key] = {**statistics[key], **quantiles_of(values)}
            if key in OF_LEAST_STD:
                statistics[key] = with_least_width(statistics[key])
        write_json(self._folder / "meta" / "stats.json", _statistics_json(statistics))

    @property
    def _gaps_text(self) -> str:
        """Text on gaps of hands once there is another episode, "" for a set with zeros."""
        action = self._info.get("features", {}).get("action")
        text = ((action or {}).get("info") or {}).get(GAPS_KEY, "")
        if action is None or (self._statistics["egox.hand_valid"]["min"] == 1).all():
            return GAPS
        if text == GAPS_OF_1_3:
            return f"{GAPS}; before episode {len(self)}: last pose in the head's frame"
        return text if text.startswith(GAPS) else ""

    def _write(self, episode: Episode, features: dict[str, Any], progress: Progress) -> None:
        """Write new versions of all files that grow, then move them into place."""
        work_folder = self._folder / WORK
        meta_folder = self._folder / "meta"
        options = self._options
        work_folder.mkdir(parents=True, exist_ok=True)
        staged_files: dict[Path, Path] = {}  # by the place that each is for

        def staged_path(path: Path) -> Path:
            return staged_files.setdefault(
                path, work_folder / f"staged_{len(staged_files)}{path.suffix}"
            )

        number = len(self)
        frame_count = len(episode)
        first_index = self._info.get("total_frames", 0)
        tasks = list(dict.fromkeys((*self._tasks, episode.task)))
        index_columns = {
            "timestamp": np.arange(frame_count) / episode.fps,
            "frame_index": np.arange(frame_count),
            "episode_index": number,
            "index": first_index + np.arange(frame_count),
            "task_index": tasks.index(episode.task),
        }
        columns = {**fill_columns(index_columns, frame_count), **episode.columns}
        statistics = episode_statistics(episode, columns)
        episode_row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [episode.task],
            "length": frame_count,
            "dataset_from_index": first_index,
            "dataset_to_index": first_index + frame_count,
            "egox/name": episode.name,
            "egox/made_from": episode.made_from,
            "egox/made_by": options.made_by,
            "egox/notes": episode.fit.text(),
            "egox/ego_camera": json.dumps(episode.ego_camera.to_json()),
            "egox/exo_camera": json.dumps(episode.exo_camera.to_json()),
            **{
                f"stats/{feature}/{name}": values[name].tolist()
                for feature, values in statistics.items()
                for name in NAMES
            },
        }
        for key, (kind, frames) in episode.videos.items():
            series = f"videos/{key}"
            episode_video = work_folder / f"{key}.mp4"
            encode(episode_video, frames, kind, episode.fps, progress)
            video_bytes = episode_video.stat().st_size
            seconds = frame_count / episode.fps
            path, held_episodes = self._choose_file(
                series, video_bytes, options.video_mb, episode_row, seconds
            )
            start_s = self._last[f"{series}/to_timestamp"] if held_episodes else 0.0
            frames_before = round(start_s * episode.fps)
            kept_parts = [(path, frames_before)] if held_episodes else []
            join_videos(staged_path(path), [*kept_parts, (episode_video, frame_count)], episode.fps)
            episode_row[f"{series}/from_timestamp"] = start_s
            episode_row[f"{series}/to_timestamp"] = (frames_before + frame_count) / episode.fps
        table = frame_table(columns)
        path, held_episodes = self._choose_file(DATA, table.nbytes, options.data_mb, episode_row)
        append_to_parquet(path, held_episodes, table, staged_path(path))
        path, held_episodes = self._choose_file(
            EPISODES, row_table(episode_row).nbytes, options.data_mb, episode_row
        )
        if self._last and path != self._path(EPISODES, 0):  # loaders want one form of all files
            episode_row = {key: episode_row[key] for key in self._last if key in episode_row}
        append_to_parquet(
            path, held_episodes, row_table(episode_row), staged_path(path), one_group=True
        )
        merged_statistics = merge_statistics(self._statistics, statistics)
        write_tasks(staged_path(meta_folder / "tasks.parquet"), tasks)
        write_json(staged_path(meta_folder / "stats.json"), _statistics_json(merged_statistics))
        info = {
            "codebase_version": VERSION,
            "robot_type": "human hands",
            "total_episodes": number + 1,
            "total_frames": first_index + frame_count,
            "total_tasks": len(tasks),
            "chunks_size": options.chunk_files,
            "data_files_size_in_mb": options.data_mb,
            "video_files_size_in_mb": options.video_mb,
            "fps": episode.fps,
            "splits": {"train": f"0:{number + 1}"},
            "data_path": f"data/{FILE}.parquet",
            "video_path": f"videos/{{video_key}}/{FILE}.mp4",
            "features": features,
        }
        valid_shares = (
            merged_statistics["egox.hand_valid"]["mean"]
            if "egox.hand_valid" in merged_statistics
            else None
        )
        made_by = list(dict.fromkeys(self._made_by))
        if episode.columns["egox.ego_generated"].any() and options.made_by not in made_by:
            made_by.append(options.made_by)
        card_path = self._folder / "README.md"
        existing_card = b""
        if card_path.is_file():
            existing_card = card_path.read_bytes()
        card_text = existing_card.decode(*TEXT_CODING)
        text = data_card(
            info,
            valid_shares,
            made_by,
            options.gpu_hours,
            options.license,
            generated=bool(merged_statistics["egox.ego_generated"]["max"].any()),
            owners=card_text,
        )
        staged_path(card_path).write_bytes(text.encode(*TEXT_CODING))
        write_json(staged_path(meta_folder / "info.json"), info)
        for path, file in staged_files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, path)
        self._info, self._tasks, self._statistics, self._last = (
            info,
            tasks,
            merged_statistics,
            episode_row,
        )
        self._digests[episode.name] = episode.made_from
        self._made_by = made_by
        self._was_edited = False
        self.has_new_episodes = True
        self._episode_count, self._rows_in_file = number + 1, held_episodes + 1

    def _choose_file(
        self,
        series: str,
        size: int,
        limit_mb: float,
        row: dict[str, Any],
        seconds: float = 0.0,
    ) -> tuple[Path, int]:
        """Choose a series' file for an episode of ``size`` bytes, and note it in ``row``.

        Returns:
            The file, and how many episodes that count it has already.
        """
        file_number = 0
        first_episode = len(self)
        size_known = 0
        files = self._options.chunk_files
        if self._last:
            last_place: list[Any] = [self._last.get(f"{series}/{name}") for name in PLACE_KEYS]
            chunk, file, first_episode, size_known = last_place
            file_number = chunk * files + file
            file_end_s = self._last.get(f"{series}/to_timestamp", 0.0)
            if series == EPISODES:  # of which another program's files can be read and go on
                first_episode = len(self) - self._rows_in_file
                size_known = size_known or 0
            elif self._was_edited or size_known is None:
                size_known = np.inf
            if size_known + size >= limit_mb * 2**20 or file_end_s + seconds > MAX_S:
                file_number = file_number + 1
                first_episode = len(self)
                size_known = 0
        new_place = (*divmod(file_number, files), first_episode, size_known + size)
        row |= {
            f"{series}/{name}": value for name, value in zip(PLACE_KEYS, new_place, strict=True)
        }
        return self._path(series, file_number), len(self) - first_episode

    def _path(self, series: str, number: int) -> Path:
        chunk, file = divmod(number, self._options.chunk_files)
        suffix = "mp4" if series.startswith("videos/") else "parquet"
        file_name = FILE.format(chunk_index=chunk, file_index=file)
        return self._folder / series / f"{file_name}.{suffix}"

    def _load_state(self, info: dict[str, Any]) -> None:
        """Load the state of an existing data set from its info.json and episode rows."""
        if info.get("codebase_version") != VERSION:
            raise EgoXInputError(
                f"robot data set {self._folder.name!r}",
                got="a set of another program or version",
                expected=f"one that EgoX wrote in LeRobot {VERSION}",
                fix="write another set",
            )
        self._info = info
        self._options = replace(self._options, chunk_files=info["chunks_size"])
        statistics = [f"stats/{key}/{name}" for key in info["features"] for name in NAMES]
        place_keys = [f"{series}/{name}" for series in (DATA, EPISODES) for name in PLACE_KEYS[:2]]
        file_numbers = numbers_from()
        has_hands = any(key in info["features"] for key in HAND_COLUMNS)
        required_keys = [key for key in COLUMNS if has_hands or key not in HAND_COLUMNS]
        missing_keys = [key for key in required_keys if key not in info["features"]]
        if unknown_keys := info["features"].keys() - {*COLUMNS, *VIDEOS}:
            raise self._edited_error(
                f"{', '.join(sorted(unknown_keys))} in it, which an episode hasn't"
            )
        while not missing_keys and (rows_left := info["total_episodes"] - len(self)):
            rows = read_rows(self._path(EPISODES, next(file_numbers)))[:rows_left]
            missing_keys = [key for key in (*place_keys, *statistics) if key not in rows[0]]
            for row in rows if not missing_keys else ():
                self._last = row
                if isinstance(name := row.get("egox/name"), str):
                    self._digests[name] = row["egox/made_from"]
                else:
                    self._unnamed_episodes += 1
                if np.any(row["stats/egox.ego_generated/max"]):
                    self._made_by.append(row.get("egox/made_by") or "")
                row_statistics = {
                    key: {name: np.array(row[f"stats/{key}/{name}"]) for name in NAMES}
                    for key in info["features"]
                }
                self._statistics = merge_statistics(self._statistics, row_statistics)
            self._episode_count, self._rows_in_file = len(self) + len(rows), len(rows)
        if missing_keys:
            more_text = f" and {len(missing_keys) - 3} more" if len(missing_keys) > 3 else ""
            raise self._edited_error(f"no {', '.join(missing_keys[:3])}{more_text} in it")
        # Its order is the numbers', which another program may have given otherwise.
        tasks = read_rows(self._folder / "meta" / "tasks.parquet")
        task_names = {row.pop("task_index"): str(*row.values()) for row in tasks}
        self._tasks = [task_names[number] for number in range(info["total_tasks"])]
        if self._last:
            chunk, file, first_episode, _ = (
                self._last.get(f"{DATA}/{name}") for name in PLACE_KEYS
            )
            row_group_count = row_groups(self._path(DATA, chunk * info["chunks_size"] + file))
            self._was_edited = first_episode is None or row_group_count < len(self) - first_episode

    def _edited_error(self, got: str) -> EgoXInputError:
        return EgoXInputError(
            f"robot data set {self._folder.name!r}",
            got=f"a set edited by another program: {got}",
            expected="all columns that EgoX writes, and no others",
            fix="write another set",
        )


def _statistics_json(statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    return {
        key: {name: feature_statistics[name].tolist() for name in NAMES}
        for key, feature_statistics in statistics.items()
    }


def _features(episode: Episode, gaps_text: str) -> dict[str, Any]:
    """Make the features of info.json for each video and column."""
    features = {
        key: video_feature(frames, kind, episode.fps)
        for key, (kind, frames) in episode.videos.items()
    }
    for key, (kind, names) in COLUMNS.items():
        if key in HAND_COLUMNS and key not in episode.columns:
            continue
        shape = [len(names) if names else 1]
        features[key] = {"dtype": kind, "shape": shape, "names": names and list(names)}
        if key in GAPS_COLUMNS:
            features[key]["info"] = {GAPS_KEY: gaps_text}
    return features


def _without_gaps(features: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Copy a feature without what it says of gaps, or return None if there is none."""
    feature = features.get(key)
    return {**feature, "info": None} if feature and key in GAPS_COLUMNS else feature
