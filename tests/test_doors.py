"""Test which video frame each entry of an input file is assigned to.

A video has 60 frames at 30 a second, of which 4 to 20 (17) are in use. Entry i says its own number,
so that the answer can be read back. The rows were declared before the code gave them.
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
from egox_core.facts import Declared
from egox_core.frames import FILE_FRAMES, FileFrames
from egox_core.hands import HandTrack, read_hands, write_hands
from egox_core.remarks import RemarkKind
from egox_core.trajectory import joined_points
from egox_core.types import CameraTrajectory
from egox_train.takes.head_files import _entries_of_frames, _numbering
from egox_train.takes.mask_files import MASK_KEY, check_mask_file, find_mask, read_mask
from lab.drawn.person import HAND_JOINTS
from tests.frames_in_use import frames_in_use

FRAME_SIZE, VIDEO_FRAMES, FPS = 64, 60, 30.0
USED_FRAMES = range(4, 21)
FRAMES = frames_in_use(USED_FRAMES, (FRAME_SIZE, FRAME_SIZE), fps=FPS, total=VIDEO_FRAMES)
LENS = preset_camera("pinhole", FRAME_SIZE)

# --- Declared ---------------------------------------------------------------------------------

ENTRY_COUNTS = (17, 21, 29, 30, 48, 57, 58, 59, 60, 61, 62, 63, 120)
EXPECT_USED_FRAMES = tuple(range(17))  # entry i is the i-th frame in use
EXPECT_SOURCE_FRAMES = tuple(USED_FRAMES)  # entry i is frame i of the source
EXPECT_EVERY_SECOND = tuple(n / 2 for n in USED_FRAMES)  # entry i is frame 2 i
REFUSED = None  # refused
NO_PERSON = -1  # entry of a frame in which a detector saw nobody

FILE_ROW = (
    *(REFUSED,) * 7,
    EXPECT_SOURCE_FRAMES,
    EXPECT_SOURCE_FRAMES,
    EXPECT_SOURCE_FRAMES,
    *(REFUSED,) * 3,
)
MEMORY_ROW = (EXPECT_USED_FRAMES, *FILE_ROW[1:])
NAMES_ROW = (
    EXPECT_USED_FRAMES,
    REFUSED,
    REFUSED,
    EXPECT_EVERY_SECOND,
    REFUSED,
    REFUSED,
    EXPECT_SOURCE_FRAMES,
    EXPECT_SOURCE_FRAMES,
    EXPECT_SOURCE_FRAMES,
    EXPECT_SOURCE_FRAMES,
    REFUSED,
    REFUSED,
    REFUSED,
)
NUMBERS_ROW = (REFUSED, *(EXPECT_SOURCE_FRAMES,) * 9, REFUSED, REFUSED, REFUSED)
TIMES_ROW = (REFUSED, *(EXPECT_SOURCE_FRAMES,) * 12)
# of another program: it has to end with the video
OTHER_CLOCK_ROW = (REFUSED, *(EXPECT_SOURCE_FRAMES,) * 8, *(REFUSED,) * 4)
DECLARED_SOURCE_ROW = (REFUSED, *(EXPECT_SOURCE_FRAMES,) * 12)
DECLARED_USED_ROW = (EXPECT_USED_FRAMES, *(REFUSED,) * 12)
HELD_POSE_ROW = (
    (*range(4, 17), *(16,) * 4),
    *(EXPECT_SOURCE_FRAMES,) * 12,
)  # a key's pose holds beyond the last
REFUSED_ROW = (REFUSED,) * 13
ALL_FRAMES_ROW = (
    *(REFUSED,) * 8,
    EXPECT_SOURCE_FRAMES,
    *(REFUSED,) * 4,
)  # the numbers of all frames

COUNT_REMARKS = ("one for each frame in use", "one for each frame of the video")
NUMBER_REMARKS = (COUNT_REMARKS[1], "read by number")
FILE_NAME_REMARKS = ("is the first frame",)
TIMESTAMP_REMARKS = ("times from the video's start", "read by time")

REMARKS: Mapping[tuple, tuple[str, ...]] = {
    MEMORY_ROW: COUNT_REMARKS,
    FILE_ROW: COUNT_REMARKS,
    NAMES_ROW: FILE_NAME_REMARKS,
    NUMBERS_ROW: NUMBER_REMARKS,
    HELD_POSE_ROW: NUMBER_REMARKS,
    TIMES_ROW: TIMESTAMP_REMARKS,
    OTHER_CLOCK_ROW: TIMESTAMP_REMARKS,
}
"""Expected rows without a declaration, each with the texts of which its remark contains one."""

# --- The doors --------------------------------------------------------------------------------

Answer = tuple[list[float], list[str]]  # entries of the frames in use; remarks


def shifted_poses(count: int) -> np.ndarray:  # [count, 3, 4]
    w2c = np.tile(np.eye(4)[:3], (count, 1, 1))
    w2c[:, 0, 3] = -np.arange(count) / 64
    return w2c


def numbered_depth(count: int) -> np.ndarray:  # [count, SIDE, SIDE]
    return np.repeat(1 + np.arange(count, dtype=np.float32), FRAME_SIZE * FRAME_SIZE).reshape(
        -1, FRAME_SIZE, FRAME_SIZE
    )


def striped_masks(count: int) -> np.ndarray:  # [count, SIDE, SIDE]
    stripe_masks = np.zeros((count, FRAME_SIZE, FRAME_SIZE), np.uint8)
    stripe_masks[np.arange(count), :, np.arange(count) % FRAME_SIZE] = 1
    return stripe_masks


def read_pose_entries(w2c: torch.Tensor) -> list[float]:
    return (-64 * w2c[:, 0, 3]).tolist()


def read_mask_entries(stripes: torch.Tensor) -> list[float]:
    return stripes.double().mean(1).argmax(1).tolist()


def frame_remarks(notes) -> list[str]:
    return [note.text for note in notes if note.kind == RemarkKind.FRAMES]


def align_depth(depth: Any, **options: Any) -> Answer:
    aligned_depth, report = stages.align(depth, frames=FRAMES, camera=LENS, **options)
    return (aligned_depth.depth_m[:, 5, 5] - 1).tolist(), frame_remarks(report.notes)


def read_ego_entries(path: CameraTrajectory) -> list[float]:
    return read_pose_entries(path.ego.w2c)


def read_exo_entries(path: CameraTrajectory) -> list[float]:
    return read_pose_entries(path.required_exo.w2c)


def read_look_entries(path: CameraTrajectory) -> list[float]:
    forward_directions = path.ego.upright_w2c[:, 2]
    return (64 * forward_directions[:, 0] / forward_directions[:, 2]).tolist()


def read_ego_path(source: Any, read_entries: Callable = read_ego_entries, **options: Any) -> Answer:
    path, notes = stages.path(source, frames=FRAMES, **options)
    return read_entries(path), [notes.placed]


def write_json(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), "utf-8")
    return file


def ego_poses_in_memory(count, file_frames, folder):
    return read_ego_path(shifted_poses(count), file_frames=file_frames)


def exo_poses_in_memory(count, file_frames, folder):
    align_options = {"exo_w2c": shifted_poses(count), "camera": LENS, "file_frames": file_frames}
    depth_input = numbered_depth(17 if file_frames != "source" else VIDEO_FRAMES)
    aligned_depth, report = stages.align(depth_input, frames=FRAMES, **align_options)
    return read_pose_entries(aligned_depth.exo.w2c), frame_remarks(report.notes)[-1:]


def depth_in_memory(count, file_frames, folder):
    return align_depth(numbered_depth(count), file_frames=file_frames)


def second_depth_in_memory(count, file_frames, folder):
    metric_depth = np.full(
        (17 if file_frames != "source" else VIDEO_FRAMES, FRAME_SIZE, FRAME_SIZE), 2, np.float32
    )
    metric_depth[:, :, ::2] = 4
    align_options = {
        "video_depth": metric_depth[0] * numbered_depth(count),
        "camera": LENS,
        "file_frames": file_frames,
    }
    _, report = stages.align(metric_depth, frames=FRAMES, **align_options)
    return (report.fit.fit_alpha - 1).tolist(), frame_remarks(report.notes)[-1:]


def mask_in_memory(count, file_frames, folder):
    aligned_depth, report = stages.align(
        numbered_depth(17), frames=FRAMES, camera=LENS, dynamic_mask=striped_masks(count)
    )
    return read_mask_entries(aligned_depth.dynamic), frame_remarks(report.notes)


def wearer_mask_in_memory(count, file_frames, folder):
    mask, notes = fit_host_mask(
        striped_masks(count), FRAMES, FRAME_SIZE, FRAME_SIZE, "mask of the wearer"
    )
    return read_mask_entries(mask), frame_remarks(notes)


def key_points_in_memory(count, file_frames, folder):
    empty_frame = {"canvas_width": 128, "canvas_height": 128}
    nose_key_points = [[number, 0.5, 0.9, *[0] * 51] for number in range(count)]
    openpose_payload = [
        {**empty_frame, "people": [{"pose_keypoints_2d": nose_points}]}
        for nose_points in nose_key_points
    ]
    head_points, notes = joined_points({"POSE_KEYPOINT": openpose_payload}, FRAMES)
    return head_points.uv[..., 0].nan_to_num(0).amax(1).tolist(), notes


def depth_npz(count, file_frames, folder):
    np.savez(folder / "depth.npz", depth_m=numbered_depth(count))
    return align_depth(folder / "depth.npz", file_frames=file_frames)


def write_numbered_depth(count: int, first: int, folder: Path) -> Path:
    for number, depth_map in enumerate(numbered_depth(count)[:, ::8, ::8], first):
        np.save(folder / f"{number:05d}.npy", depth_map)
    return folder


def depth_folder_from_1(count, file_frames, folder):
    return align_depth(write_numbered_depth(count, 1, folder), file_frames=file_frames)


def depth_folder_from_0(count, file_frames, folder):
    return align_depth(write_numbered_depth(count, 0, folder), file_frames=file_frames)


def mask_npz(count, file_frames, folder):
    np.savez(folder / "a.npz", **{MASK_KEY: striped_masks(count)})
    mask_file = find_mask(folder, "a", file_frames)
    return read_mask_entries(read_mask(mask_file, FRAMES)), frame_remarks(
        [check_mask_file(mask_file, FRAMES)]
    )


def write_meta(count: int, exo_count: int, folder: Path, **more_entries: Any) -> Path:
    meta_content = {
        "camera_intrinsics": LENS.intrinsics.tolist(),
        "ego_extrinsics": shifted_poses(count).tolist(),
    }
    meta_content["camera_extrinsics"] = shifted_poses(exo_count).tolist()
    return write_json(folder / "meta.json", meta_content | more_entries)


def meta_json(count, file_frames, folder):
    return read_ego_path(write_meta(count, 1, folder), file_frames=file_frames)


def meta_json_exo(count, file_frames, folder):
    meta_file = write_meta(
        count if file_frames == "in use" else max(count, VIDEO_FRAMES), count, folder
    )
    return read_ego_path(meta_file, read_exo_entries, file_frames=file_frames)


def meta_json_of_the_editor(count, file_frames, folder):
    return read_ego_path(
        write_meta(count, 1, folder, pose_source="pose editor"), file_frames=file_frames
    )


def write_hands_file(count: int, folder: Path) -> None:
    right_hand = HAND_JOINTS[:, [1, 0, 2]] - HAND_JOINTS[0, [1, 0, 2]]
    hand_joints = np.tile(np.stack([right_hand * [1, -1, 1], right_hand]), (count, 1, 1, 1))
    hand_joints[..., 2] += 1 + np.arange(count)[:, None, None] / 64
    write_hands(HandTrack.of_joints(torch.from_numpy(hand_joints)), folder / "hands.json")


def hands_json(count, file_frames, folder):
    write_hands_file(count, folder)
    hand_track = read_hands(folder / "hands.json").in_use(FRAMES, file_frames)
    return (64 * (hand_track.joints[:, 0, 0, 2] - 1)).tolist(), [hand_track.note]


def hands_json_with_frame_idx(count, file_frames, folder):
    write_hands_file(count, folder)
    content = json.loads((folder / "hands.json").read_text("utf-8"))
    order = [*range(count)][::-1]
    content |= {"frame_idx": order}
    for key in ("joints", "reason"):
        content[key] = [content[key][number] for number in order]
    write_json(folder / "hands.json", content)
    hand_track = read_hands(folder / "hands.json").in_use(FRAMES, file_frames)
    return (64 * (hand_track.joints[:, 0, 0, 2] - 1)).tolist(), [hand_track.note]


def place_key_points(frame_numbers: list, file_frames: FileFrames) -> Answer:
    """Assign detected key points to the frames of a video."""
    frames = frames_in_use(
        range(VIDEO_FRAMES), (FRAME_SIZE, FRAME_SIZE), fps=FPS, total=VIDEO_FRAMES
    )
    numbering = _numbering("a", frame_numbers).declared(file_frames)
    placed_entries, notes = _entries_of_frames(
        [*range(len(frame_numbers))], NO_PERSON, frames, numbering
    )
    return placed_entries[4:21], frame_remarks(notes)


def key_points_alone(count, file_frames, folder):
    return place_key_points([None] * count, file_frames)


def key_points_with_frame_idx(count, file_frames, folder):
    return place_key_points(list(range(count)), file_frames)


def read_exo_path(file: CameraFile, file_frames: FileFrames) -> Answer:
    depth, _ = stages.align(numbered_depth(17), frames=FRAMES, camera=LENS)
    exo_path, note = file.settled(Declared(), "exo").for_depth(depth, file_frames=file_frames)
    return read_pose_entries(exo_path.w2c), [note]


def shifted_c2w(count: int) -> np.ndarray:  # [count, 4, 4]
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 0, 3] = np.arange(count) / 64
    return matrices


def vipe_poses(count, file_frames, folder):
    np.savez(folder / "a.npz", data=shifted_c2w(count), inds=np.arange(count))
    return read_exo_path(CameraFile.read(folder / "a.npz"), file_frames)


def write_transforms(count: int, folder: Path, **entry_functions: Callable[[int], object]) -> Path:
    frame_entries = []
    for frame_number, matrix in enumerate(shifted_c2w(count) @ np.diag([1, -1, -1, 1])):
        more_entries = {
            key: entry_function(frame_number) for key, entry_function in entry_functions.items()
        }
        frame_entries.append({"transform_matrix": matrix.tolist(), **more_entries})
    return write_json(
        folder / "transforms.json", {"fl_x": 60, "w": 64, "h": 64, "frames": frame_entries}
    )


def transforms_json(count, file_frames, folder):
    return read_ego_path(write_transforms(count, folder), file_frames=file_frames)


def transforms_json_with_times(count, file_frames, folder):
    file = write_transforms(count, folder, time=lambda number: number / FPS)
    return read_ego_path(file, file_frames=file_frames)


def transforms_json_with_names(count, file_frames, folder):
    file = write_transforms(count, folder, file_path=lambda number: f"i{number:04d}.png")
    return read_ego_path(file, file_frames=file_frames)


def write_egox_trajectory(count: int, folder: Path, **more_entries: Any) -> Path:
    trajectory_json = {"format": "egox_trajectory", "times_s": (np.arange(count) / FPS).tolist()}
    return write_json(folder / "a.json", trajectory_json | more_entries)


def egox_trajectory(count, file_frames, folder):
    camera_json = preset_camera("aria_released", FRAME_SIZE).to_json()
    trajectory_file = write_egox_trajectory(
        count, folder, version=1, camera=camera_json, w2c=shifted_poses(count).tolist()
    )
    return read_ego_path(trajectory_file, file_frames=file_frames)


def egox_trajectory_exo(count, file_frames, folder):
    trajectory_file = write_egox_trajectory(count, folder, exo_w2c=shifted_poses(count).tolist())
    return read_exo_path(CameraFile.read(trajectory_file), file_frames)


def gvhmr_poses_in_memory(count, file_frames, folder):
    w2c = shifted_poses(count)
    gvhmr_payload = {"R_w2c": w2c[:, :, :3], "t_w2c": w2c[:, :, 3]}
    return read_exo_path(CameraFile.parse(gvhmr_payload, "camera_track"), file_frames)


def keyframes_file(count, file_frames, folder):
    keyframes = [{"frame": n, "w2c": w2c} for n, w2c in enumerate(shifted_poses(count).tolist())]
    return read_ego_path(write_json(folder / "a.json", keyframes), file_frames=file_frames)


def look_at_clicks(count, file_frames, folder):
    """Read a camera path that looks at clicked points, and return its viewing directions."""
    look_entries = [{"frame": n, "point": [n, 0, 64]} for n in range(count)]
    keyframe_document = {
        "keyframes": [{"frame": 0, "position": [0, 0, 0], "yaw_deg": 0}],
        "looks": look_entries,
    }
    return read_ego_path(
        write_json(folder / "a.json", keyframe_document), read_look_entries, file_frames=file_frames
    )


def tum_text(count, file_frames, folder):
    tum_rows = np.zeros((count, 8))
    tum_rows[:, 0] = np.arange(count) / FPS
    tum_rows[:, 1] = np.arange(count) / 64
    tum_rows[:, 7] = 1
    np.savetxt(folder / "a.txt", tum_rows)
    return read_ego_path(folder / "a.txt", file_frames=file_frames)


# --- The table --------------------------------------------------------------------------------

EXPECTED_ROWS: Sequence[tuple[tuple, tuple[Callable, ...]]] = (
    (
        (MEMORY_ROW, DECLARED_SOURCE_ROW, DECLARED_USED_ROW),
        (ego_poses_in_memory, exo_poses_in_memory, depth_in_memory, second_depth_in_memory),
    ),
    # computed from the frames in use, so nothing is to be declared
    (
        (MEMORY_ROW, MEMORY_ROW, MEMORY_ROW),
        (mask_in_memory, wearer_mask_in_memory, key_points_in_memory),
    ),
    (
        (FILE_ROW, DECLARED_SOURCE_ROW, DECLARED_USED_ROW),
        (depth_npz, depth_folder_from_1, mask_npz, meta_json, meta_json_exo, hands_json),
    ),
    # all frames with entries are in use
    ((FILE_ROW, DECLARED_SOURCE_ROW, OTHER_CLOCK_ROW), (key_points_alone,)),
    (
        (NUMBERS_ROW, NUMBERS_ROW, REFUSED_ROW),
        (depth_folder_from_0, meta_json_of_the_editor, vipe_poses, hands_json_with_frame_idx),
    ),
    ((NUMBERS_ROW, NUMBERS_ROW, ALL_FRAMES_ROW), (key_points_with_frame_idx,)),
    (
        (NAMES_ROW, DECLARED_SOURCE_ROW, DECLARED_USED_ROW),
        (transforms_json, transforms_json_with_names, gvhmr_poses_in_memory),
    ),
    (
        (OTHER_CLOCK_ROW, DECLARED_SOURCE_ROW, DECLARED_USED_ROW),
        (tum_text, transforms_json_with_times),
    ),
    # files in EgoX's form contain times, so nothing is to be declared
    ((TIMES_ROW, REFUSED_ROW, REFUSED_ROW), (egox_trajectory, egox_trajectory_exo)),
    ((HELD_POSE_ROW, REFUSED_ROW, REFUSED_ROW), (keyframes_file, look_at_clicks)),
)
"""Expected rows without declaration, declared as source and as used frames, with their input
forms."""


def read_entries_of_used_frames(
    read_input: Callable,
    count: int,
    file_frames: FileFrames,
    folder: Path,
    remark_texts: tuple[str, ...],
) -> tuple | None:
    """Read the entries of an input for the frames in use, or return None if it is refused."""
    folder.mkdir(parents=True)
    try:
        entries, notes = read_input(count, file_frames, folder)
    except EgoXInputError as error:
        assert "ix:" in str(error)
        return None
    if len(entries) < len(USED_FRAMES) or NO_PERSON in entries:
        return None
    assert any(word in note for note in notes for word in remark_texts), notes
    return tuple(round(entry, 2) for entry in entries)


@pytest.mark.parametrize(
    ("expected_rows", "read_input"),
    [(expected_rows, read_input) for expected_rows, doors in EXPECTED_ROWS for read_input in doors],
)
def test_input_form_gives_the_declared_entries(expected_rows, read_input, tmp_path):
    remark_texts = REMARKS[expected_rows[0]]
    for file_frames, expected_row in zip(FILE_FRAMES, expected_rows, strict=True):
        for count, expected in zip(ENTRY_COUNTS, expected_row, strict=True):
            folder = tmp_path / file_frames / str(count)
            assert (
                read_entries_of_used_frames(read_input, count, file_frames, folder, remark_texts)
                == expected
            ), (file_frames, count)
        remark_texts = (*COUNT_REMARKS, *NUMBER_REMARKS)
