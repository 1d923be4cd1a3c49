"""Which source frame is entry i of? The answer of each door by which values per frame get in.

A video has 60 frames at 30 a second, of which 4 to 20 (17) are in use. Entry i says its own number, so
that the answer can be read back. The rows were declared before the code gave them.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from egox_core import stages
from egox_core.cameras import preset_camera
from egox_core.depth import fit_host_mask
from egox_core.errors import EgoXInputError
from egox_core.exchange import CameraFile
from egox_core.frames import FileFrames
from egox_core.hands import HandTrack, read_hands, write_hands
from egox_core.remarks import RemarkKind
from egox_core.trajectory import joined_points
from egox_train.takes.head_files import _entries_of_frames, _numbering
from egox_train.takes.mask_files import MASK_KEY, check_mask, find_mask, read_mask
from lab.drawn.person import HAND
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

SIDE, TOTAL, FPS = 64, 60, 30.0
USED = range(4, 21)
FRAMES = frames_in_use(USED, (SIDE, SIDE), fps=FPS, total=TOTAL)
K = np.array([[60, 0, 31.5], [0, 60, 31.5], [0, 0, 1.0]])

# --- Declared ---------------------------------------------------------------------------------

COUNTS = (17, 21, 29, 30, 48, 57, 58, 59, 60, 61, 62, 63, 120)
IN_USE = tuple(range(17))  # entry i is the i-th frame in use
SOURCE = tuple(USED)  # entry i is frame i of the source
SECOND = tuple(n / 2 for n in USED)  # entry i is frame 2 i
NO = None  # refused

MEMORY = (IN_USE, NO, NO, NO, NO, NO, NO, SOURCE, SOURCE, SOURCE, NO, NO, NO)
FILE = (NO, NO, NO, NO, NO, NO, NO, SOURCE, SOURCE, SOURCE, NO, NO, NO)
NAMES = (IN_USE, NO, NO, SECOND, NO, NO, SOURCE, SOURCE, SOURCE, SOURCE, NO, NO, NO)
NUMBERS = (NO, *(SOURCE,) * 9, NO, NO, NO)
TIMES = (NO, *(SOURCE,) * 12)
OTHER_CLOCK = (
    NO,
    *(SOURCE,) * 8,
    NO,
    NO,
    NO,
    NO,
)  # of another program: it has to end with the video
SET_SOURCE = (NO, *(SOURCE,) * 12)
SET_IN_USE = (IN_USE, *(NO,) * 12)
HELD = ((*range(4, 17), *(16,) * 4), *(SOURCE,) * 12)  # a key's pose holds beyond the last
ALL_NO = (NO,) * 13
SET_WHOLE = (*(NO,) * 8, SOURCE, *(NO,) * 4)  # the numbers of all frames
SET_ALL = OTHER_CLOCK  # all frames that there are entries for are in use

AS_SET = SET_SOURCE, SET_IN_USE
DECLARED = ALL_NO, ALL_NO  # moments that a form of ours declares leave nothing to set
NOTHING = MEMORY, MEMORY  # made of the frames in hand: there is nothing to set


BY_COUNT = ("one for each frame in use", "entry i is frame i of the video")
BY_NUMBER = (*BY_COUNT[1:], "read by number")
BY_NAME = ("is the first frame",)
BY_TIME = ("times from the video's start", "read by time")


class Door(NamedTuple):
    """A door's rows: as it is, with the setting source, with in use."""

    auto: tuple
    source: tuple
    in_use: tuple
    words: tuple[str, ...] = BY_COUNT


DOORS: Mapping[str, Door] = {
    "ego poses in memory": Door(MEMORY, *AS_SET),
    "exo poses in memory": Door(MEMORY, *AS_SET),
    "depth in memory": Door(MEMORY, *AS_SET),
    "second depth in memory": Door(MEMORY, *AS_SET),
    "mask in memory": Door(MEMORY, *NOTHING),
    "the wearer's mask": Door(MEMORY, *NOTHING),
    "key points in memory": Door(MEMORY, *NOTHING),
    "depth.npz": Door(FILE, *AS_SET),
    "depth folder from 1": Door(FILE, *AS_SET),
    "depth folder from 0": Door(NUMBERS, NUMBERS, ALL_NO, BY_NUMBER),
    "mask.npz": Door(FILE, *AS_SET),
    "meta.json": Door(FILE, *AS_SET),
    "meta.json, exo": Door(FILE, *AS_SET),
    "meta.json of the editor": Door(NUMBERS, NUMBERS, ALL_NO, BY_NUMBER),
    "hands": Door(FILE, *AS_SET),
    "key points": Door(FILE, SET_SOURCE, SET_ALL),
    "key points with frame_idx": Door(NUMBERS, NUMBERS, SET_WHOLE, BY_NUMBER),
    "ViPE's poses": Door(NUMBERS, NUMBERS, ALL_NO, BY_NUMBER),
    "transforms.json": Door(NAMES, *AS_SET, BY_NAME),
    "transforms.json with names": Door(NAMES, *AS_SET, BY_NAME),
    "our trajectory": Door(TIMES, *DECLARED, BY_TIME),
    "our trajectory, exo": Door(TIMES, *DECLARED, BY_TIME),
    "TUM's text": Door(OTHER_CLOCK, *AS_SET, BY_TIME),
    "transforms.json with times": Door(OTHER_CLOCK, *AS_SET, BY_TIME),
    "GVHMR's poses in memory": Door(NAMES, *AS_SET, BY_NAME),
    "keyframes": Door(HELD, *DECLARED, BY_NUMBER),
}

# --- The doors --------------------------------------------------------------------------------

Answer = tuple[list[float], list[str]]  # entries of the frames in use; remarks
OPENED: dict[str, Callable[[int, FileFrames, Path], Answer]] = {}


def door(name: str) -> Callable:
    def kept(function: Callable) -> Callable:
        OPENED[name] = function
        return function

    return kept


def poses(count: int) -> np.ndarray:  # [count, 3, 4]
    w2c = np.tile(np.eye(4)[:3], (count, 1, 1))
    w2c[:, 0, 3] = -np.arange(count) / 64
    return w2c


@cache
def maps(count: int) -> np.ndarray:  # [count, SIDE, SIDE]
    return np.repeat(1 + np.arange(count, dtype=np.float32), SIDE * SIDE).reshape(-1, SIDE, SIDE)


@cache
def masks(count: int) -> np.ndarray:  # [count, SIDE, SIDE]
    marks = np.zeros((count, SIDE, SIDE), np.uint8)
    marks[np.arange(count), :, np.arange(count) % SIDE] = 1
    return marks


def centres(w2c: torch.Tensor) -> list[float]:
    return (-64 * w2c[:, 0, 3]).tolist()


def column(marks: torch.Tensor) -> list[float]:
    return marks.double().mean(1).argmax(1).tolist()


def said(notes) -> list[str]:
    return [note.text for note in notes if note.kind == RemarkKind.FRAMES]


def aligned(depth: Any, **more: Any) -> Answer:
    aligned_depth, report = stages.align(depth, frames=FRAMES, camera=K, **more)
    return (aligned_depth.depth_m[:, 5, 5] - 1).tolist(), said(report.notes)


def path(source: Any, *, of_exo: bool = False, **more: Any) -> Answer:
    made_path, notes = stages.path(source, frames=FRAMES, **more)
    return centres(made_path.known_exo.w2c if of_exo else made_path.ego.w2c), [notes.placed]


def written(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), "utf-8")
    return file


@door("ego poses in memory")
def _(count, file_frames, folder):
    return path(poses(count), file_frames=file_frames)


@door("exo poses in memory")
def _(count, file_frames, folder):
    more = {"exo_w2c": poses(count), "camera": K, "file_frames": file_frames}
    depth = maps(17 if file_frames != "source" else TOTAL)
    made, report = stages.align(depth, frames=FRAMES, **more)
    return centres(made.exo.w2c), said(report.notes)[-1:]


@door("depth in memory")
def _(count, file_frames, folder):
    return aligned(maps(count), file_frames=file_frames)


@door("second depth in memory")
def _(count, file_frames, folder):
    metric = np.full((17 if file_frames != "source" else TOTAL, SIDE, SIDE), 2, np.float32)
    metric[:, :, ::2] = 4
    steady = np.where(metric[:1] > 3, maps(count) + 1, maps(count)) / 1.0
    more = {"video_depth": steady, "camera": K, "file_frames": file_frames}
    _, report = stages.align(metric, frames=FRAMES, **more)
    fits = report.fit  # inverse depths of a map n, n + 1 against 1/4, 1/2
    entries = -0.5 + np.sqrt(0.25 + 4 * fits.fit_alpha.numpy()) - 1
    return entries.round(3).tolist(), said(report.notes)[-1:]


@door("mask in memory")
def _(count, file_frames, folder):
    made, report = stages.align(maps(17), frames=FRAMES, camera=K, dynamic_mask=masks(count))
    return column(made.dynamic), said(report.notes)


@door("the wearer's mask")
def _(count, file_frames, folder):
    mask, notes = fit_host_mask(masks(count), FRAMES, SIDE, SIDE, "mask of the wearer")
    return column(mask), said(notes)


@door("key points in memory")
def _(count, file_frames, folder):
    bodies = []
    for number in range(count):
        body = [0.0] * 54
        body[:3] = number, 0.5, 0.9  # the nose
        people = [{"pose_keypoints_2d": body}]
        bodies.append({"people": people, "canvas_width": 128, "canvas_height": 128})
    points, notes = joined_points({"POSE_KEYPOINT": bodies}, FRAMES)
    return points.uv[..., 0].nan_to_num(0).amax(1).tolist(), list(notes)


@door("depth.npz")
def _(count, file_frames, folder):
    np.savez(folder / "depth.npz", depth_m=maps(count))
    return aligned(folder / "depth.npz", file_frames=file_frames)


def numbered_maps(count: int, first: int, folder: Path) -> Path:
    for number, each in enumerate(maps(count)[:, ::8, ::8], first):
        np.save(folder / f"{number:05d}.npy", each)
    return folder


@door("depth folder from 1")
def _(count, file_frames, folder):
    return aligned(numbered_maps(count, 1, folder), file_frames=file_frames)


@door("depth folder from 0")
def _(count, file_frames, folder):
    return aligned(numbered_maps(count, 0, folder), file_frames=file_frames)


@door("mask.npz")
def _(count, file_frames, folder):
    np.savez(folder / "a.npz", **{MASK_KEY: masks(count)})
    mask = find_mask(folder, "a", file_frames)
    return column(read_mask(mask, FRAMES)), said([check_mask(mask, FRAMES)])


def meta(count: int, exo_count: int, folder: Path, **more: Any) -> Path:
    content = {"camera_intrinsics": K.tolist(), "ego_extrinsics": poses(count).tolist()}
    content["camera_extrinsics"] = poses(exo_count).tolist()
    return written(folder / "meta.json", content | more)


@door("meta.json")
def _(count, file_frames, folder):
    return path(meta(count, 1, folder), file_frames=file_frames)


@door("meta.json, exo")
def _(count, file_frames, folder):
    content = meta(count if file_frames == "in use" else max(count, TOTAL), count, folder)
    return path(content, of_exo=True, file_frames=file_frames)


@door("meta.json of the editor")
def _(count, file_frames, folder):
    return path(meta(count, 1, folder, pose_source="pose editor"), file_frames=file_frames)


def hands_file(count: int, folder: Path) -> Path:
    right = HAND[:, [1, 0, 2]] - HAND[0, [1, 0, 2]]
    hands = np.tile(np.stack([right * [1, -1, 1], right]), (count, 1, 1, 1))
    hands[..., 2] += 1 + np.arange(count)[:, None, None] / 64
    write_hands(HandTrack.of_joints(torch.from_numpy(hands)), folder / "hands.json")
    return folder / "hands.json"


@door("hands")
def _(count, file_frames, folder):
    track = read_hands(hands_file(count, folder)).in_use(FRAMES, file_frames)
    return (64 * (track.joints[:, 0, 0, 2] - 1)).tolist(), [track.note]


def key_points(places: list, file_frames: FileFrames) -> Answer:
    """Read key points as the command does, with all of a video's frames that have some."""
    frames = frames_in_use(range(TOTAL), (SIDE, SIDE), fps=FPS, total=TOTAL)
    entries = list(range(len(places)))
    numbering = _numbering("a", places).declared(file_frames)
    placed, notes = _entries_of_frames(entries, None, frames, numbering)
    used_entries = placed[4:21]
    if len(used_entries) < 17 or None in used_entries:
        raise EgoXInputError("a", got="nobody there", expected="somebody", fix="none")
    return used_entries, said(notes)


@door("key points")
def _(count, file_frames, folder):
    return key_points([None] * count, file_frames)


@door("key points with frame_idx")
def _(count, file_frames, folder):
    return key_points(list(range(count)), file_frames)


def exo_path(file: CameraFile, file_frames: FileFrames) -> Answer:
    depth, _ = stages.align(maps(17), frames=FRAMES, camera=K)
    exo_cameras, note = file.of(depth, file_frames=file_frames)
    return centres(exo_cameras.w2c), [note]


@door("ViPE's poses")
def _(count, file_frames, folder):
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, 0, 3] = np.arange(count) / 64
    np.savez(folder / "a.npz", data=c2w, inds=np.arange(count))
    return exo_path(CameraFile.read(folder / "a.npz"), file_frames)


def blender(count: int, folder: Path, **named: Callable[[int], str]) -> Path:
    frames = []
    for number in range(count):
        matrix = np.diag([1.0, -1, -1, 1])
        matrix[0, 3] = number / 64
        frames.append({key: name(number) for key, name in named.items()})
        frames[-1]["transform_matrix"] = matrix.tolist()
    return written(folder / "transforms.json", {"fl_x": 60, "w": 64, "h": 64, "frames": frames})


@door("transforms.json")
def _(count, file_frames, folder):
    return path(blender(count, folder), file_frames=file_frames)


@door("transforms.json with times")
def _(count, file_frames, folder):
    file = blender(count, folder, time=lambda number: number / FPS)
    return path(file, file_frames=file_frames)


@door("transforms.json with names")
def _(count, file_frames, folder):
    file = blender(count, folder, file_path=lambda number: f"i{number:04d}.png")
    return path(file, file_frames=file_frames)


@door("our trajectory")
def _(count, file_frames, folder):
    content = {
        "format": "egox_trajectory",
        "version": 1,
        "camera": preset_camera("aria_released", SIDE).to_json(),
        "times_s": (np.arange(count) / FPS).tolist(),
        "w2c": poses(count).tolist(),
    }
    return path(written(folder / "a.json", content), file_frames=file_frames)


@door("our trajectory, exo")
def _(count, file_frames, folder):
    content = {"format": "egox_trajectory", "times_s": (np.arange(count) / FPS).tolist()}
    file = written(folder / "a.json", content | {"exo_w2c": poses(count).tolist()})
    return exo_path(CameraFile.read(file), file_frames)


@door("GVHMR's poses in memory")
def _(count, file_frames, folder):
    w2c = poses(count)
    track = {"R_w2c": w2c[:, :, :3], "t_w2c": w2c[:, :, 3]}
    return exo_path(CameraFile.parse(track, "camera_track"), file_frames)


@door("keyframes")
def _(count, file_frames, folder):
    keys = [{"frame": n, "w2c": w2c} for n, w2c in enumerate(poses(count).tolist())]
    made, notes = stages.path(
        written(folder / "a.json", keys), frames=FRAMES, file_frames=file_frames
    )
    return centres(made.ego.w2c), [notes.placed]


@door("TUM's text")
def _(count, file_frames, folder):
    rows = np.zeros((count, 8))
    rows[:, 0], rows[:, 1], rows[:, 7] = np.arange(count) / FPS, np.arange(count) / 64, 1
    np.savetxt(folder / "a.txt", rows)
    return path(folder / "a.txt", file_frames=file_frames)


# --- The table --------------------------------------------------------------------------------


def opened(name: str, count: int, file_frames: FileFrames, folder: Path) -> tuple | None:
    """Open the entries, None for a refusal that names what is to be declared."""
    folder.mkdir(parents=True)
    try:
        entries, notes = OPENED[name](count, file_frames, folder)
    except EgoXInputError as error:
        assert "ix:" in str(error)
        return None
    words = DOORS[name].words if file_frames == "auto" else (*BY_COUNT, *BY_NUMBER)
    assert any(word in note for note in notes for word in words), notes
    return tuple(round(entry, 2) for entry in entries)


@pytest.mark.parametrize("name", DOORS)
def test_a_door_reads_its_row(name, tmp_path):
    rows = {"auto": DOORS[name].auto, "source": DOORS[name].source, "in use": DOORS[name].in_use}
    for file_frames, row in rows.items():
        for count, expected in zip(COUNTS, row, strict=True):
            answer = opened(name, count, file_frames, tmp_path / file_frames / str(count))
            assert answer == expected, (file_frames, count)


def test_each_door_is_opened():
    assert OPENED.keys() == DOORS.keys()
    assert {door.auto for door in DOORS.values()} == {
        MEMORY,
        FILE,
        NAMES,
        NUMBERS,
        TIMES,
        OTHER_CLOCK,
        HELD,
    }


def test_a_spacing_and_a_declaration_are_one_too_many(tmp_path):
    file = blender(30, tmp_path, file_path=lambda number: f"i{number:04d}.png")
    assert path(file, every_nth=-2)[0] == list(SECOND)
    with refuses("every_nth -2 and file_frames 'source'"):
        path(file, every_nth=-2, file_frames="source")
