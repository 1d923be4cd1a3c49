"""A user's own files by hand: chosen with the node's button or dropped on it."""

import shutil
from pathlib import Path

from tests.browser.test_inputs import press
from tests.browser.upload_page import (
    DEPTH,
    LOADER,
    POSES,
    choose,
    drop_from_desktop,
    on_node,
    toast_of,
    told,
    value,
)

NOTE_HAS = "([note, words]) => note.textContent.includes(words)"
WIDGETS = ((LOADER, "file"), (DEPTH, "depth_file"), (DEPTH, "camera_file"), (POSES, "file"))


def test_files_by_button_and_a_folder_dropped(open_page, unpacked, uploads, repo_root, tmp_path):
    take = Path(shutil.copytree(repo_root / "sample" / "synthetic_room", tmp_path / "take"))
    page = open_page(vue_nodes=True, size=(1400, 900))
    page.load(unpacked("egox_demo"))
    page.show(page.node_bounds(DEPTH))
    of_the_sample = [value(page, *widget) for widget in WIDGETS]
    for more in ((), (take / "ego_ground_truth.mp4",)):
        choose(page, DEPTH, take / "depth.npz", take / "meta.json", *more)
        refusal = told(page, DEPTH, "ego_ground_truth.mp4 is the head" if more else "no exo video")
        assert "Nothing was set (depth (49 frames), exo camera, ego poses)" in refusal
        assert [value(page, *widget) for widget in WIDGETS] == of_the_sample
    page.show(page.node_bounds(LOADER))
    choose(page, LOADER, take / "exo.mp4", take / "ego_ground_truth.mp4")
    assert "video (49 frames), ground truth" in told(page, LOADER, "Set in")
    assert "upload its depth too" in toast_of(page, "Set in")
    note = page.page.get_by_test_id("egox-trim-note").first
    page.page.wait_for_function(NOTE_HAS, arg=[note.element_handle(), "No depth lies beside"])
    page.show(page.node_bounds(DEPTH))
    choose(page, DEPTH, take / "depth.npz", take / "meta.json")
    text = told(page, DEPTH, "Set in")
    assert "depth (49 frames), exo camera, ego poses" in text
    assert "No depth" not in note.text_content()
    assert "they are used with egox/exo/exo.mp4" in text
    assert value(page, DEPTH, "depth_file") == "egox/depth/depth.npz"
    assert value(page, POSES, "file") == "egox/depth/meta.json"
    assert value(page, LOADER, "file") == "egox/exo/exo.mp4"

    room = tmp_path / "my room"
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
    assert value(page, POSES, "file") == "egox/my room/meta.json"
    assert value(page, DEPTH, "depth_file") == "egox/my room/maps/depth.npz"
    for name, depth in (("kitchen", "garden_depth"), ("hall", "hall_depth")):
        files = (
            shutil.copy(take / "exo.mp4", tmp_path / f"{name}.mp4"),
            shutil.copy(take / "depth.npz", tmp_path / f"{depth}.npz"),
        )
        choose(page, LOADER, *map(Path, files))
        text = told(page, LOADER, name)
        assert (f"names of {depth}.npz and {name}.mp4" in text) is (name == "kitchen"), text
    for name, answer, text in (
        ("left", "no-truth", "Not used: head.mp4"),
        ("right", "truth", "head.mp4 is shown as the ground truth"),
    ):
        both = [tmp_path / name / "exo.mp4", tmp_path / name / "head.mp4"]
        both[0].parent.mkdir()
        shutil.copy(take / "exo.mp4", both[0])
        shutil.copy(take / "ego_ground_truth.mp4", both[1])
        choose(page, LOADER, *both)
        told(page, LOADER, "Is head.mp4 the wearer's own view?")
        page.page.get_by_test_id(f"egox-{answer}").locator("visible=true").click()
        told(page, LOADER, text)
        assert page.page.get_by_test_id("egox-upload").first.is_visible()
    assert len(list(uploads.glob("exo*/ego_ground_truth.mp4"))) == 2
    assert "egox_upload" not in str(page.to_prompt())
    assert len(page.saved()["nodes"]) == len(unpacked("egox_demo")["nodes"])


def test_the_host_s_own_video_button_is_told_its_limit(open_page, shipped, tmp_path):
    with (tmp_path / "long.mp4").open("wb") as file:
        file.truncate(101 * 2**20)
    page = open_page(size=(1200, 800))
    page.load(shipped("egox_demo"))
    before = value(page, LOADER, "file")
    with page.page.expect_file_chooser() as chooser:
        press(page, LOADER, "upload")
    with page.page.expect_response(lambda answer: "/upload/" in answer.url) as answer:
        chooser.value.set_files(tmp_path / "long.mp4")
    assert answer.value.status == 413
    page.page.get_by_text("--max-upload-size 102").first.wait_for()
    assert value(page, LOADER, "file") == before
