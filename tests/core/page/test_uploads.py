"""Test files that are uploaded from a browser."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from egox_core.file_names import PRIOR, TRUTH
from egox_core.page.uploads import find_take_files, name_of_upload, use_as_truth
from egox_core.safe_files import write_json
from egox_core.takes.depth_readers import open_depth
from egox_train.video_writer import write_video
from tests.paths import ROOT
from tests.refusals import refuses

FRAME_COUNT, HEIGHT, WIDTH = 5, 16, 32
DEPTH = np.ones((FRAME_COUNT, HEIGHT, WIDTH), np.float16)
META_CONTENT = {
    "camera_intrinsics": [[20, 0, WIDTH / 2], [0, 20, HEIGHT / 2], [0, 0, 1]],
    "camera_extrinsics": np.eye(3, 4).tolist(),
    "ego_extrinsics": np.eye(3, 4)[None].repeat(FRAME_COUNT, 0).tolist(),
}


def write_files(folder: Path, *names: str) -> Path:
    """Write the files of a take into a folder, each with contents that suit its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".mp4", ".lrv"):
            pytest.importorskip("av", reason="decodes video")
            video = path.with_suffix(".mp4")
            write_video(video, torch.zeros(FRAME_COUNT, HEIGHT, WIDTH, 3, dtype=torch.uint8), 20.0)
            video.rename(path)
        elif path.suffix == ".npz":
            np.savez_compressed(path, depth_m=DEPTH)
        elif path.suffix == ".npy":
            np.save(
                path, DEPTH[0] if any(character.isdigit() for character in path.stem) else DEPTH
            )
        elif path.suffix == ".png":
            cv2.imwrite(str(path), np.full((HEIGHT, WIDTH), 1000, np.uint16))
        elif path.name == "path.json":
            write_json(path, [{"time_s": 0, "position": [0, 0, 1], "look_at": [1, 0, 1]}])
        elif path.name == "config.json":
            path.write_text('{"batch": 1}', "utf-8")
        else:
            write_json(path, META_CONTENT)
    return folder


@pytest.mark.parametrize(
    ("names", "expected_files"),
    [
        (("depth.npz",), {"depth": "depth.npz"}),
        (("my depth.npy",), {"depth": "my depth.npy"}),
        (("0001.npy", "0002.npy", "0003.npy"), {"depth": "."}),
        (
            ("maps/00.png", "maps/01.png", "meta.json"),
            {"depth": "maps", "camera": "meta.json", "poses": "meta.json"},
        ),
        (("meta.json",), {"camera": "meta.json", "poses": "meta.json"}),
        (("path.json",), {"poses": "path.json"}),
        (
            (
                "exo.mp4",
                "ego_ground_truth.mp4",
                "ego_prior.mp4",
                "depth.npz",
                "coverage.npz",
                "other.npz",
                "meta.json",
                "config.json",
                "hands.json",
            ),
            {
                "video": "exo.mp4",
                "depth": "depth.npz",
                "camera": "meta.json",
                "poses": "meta.json",
                "hands": "hands.json",
            },
        ),
        (("depth.npz", "hands.json"), {"depth": "depth.npz"}),
        (("holiday.mp4",), {"video": "holiday.mp4"}),
        (("GL010001.lrv",), {"video": "GL010001.lrv"}),
        (("exo.mp4", "second.mp4"), {"video": "exo.mp4"}),
        (("GL010001.lrv", "GX010001.mp4"), {"video": "GX010001.mp4"}),
    ],
)
def test_kinds_of_uploaded_files_are_recognised(tmp_path, names, expected_files):
    folder = write_files(tmp_path / "take", *names)
    take_files = find_take_files(folder)
    assert {
        kind: path.relative_to(folder).as_posix()
        for kind in ("video", "depth", "camera", "poses", "hands")
        if (path := getattr(take_files, kind)) is not None
    } == expected_files
    assert take_files.frames == (FRAME_COUNT if "video" in expected_files else 0)
    if "depth" in expected_files:
        with open_depth(take_files.depth) as depth:
            assert take_files.depth_frames == depth.numbering.count > 1
    ignored_names = ("GL010001.lrv", PRIOR, "second.mp4", "other.npz", "config.json", "hands.json")
    used_names = expected_files.values()
    assert take_files.unused == tuple(
        name for name in ignored_names if name in names and name not in used_names
    )


def test_ego_video_without_an_exo_video_is_remarked(tmp_path):
    take_files = find_take_files(write_files(tmp_path / "take", TRUTH, "depth.npz", "meta.json"))
    assert (
        take_files.video is None
        and take_files.truth.name == TRUTH
        and take_files.unused == (TRUTH,)
    )
    with refuses(TRUTH):
        find_take_files(write_files(tmp_path / "alone", TRUTH))


@pytest.mark.parametrize("names", [("kitchen.mp4", "a head.mp4"), ("exo.mp4", "ego.mp4")])
def test_video_of_a_moving_camera_is_not_the_exo_video(tmp_path, names):
    pytest.importorskip("av", reason="decodes video")
    sample_folder = ROOT / "sample" / "calm_room"
    exo_file, ego_file = (tmp_path / name for name in names)
    shutil.copy(sample_folder / "exo.mp4", exo_file)
    shutil.copy(sample_folder / "ego_ground_truth.mp4", ego_file)
    take_files = find_take_files(tmp_path)
    assert (take_files.video, take_files.turning, take_files.unused) == (exo_file, ego_file, ())
    slow_file = tmp_path / "slow.mp4"
    write_video(slow_file, torch.zeros(FRAME_COUNT, HEIGHT, WIDTH, 3, dtype=torch.uint8), 5.0)
    with refuses("5 frames per second"):
        use_as_truth(slow_file, exo_file)
    slow_file.unlink()
    use_as_truth(ego_file, exo_file)
    assert find_take_files(tmp_path).turning is None
    assert not ego_file.exists()
    assert (tmp_path / TRUTH).read_bytes() == (sample_folder / TRUTH).read_bytes()


@pytest.mark.parametrize(
    ("content", "name", "is_asked"),
    [(TRUTH, "clip.mp4", True), (TRUTH, "exo.mp4", False), ("exo.mp4", "clip.mp4", False)],
)
def test_a_head_cameras_video_alone_is_asked_about(tmp_path, content, name, is_asked):
    pytest.importorskip("av", reason="decodes video")
    shutil.copy(ROOT / "sample" / "calm_room" / content, tmp_path / name)
    take_files = find_take_files(tmp_path)
    assert take_files.video == tmp_path / name
    assert take_files.turning == (tmp_path / name if is_asked else None)


def test_folders_that_are_no_take_are_refused(tmp_path):
    pickled_folder = tmp_path / "pickled"
    pickled_folder.mkdir()
    np.savez(pickled_folder / "depth.npz", depth_m=DEPTH, names=np.array([{}], dtype=object))
    (tmp_path / "empty").mkdir()
    broken_folder = write_files(tmp_path / "broken", "exo.mp4", "depth.npz")
    (broken_folder / "meta.json").write_text("{", "utf-8")

    for folder, message in (
        (pickled_folder, "pickled"),
        (tmp_path / "empty", "no file of a take"),
        (broken_folder, "not JSON"),
        (write_files(tmp_path / "config", "config.json"), "ego_extrinsics"),
        (write_files(tmp_path / "two", "a.mp4", "b.mp4"), "2: a.mp4, b.mp4"),
        (write_files(tmp_path / "depths", "a.npz", "b.npz"), "depth.npz"),
    ):
        with refuses(message):
            find_take_files(folder)


def test_folder_is_named_after_its_uploads():
    assert name_of_upload(["depth.npz"]) == "depth"
    assert name_of_upload(["take 7.zip"]) == "take 7"
    assert name_of_upload(["depth.npz", "holiday.mp4", "meta.json"]) == "holiday"
    assert (
        name_of_upload(["frame_0001.exr", "frame_0002.exr"]) == "frame"
        and name_of_upload(["1.png", "2.png"]) == "1"
    )
    assert name_of_upload(["aux.npz"]) == "_aux"
    assert name_of_upload(["room 2.5"]) == "room 2.5"
