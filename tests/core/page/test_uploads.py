"""Files from a browser: what of a take they are, and a place where they overwrite nothing."""

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

COUNT, H, W = 5, 16, 32
DEPTH = np.ones((COUNT, H, W), np.float16)
META = {
    "camera_intrinsics": [[20, 0, W / 2], [0, 20, H / 2], [0, 0, 1]],
    "camera_extrinsics": np.eye(3, 4).tolist(),
    "ego_extrinsics": np.eye(3, 4)[None].repeat(COUNT, 0).tolist(),
}


def write(folder: Path, *names: str) -> Path:
    """Make a folder with files of a take, each by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".mp4", ".lrv"):
            pytest.importorskip("av", reason="decodes video")
            video = path.with_suffix(".mp4")
            write_video(video, torch.zeros(COUNT, H, W, 3, dtype=torch.uint8), 20.0)
            video.rename(path)
        elif path.suffix == ".npz":
            np.savez_compressed(path, depth_m=DEPTH)
        elif path.suffix == ".npy":
            np.save(path, DEPTH[0] if any(c.isdigit() for c in path.stem) else DEPTH)
        elif path.suffix == ".png":
            cv2.imwrite(str(path), np.full((H, W), 1000, np.uint16))
        elif path.name == "path.json":
            write_json(path, [{"time_s": 0, "position": [0, 0, 1], "look_at": [1, 0, 1]}])
        elif path.name == "config.json":
            path.write_text('{"batch": 1}', "utf-8")
        else:
            write_json(path, META)
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
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
def test_files_are_told_apart(tmp_path, names, found):
    folder = write(tmp_path / "take", *names)
    files = find_take_files(folder)
    assert {
        kind: path.relative_to(folder).as_posix()
        for kind in ("video", "depth", "camera", "poses", "hands")
        if (path := getattr(files, kind)) is not None
    } == found
    assert files.frames == (COUNT if "video" in found else 0)
    if "depth" in found:
        with open_depth(files.depth) as depth:
            assert files.depth_frames == depth.numbering.count > 1
    unused = ("GL010001.lrv", PRIOR, "second.mp4", "other.npz", "config.json", "hands.json")
    used_names = found.values()
    assert files.unused == tuple(n for n in unused if n in names and n not in used_names)


def test_a_head_video_without_an_exo_video_is_named(tmp_path):
    files = find_take_files(write(tmp_path / "take", TRUTH, "depth.npz", "meta.json"))
    assert files.video is None and files.truth.name == TRUTH and files.unused == (TRUTH,)
    with refuses(TRUTH):
        find_take_files(write(tmp_path / "alone", TRUTH))


@pytest.mark.parametrize("names", [("kitchen.mp4", "a head.mp4"), ("exo.mp4", "ego.mp4")])
def test_a_second_video_whose_camera_moves_is_no_exo_video(tmp_path, names):
    pytest.importorskip("av", reason="decodes video")
    sample, (exo, ego) = ROOT / "sample" / "calm_room", (tmp_path / name for name in names)
    shutil.copy(sample / "exo.mp4", exo)
    shutil.copy(sample / "ego_ground_truth.mp4", ego)
    files = find_take_files(tmp_path)
    assert (files.video, files.turning, files.unused) == (exo, ego, ())
    slow = tmp_path / "slow.mp4"
    write_video(slow, torch.zeros(COUNT, H, W, 3, dtype=torch.uint8), 5.0)
    with refuses("5 frames per second"):
        use_as_truth(slow, exo)
    slow.unlink()
    use_as_truth(ego, exo)
    assert find_take_files(tmp_path).turning is None and not ego.exists()
    assert (tmp_path / TRUTH).read_bytes() == (sample / TRUTH).read_bytes()


def test_what_is_no_take_is_refused(tmp_path):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    np.savez(pickled / "depth.npz", depth_m=DEPTH, names=np.array([{}], dtype=object))
    (tmp_path / "empty").mkdir()
    broken = write(tmp_path / "broken", "exo.mp4", "depth.npz")
    (broken / "meta.json").write_text("{", "utf-8")
    grey = write(tmp_path / "grey", "1.png")
    cv2.imwrite(str(grey / "1.png"), np.zeros((H, W), np.uint8))
    text = write(tmp_path / "text")
    (text / "clip.mp4").write_text("no video", "utf-8")
    for folder, message in (
        (pickled, "pickled"),
        (tmp_path / "empty", "no file of a take"),
        (broken, "not JSON"),
        (grey, "16 bits"),
        (text, "video"),
        (write(tmp_path / "config", "config.json"), "ego_extrinsics"),
        (write(tmp_path / "two", "a.mp4", "b.mp4"), "2: a.mp4, b.mp4"),
        (write(tmp_path / "depths", "a.npz", "b.npz"), "depth.npz"),
    ):
        with refuses(message):
            find_take_files(folder)


def test_the_folder_s_name():
    assert name_of_upload(["depth.npz"]) == "depth" and name_of_upload(["take 7.zip"]) == "take 7"
    assert name_of_upload(["depth.npz", "holiday.mp4", "meta.json"]) == "holiday"
    assert (
        name_of_upload(["frame_0001.exr", "frame_0002.exr"]) == "frame"
        and name_of_upload(["1.png", "2.png"]) == "1"
    )
    assert name_of_upload(["aux.npz"]) == "_aux" and name_of_upload(["room 2.5"]) == "room 2.5"
