"""A user's own files by hand: chosen with the node's button or dropped on it, on both canvases and
in the form."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.browser.test_inputs import press
from tests.browser.upload_page import (
    DEPTH,
    LOADER,
    POSES,
    choose,
    drop,
    drop_from_desktop,
    on_node,
    told,
    value,
)


@pytest.fixture
def take(tmp_path, repo_root) -> Path:
    """Files of a take of which no other test knows, and a zip of them."""
    for name in ("exo.mp4", "depth.npz", "meta.json"):
        shutil.copy(repo_root / "sample" / "synthetic_room" / name, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "own take.zip", "w") as archive:
        for name in ("exo.mp4", "depth.npz", "meta.json"):
            archive.write(tmp_path / name, f"room/{name}")
    return tmp_path


def used(page, folder: str) -> None:
    """All nodes have the take of that folder."""
    assert value(page, LOADER, "file") == f"egox/{folder}/exo.mp4"
    assert value(page, DEPTH, "depth_file") == f"egox/{folder}/depth.npz"
    assert (
        value(page, DEPTH, "camera_file")
        == value(page, POSES, "file")
        == f"egox/{folder}/meta.json"
    )
    assert value(page, POSES, "source") == "file"


def test_files_by_button_and_a_take_dropped(same_page, unpacked, take, uploads):
    page = same_page(vue_nodes=True, size=(1400, 900))
    page.load(unpacked("egox_demo"))
    page.show(page.node_bounds(DEPTH))
    choose(page, DEPTH, take / "depth.npz", take / "meta.json")
    assert "depth (49 frames), exo camera, ego poses" in told(page, DEPTH, "Set in")
    assert value(page, DEPTH, "depth_file") == "egox/depth/depth.npz"
    assert value(page, POSES, "file") == "egox/depth/meta.json" and value(
        page, LOADER, "file"
    ).startswith("sample/")

    drop(page, on_node(page, LOADER), take / "own take.zip")
    assert "video (49 frames)" in told(page, LOADER, "Set in")
    used(page, "own take")

    room = take / "my room"
    (room / "maps").mkdir(parents=True)
    (room / "notes.md").write_text("not of a take", "utf-8")
    for name, place in (
        ("exo.mp4", "exo.mp4"),
        ("depth.npz", "maps/depth.npz"),
        ("meta.json", "meta.json"),
    ):
        shutil.copy(take / name, room / place)
    drop_from_desktop(page, on_node(page, LOADER), room)
    assert "my room: video (49 frames), depth (49 frames)" in told(page, LOADER, "my room")
    assert value(page, LOADER, "file") == "egox/my room/exo.mp4"
    assert value(page, DEPTH, "depth_file") == "egox/my room/maps/depth.npz"
    for name, depth in (("kitchen", "garden_depth"), ("hall", "hall_depth")):
        files = shutil.copy(take / "exo.mp4", take / f"{name}.mp4"), take / f"{depth}.npz"
        shutil.copy(take / "depth.npz", files[1])
        choose(page, LOADER, *map(Path, files))
        said = told(page, LOADER, name)
        assert (f"{depth}.npz with {name}.mp4" in said) is (name == "kitchen"), said
    saved = page.saved()
    assert "egox_upload" not in str(page.to_prompt()) and len(saved["nodes"]) == len(
        unpacked("egox_demo")["nodes"]
    )


def test_a_taken_name_a_bad_file_and_the_limit_are_told(same_page, unpacked, take, uploads):
    page = same_page(size=(1200, 800))
    page.load(unpacked("egox_demo"))
    page.show(page.node_bounds(DEPTH))
    choose(page, DEPTH, take / "depth.npz")
    told(page, DEPTH, "depth: depth (49 frames)")
    choose(page, DEPTH, take / "depth.npz")
    told(page, DEPTH, "there already as depth")
    np.savez_compressed(take / "depth.npz", depth_m=np.ones((3, 8, 8), np.float16))
    choose(page, DEPTH, take / "depth.npz")
    told(page, DEPTH, "so these are depth (2)")
    assert value(page, DEPTH, "depth_file") == "egox/depth (2)/depth.npz"

    np.savez(take / "pickled.npz", depth_m=np.array([{}], dtype=object))
    choose(page, DEPTH, take / "pickled.npz")
    assert "pickled" in told(page, DEPTH, "Not uploaded")
    with (take / "large.npz").open("wb") as file:
        file.truncate(101 * 2**20)
    choose(page, DEPTH, take / "large.npz")
    assert "--max-upload-size 102" in told(page, DEPTH, "101 MB")
    assert value(page, DEPTH, "depth_file") == "egox/depth (2)/depth.npz"
    assert sorted(p.name for p in uploads.iterdir()) == ["depth", "depth (2)"]


def test_the_host_s_own_video_button_is_told_its_limit(same_page, shipped, tmp_path):
    with (tmp_path / "long.mp4").open("wb") as file:
        file.truncate(101 * 2**20)
    page = same_page(size=(1200, 800))
    page.load(shipped("egox_demo"))
    before = value(page, LOADER, "file")
    with page.page.expect_file_chooser() as chooser:
        press(page, LOADER, "upload")
    with page.page.expect_response(lambda answer: "/upload/" in answer.url) as answer:
        chooser.value.set_files(tmp_path / "long.mp4")
    assert answer.value.status == 413
    page.page.get_by_text("--max-upload-size 102").first.wait_for()
    assert value(page, LOADER, "file") == before
