"""Which source frame is entry i of? The answer of each door by which values per frame get in.

A video has 60 frames at 30 a second, of which 4 to 20 (17) are in use. Entry i says its own number, so
that the answer can be read back. The rows were declared before the code gave them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egox_core import stages
from egox_core.cameras import preset_camera
from egox_core.depth import fit_host_mask
from egox_core.errors import EgoXInputError
from egox_core.exchange import CameraFile
from egox_core.frames import FILE_FRAMES, FileFrames
from egox_core.hands import HandTrack, read_hands, write_hands
from egox_core.remarks import RemarkKind
from egox_core.trajectory import joined_points
from egox_core.types import CameraTrajectory
from egox_train.takes.head_files import _entries_of_frames, _numbering
from egox_train.takes.mask_files import MASK_KEY, check_mask, find_mask, read_mask
from lab.drawn.person import HAND
from tests.frames_in_use import frames_in_use

SIDE, TOTAL, FPS = 64, 60, 30.0
USED = range(4, 21)
FRAMES = frames_in_use(USED, (SIDE, SIDE), fps=FPS, total=TOTAL)
LENS = preset_camera("pinhole", SIDE)

# --- Declared ---------------------------------------------------------------------------------

COUNTS = (17, 21, 29, 30, 48, 57, 58, 59, 60, 61, 62, 63, 120)
IN_USE = tuple(range(17))  # entry i is the i-th frame in use
SOURCE = tuple(USED)  # entry i is frame i of the source
SECOND = tuple(n / 2 for n in USED)  # entry i is frame 2 i
NO = None  # refused
NOBODY = -1  # entry of a frame in which a detector saw nobody

FILE = (*(NO,) * 7, SOURCE, SOURCE, SOURCE, *(NO,) * 3)
MEMORY = (IN_USE, *FILE[1:])
NAMES = (IN_USE, NO, NO, SECOND, NO, NO, SOURCE, SOURCE, SOURCE, SOURCE, NO, NO, NO)
NUMBERS = (NO, *(SOURCE,) * 9, NO, NO, NO)
TIMES = (NO, *(SOURCE,) * 12)
# of another program: it has to end with the video
OTHER_CLOCK = (NO, *(SOURCE,) * 8, *(NO,) * 4)
SET_SOURCE = (NO, *(SOURCE,) * 12)
SET_IN_USE = (IN_USE, *(NO,) * 12)
HELD = ((*range(4, 17), *(16,) * 4), *(SOURCE,) * 12)  # a key's pose holds beyond the last
ALL_NO = (NO,) * 13
ALL_60 = (*(NO,) * 8, SOURCE, *(NO,) * 4)  # the numbers of all frames

BY_COUNT = ("one for each frame in use", "entry i is frame i of the video")
BY_NUMBER = (BY_COUNT[1], "read by number")
BY_NAME = ("is the first frame",)
BY_TIME = ("times from the video's start", "read by time")

REMARKS: Mapping[tuple, tuple[str, ...]] = {
    MEMORY: BY_COUNT,
    FILE: BY_COUNT,
    NAMES: BY_NAME,
    NUMBERS: BY_NUMBER,
    HELD: BY_NUMBER,
    TIMES: BY_TIME,
    OTHER_CLOCK: BY_TIME,
}
"""The rows of a door as it is, and the words of its remark, one of them."""

# --- The doors --------------------------------------------------------------------------------

Answer = tuple[list[float], list[str]]  # entries of the frames in use; remarks


def poses(count: int) -> np.ndarray:  # [count, 3, 4]
    w2c = np.tile(np.eye(4)[:3], (count, 1, 1))
    w2c[:, 0, 3] = -np.arange(count) / 64
    return w2c


def maps(count: int) -> np.ndarray:  # [count, SIDE, SIDE]
    return np.repeat(1 + np.arange(count, dtype=np.float32), SIDE * SIDE).reshape(-1, SIDE, SIDE)


def masks(count: int) -> np.ndarray:  # [count, SIDE, SIDE]
    marks = np.zeros((count, SIDE, SIDE), np.uint8)
    marks[np.arange(count), :, np.arange(count) % SIDE] = 1
    return marks


def centres(w2c: torch.Tensor) -> list[float]:
    return (-64 * w2c[:, 0, 3]).tolist()


def column(marks: torch.Tensor) -> list[float]:
    return marks.double().mean(1).argmax(1).tolist()


def frame_remarks(notes) -> list[str]:
    return [note.text for note in notes if note.kind == RemarkKind.FRAMES]


def aligned(depth: Any, **more: Any) -> Answer:
    made, report = stages.align(depth, frames=FRAMES, camera=LENS, **more)
    return (made.depth_m[:, 5, 5] - 1).tolist(), frame_remarks(report.notes)


def of_ego(made: CameraTrajectory) -> list[float]:
    return centres(made.ego.w2c)


def of_exo(made: CameraTrajectory) -> list[float]:
    return centres(made.known_exo.w2c)


def of_looks(made: CameraTrajectory) -> list[float]:
    ahead = made.ego.upright_w2c[:, 2]
    return (64 * ahead[:, 0] / ahead[:, 2]).tolist()


def path(source: Any, entries: Callable = of_ego, **more: Any) -> Answer:
    made, notes = stages.path(source, frames=FRAMES, **more)
    return entries(made), [notes.placed]


def written(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), "utf-8")
    return file


def ego_poses_in_memory(count, file_frames, folder):
    return path(poses(count), file_frames=file_frames)


def exo_poses_in_memory(count, file_frames, folder):
    more = {"exo_w2c": poses(count), "camera": LENS, "file_frames": file_frames}
    depth = maps(17 if file_frames != "source" else TOTAL)
    made, report = stages.align(depth, frames=FRAMES, **more)
    return centres(made.exo.w2c), frame_remarks(report.notes)[-1:]


def depth_in_memory(count, file_frames, folder):
    return aligned(maps(count), file_frames=file_frames)


def second_depth_in_memory(count, file_frames, folder):
    metric = np.full((17 if file_frames != "source" else TOTAL, SIDE, SIDE), 2, np.float32)
    metric[:, :, ::2] = 4
    more = {"video_depth": metric[0] * maps(count), "camera": LENS, "file_frames": file_frames}
    _, report = stages.align(metric, frames=FRAMES, **more)
    return (report.fit.fit_alpha - 1).tolist(), frame_remarks(report.notes)[-1:]


def mask_in_memory(count, file_frames, folder):
    made, report = stages.align(maps(17), frames=FRAMES, camera=LENS, dynamic_mask=masks(count))
    return column(made.dynamic), frame_remarks(report.notes)


def the_wearer_mask(count, file_frames, folder):
    mask, notes = fit_host_mask(masks(count), FRAMES, SIDE, SIDE, "mask of the wearer")
    return column(mask), frame_remarks(notes)


def key_points_in_memory(count, file_frames, folder):
    frame = {"canvas_width": 128, "canvas_height": 128}
    noses = [[number, 0.5, 0.9, *[0] * 51] for number in range(count)]
    bodies = [{**frame, "people": [{"pose_keypoints_2d": nose}]} for nose in noses]
    points, notes = joined_points({"POSE_KEYPOINT": bodies}, FRAMES)
    return points.uv[..., 0].nan_to_num(0).amax(1).tolist(), notes


def depth_npz(count, file_frames, folder):
    np.savez(folder / "depth.npz", depth_m=maps(count))
    return aligned(folder / "depth.npz", file_frames=file_frames)


def numbered_maps(count: int, first: int, folder: Path) -> Path:
    for number, each in enumerate(maps(count)[:, ::8, ::8], first):
        np.save(folder / f"{number:05d}.npy", each)
    return folder


def depth_folder_from_1(count, file_frames, folder):
    return aligned(numbered_maps(count, 1, folder), file_frames=file_frames)


def depth_folder_from_0(count, file_frames, folder):
    return aligned(numbered_maps(count, 0, folder), file_frames=file_frames)


def mask_npz(count, file_frames, folder):
    np.savez(folder / "a.npz", **{MASK_KEY: masks(count)})
    mask = find_mask(folder, "a", file_frames)
    return column(read_mask(mask, FRAMES)), frame_remarks([check_mask(mask, FRAMES)])


def meta(count: int, exo_count: int, folder: Path, **more: Any) -> Path:
    content = {
        "camera_intrinsics": LENS.intrinsics.tolist(),
        "ego_extrinsics": poses(count).tolist(),
    }
    content["camera_extrinsics"] = poses(exo_count).tolist()
    return written(folder / "meta.json", content | more)


def meta_json(count, file_frames, folder):
    return path(meta(count, 1, folder), file_frames=file_frames)


def meta_json_exo(count, file_frames, folder):
    content = meta(count if file_frames == "in use" else max(count, TOTAL), count, folder)
    return path(content, of_exo, file_frames=file_frames)


def meta_json_of_the_editor(count, file_frames, folder):
    return path(meta(count, 1, folder, pose_source="pose editor"), file_frames=file_frames)


def hands_json(count, file_frames, folder):
    right = HAND[:, [1, 0, 2]] - HAND[0, [1, 0, 2]]
    hands = np.tile(np.stack([right * [1, -1, 1], right]), (count, 1, 1, 1))
    hands[..., 2] += 1 + np.arange(count)[:, None, None] / 64
    write_hands(HandTrack.of_joints(torch.from_numpy(hands)), folder / "hands.json")
    track = read_hands(folder / "hands.json").in_use(FRAMES, file_frames)
    return (64 * (track.joints[:, 0, 0, 2] - 1)).tolist(), [track.note]


def key_points(places: list, file_frames: FileFrames) -> Answer:
    """Read key points as the command does, with all of a video's frames that have some."""
    frames = frames_in_use(range(TOTAL), (SIDE, SIDE), fps=FPS, total=TOTAL)
    numbering = _numbering("a", places).declared(file_frames)
    placed, notes = _entries_of_frames([*range(len(places))], NOBODY, frames, numbering)
    return placed[4:21], frame_remarks(notes)


def key_points_alone(count, file_frames, folder):
    return key_points([None] * count, file_frames)


def key_points_with_frame_idx(count, file_frames, folder):
    return key_points(list(range(count)), file_frames)


def exo_path(file: CameraFile, file_frames: FileFrames) -> Answer:
    depth, _ = stages.align(maps(17), frames=FRAMES, camera=LENS)
    made, note = file.of(depth, file_frames=file_frames)
    return centres(made.w2c), [note]


def c2w(count: int) -> np.ndarray:  # [count, 4, 4]
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 0, 3] = np.arange(count) / 64
    return matrices


def vipe_poses(count, file_frames, folder):
    np.savez(folder / "a.npz", data=c2w(count), inds=np.arange(count))
    return exo_path(CameraFile.read(folder / "a.npz"), file_frames)


def blender(count: int, folder: Path, **named: Callable[[int], object]) -> Path:
    frames = []
    for number, matrix in enumerate(c2w(count) @ np.diag([1, -1, -1, 1])):
        more = {key: name(number) for key, name in named.items()}
        frames.append({"transform_matrix": matrix.tolist(), **more})
    return written(folder / "transforms.json", {"fl_x": 60, "w": 64, "h": 64, "frames": frames})


def transforms_json(count, file_frames, folder):
    return path(blender(count, folder), file_frames=file_frames)


def transforms_json_with_times(count, file_frames, folder):
    file = blender(count, folder, time=lambda number: number / FPS)
    return path(file, file_frames=file_frames)


def transforms_json_with_names(count, file_frames, folder):
    file = blender(count, folder, file_path=lambda number: f"i{number:04d}.png")
    return path(file, file_frames=file_frames)


def ours(count: int, folder: Path, **more: Any) -> Path:
    content = {"format": "egox_trajectory", "times_s": (np.arange(count) / FPS).tolist()}
    return written(folder / "a.json", content | more)


def our_trajectory(count, file_frames, folder):
    camera = preset_camera("aria_released", SIDE).to_json()
    file = ours(count, folder, version=1, camera=camera, w2c=poses(count).tolist())
    return path(file, file_frames=file_frames)


def our_trajectory_exo(count, file_frames, folder):
    file = ours(count, folder, exo_w2c=poses(count).tolist())
    return exo_path(CameraFile.read(file), file_frames)


def gvhmr_poses_in_memory(count, file_frames, folder):
    w2c = poses(count)
    track = {"R_w2c": w2c[:, :, :3], "t_w2c": w2c[:, :, 3]}
    return exo_path(CameraFile.parse(track, "camera_track"), file_frames)


def keyframes_file(count, file_frames, folder):
    keys = [{"frame": n, "w2c": w2c} for n, w2c in enumerate(poses(count).tolist())]
    return path(written(folder / "a.json", keys), file_frames=file_frames)


def look_at_clicks(count, file_frames, folder):
    """Bend to what the clicks show: it holds before the first and after the last one."""
    looks = [{"frame": n, "point": [n, 0, 64]} for n in range(count)]
    document = {"keyframes": [{"frame": 0, "position": [0, 0, 0], "yaw_deg": 0}], "looks": looks}
    return path(written(folder / "a.json", document), of_looks, file_frames=file_frames)


def tum_text(count, file_frames, folder):
    rows = np.zeros((count, 8))
    rows[:, 0], rows[:, 1], rows[:, 7] = np.arange(count) / FPS, np.arange(count) / 64, 1
    np.savetxt(folder / "a.txt", rows)
    return path(folder / "a.txt", file_frames=file_frames)


# --- The table --------------------------------------------------------------------------------

DOORS: Sequence[tuple[tuple, tuple[Callable, ...]]] = (
    (
        (MEMORY, SET_SOURCE, SET_IN_USE),
        (ego_poses_in_memory, exo_poses_in_memory, depth_in_memory, second_depth_in_memory),
    ),
    # made of the frames in hand: there is nothing to set
    ((MEMORY, MEMORY, MEMORY), (mask_in_memory, the_wearer_mask, key_points_in_memory)),
    (
        (FILE, SET_SOURCE, SET_IN_USE),
        (depth_npz, depth_folder_from_1, mask_npz, meta_json, meta_json_exo, hands_json),
    ),
    # all frames that there are entries for are in use
    ((FILE, SET_SOURCE, OTHER_CLOCK), (key_points_alone,)),
    ((NUMBERS, NUMBERS, ALL_NO), (depth_folder_from_0, meta_json_of_the_editor, vipe_poses)),
    ((NUMBERS, NUMBERS, ALL_60), (key_points_with_frame_idx,)),
    (
        (NAMES, SET_SOURCE, SET_IN_USE),
        (transforms_json, transforms_json_with_names, gvhmr_poses_in_memory),
    ),
    ((OTHER_CLOCK, SET_SOURCE, SET_IN_USE), (tum_text, transforms_json_with_times)),
    # moments that a form of ours declares leave nothing to set
    ((TIMES, ALL_NO, ALL_NO), (our_trajectory, our_trajectory_exo)),
    ((HELD, ALL_NO, ALL_NO), (keyframes_file, look_at_clicks)),
)
"""A door's rows as it is, with the setting source, with in use; and the doors that have them."""


def opened(
    door: Callable, count: int, file_frames: FileFrames, folder: Path, words: tuple[str, ...]
) -> tuple | None:
    """Open the entries, None for a refusal that names what is to be declared."""
    folder.mkdir(parents=True)
    try:
        entries, notes = door(count, file_frames, folder)
    except EgoXInputError as error:
        assert "ix:" in str(error)
        return None
    if len(entries) < len(USED) or NOBODY in entries:
        return None
    assert any(word in note for note in notes for word in words), notes
    return tuple(round(entry, 2) for entry in entries)


@pytest.mark.parametrize(
    ("rows", "door"), [(rows, door) for rows, doors in DOORS for door in doors]
)
def test_a_door_reads_its_row(rows, door, tmp_path):
    words = REMARKS[rows[0]]
    for file_frames, row in zip(FILE_FRAMES, rows, strict=True):
        for count, expected in zip(COUNTS, row, strict=True):
            folder = tmp_path / file_frames / str(count)
            assert opened(door, count, file_frames, folder, words) == expected, (file_frames, count)
        words = (*BY_COUNT, *BY_NUMBER)


def test_there_are_no_other_rows():
    assert {rows[0] for rows, _ in DOORS} == REMARKS.keys()
