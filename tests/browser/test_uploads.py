"""Test uploads of a user's own files by button and by drag and drop."""

import shutil
from pathlib import Path

from tests.browser.editor_page import editor_graph
from tests.browser.test_inputs import press_row
from tests.browser.upload_page import (
    DEPTH,
    LOADER,
    POSES,
    choose_files,
    drop_from_desktop,
    point_on_node,
    read_value,
    wait_for_toast,
    wait_for_upload_note,
)

NOTE_CONTAINS_SCRIPT = "([note, words]) => note.textContent.includes(words)"
FILE_WIDGETS = ((LOADER, "file"), (DEPTH, "depth_file"), (DEPTH, "camera_file"), (POSES, "file"))


def test_files_chosen_by_button_and_a_dropped_folder_set_the_inputs(
    open_page, read_unpacked, upload_folder, repo_root, tmp_path
):
    take = Path(shutil.copytree(repo_root / "sample" / "synthetic_room", tmp_path / "take"))
    page = open_page(vue_nodes=True, size=(1000, 700), stays_open=True)
    graph = editor_graph(read_unpacked("egox_demo"))
    page.load(graph)
    page.show(page.node_bounds(DEPTH))
    sample_values = [read_value(page, *widget) for widget in FILE_WIDGETS]
    for extra_files in ((), (take / "ego_ground_truth.mp4",)):
        choose_files(page, DEPTH, take / "depth.npz", take / "meta.json", *extra_files)
        refusal = wait_for_upload_note(
            page, DEPTH, "ego_ground_truth.mp4 is the head" if extra_files else "no exo video"
        )
        assert "Nothing was set (depth (49 frames), exo camera, ego poses)" in refusal
        assert [read_value(page, *widget) for widget in FILE_WIDGETS] == sample_values
    page.show(page.node_bounds(LOADER))
    choose_files(page, LOADER, take / "exo.mp4", take / "ego_ground_truth.mp4")
    assert "video (49 frames), ground truth" in wait_for_upload_note(page, LOADER, "Set in")
    assert "upload its depth too" in wait_for_toast(page, "Set in")
    trim_note = page.browser_tab.get_by_test_id("egox-trim-note").first
    page.wait_until(NOTE_CONTAINS_SCRIPT, [trim_note.element_handle(), "No depth lies beside"])
    page.show(page.node_bounds(DEPTH))
    choose_files(page, DEPTH, take / "depth.npz", take / "meta.json")
    text = wait_for_upload_note(page, DEPTH, "Set in")
    assert "depth (49 frames), exo camera, ego poses" in text
    assert "No depth" not in trim_note.text_content()
    assert "they are used with egox/exo/exo.mp4" in text
    assert read_value(page, DEPTH, "depth_file") == "egox/depth/depth.npz"
    assert read_value(page, POSES, "file") == "egox/depth/meta.json"
    assert read_value(page, LOADER, "file") == "egox/exo/exo.mp4"

    room_folder = tmp_path / "my room"
    (room_folder / "maps").mkdir(parents=True)
    (room_folder / "notes.md").write_text("not of a take", "utf-8")
    for name, place in (
        ("exo.mp4", "exo.mp4"),
        ("depth.npz", "maps/depth.npz"),
        ("meta.json", "meta.json"),
    ):
        shutil.copy(take / name, room_folder / place)
    drop_from_desktop(page, point_on_node(page, LOADER), room_folder)
    assert "my room: video (49 frames), depth (49 frames)" in wait_for_upload_note(
        page, LOADER, "my room"
    )
    assert read_value(page, LOADER, "file") == "egox/my room/exo.mp4"
    assert read_value(page, POSES, "file") == "egox/my room/meta.json"
    assert read_value(page, DEPTH, "depth_file") == "egox/my room/maps/depth.npz"
    for name, depth in (("kitchen", "garden_depth"), ("hall", "hall_depth")):
        files = (
            shutil.copy(take / "exo.mp4", tmp_path / f"{name}.mp4"),
            shutil.copy(take / "depth.npz", tmp_path / f"{depth}.npz"),
        )
        choose_files(page, LOADER, *map(Path, files))
        text = wait_for_upload_note(page, LOADER, name)
        assert (f"names of {depth}.npz and {name}.mp4" in text) is (name == "kitchen"), text
    for name, answer, text in (
        ("left", "no-truth", "Not used: head.mp4"),
        ("right", "truth", "head.mp4 is shown as the ground truth"),
    ):
        two_videos = [tmp_path / name / "exo.mp4", tmp_path / name / "head.mp4"]
        two_videos[0].parent.mkdir()
        shutil.copy(take / "exo.mp4", two_videos[0])
        shutil.copy(take / "ego_ground_truth.mp4", two_videos[1])
        choose_files(page, LOADER, *two_videos)
        wait_for_upload_note(page, LOADER, "Is head.mp4 the wearer's own view?")
        page.browser_tab.get_by_test_id(f"egox-{answer}").locator("visible=true").click()
        wait_for_upload_note(page, LOADER, text)
        assert page.browser_tab.get_by_test_id("egox-upload").first.is_visible()
    lone_video = shutil.copy(take / "ego_ground_truth.mp4", tmp_path / "walk.mp4")
    choose_files(page, LOADER, Path(lone_video))
    assert "walk: video" in wait_for_upload_note(page, LOADER, "Is walk.mp4 the wearer's own view?")
    assert not page.browser_tab.get_by_test_id("egox-truth").locator("visible=true").count()
    assert len(list(upload_folder.glob("exo*/ego_ground_truth.mp4"))) == 2
    assert "egox_upload" not in str(page.to_prompt())
    assert len(page.serialize_graph()["nodes"]) == len(graph["nodes"])


def test_comfyuis_own_video_button_names_the_upload_limit(open_page, read_shipped, tmp_path):
    with (tmp_path / "long.mp4").open("wb") as file:
        file.truncate(101 * 2**20)
    page = open_page(size=(1200, 800), stays_open=True)
    page.load(read_shipped("egox_demo"))
    file_before = read_value(page, LOADER, "file")
    with page.browser_tab.expect_file_chooser() as chooser:
        press_row(page, LOADER, "upload")
    with page.browser_tab.expect_response(lambda answer: "/upload/" in answer.url) as answer:
        chooser.value.set_files(tmp_path / "long.mp4")
    assert answer.value.status == 413
    page.browser_tab.get_by_text("--max-upload-size 102").first.wait_for()
    assert read_value(page, LOADER, "file") == file_before
