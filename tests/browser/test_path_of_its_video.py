"""Test that each of two videos keeps its own camera path and corrections."""

import shutil
import zipfile
from pathlib import Path

import pytest

from tests.browser.editor_page import POSE_NODE, editor_graph
from tests.browser.page import PageUnderTest
from tests.browser.test_editor import run_and_read_path
from tests.browser.upload_page import LOADER, choose_files, wait_for_toast

FRAMES, HEIGHT, WIDTH = 5, 128, 224
KEYFRAMES = '[{"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0.4, 2]}]'
FIRST_VIDEO = "egox/kitchen/kitchen.mp4"


@pytest.fixture
def takes(tmp_path, repo_root, upload_folder) -> dict[str, Path]:
    """Write two takes and an archive of the second one."""
    for take_name, sample in (("kitchen", "synthetic_room"), ("portrait", "calm_room")):
        take_folder = tmp_path / take_name
        take_folder.mkdir()
        for name, file_name in (
            ("exo.mp4", f"{take_name}.mp4"),
            ("depth.npz", "depth.npz"),
            ("meta.json", "meta.json"),
        ):
            shutil.copy(repo_root / "sample" / sample / name, take_folder / file_name)
    with zipfile.ZipFile(tmp_path / "portrait.zip", "w") as archive:
        for file in sorted((tmp_path / "portrait").iterdir()):
            archive.write(file, file.name)
    return {
        "first": tmp_path / "kitchen",
        "second": tmp_path / "portrait",
        "zip": tmp_path / "portrait.zip",
    }


_NODE_SCRIPT = f"app.graph.nodes.find((n) => n.type === '{POSE_NODE}')"


def wait_for_video(page, name: str) -> None:
    page.wait_until(f"(name) => {_NODE_SCRIPT}.egoxPose.video?.video.endsWith(`/${{name}}`)", name)


def read_pose_inputs(page, *names: str) -> tuple:
    return tuple(page.widget(POSE_NODE, name) for name in names)


@pytest.fixture
def page(open_page, read_unpacked) -> PageUnderTest:
    page = open_page(size=(1100, 720), stays_open=True)
    page.load(editor_graph(read_unpacked("egox_demo")))
    for name, value in (("frame_count", FRAMES), ("height", HEIGHT), ("width", WIDTH)):
        page.set_widget(LOADER, name, value)
    wait_for_video(page, "exo.mp4")
    return page


def test_the_scene_stays_while_another_workflow_is_open(page):
    run_and_read_path(page)
    workflow_name = page.evaluate("() => app.extensionManager.workflow.activeWorkflow.filename")
    page.evaluate(
        "async () => { await app.extensionManager.command.execute('Comfy.NewBlankWorkflow'); }"
    )
    page.wait_until("() => !app.graph.nodes.length")
    page.browser_tab.get_by_text(workflow_name, exact=True).first.click()
    page.wait_until(f"() => {_NODE_SCRIPT}?.egoxPose.data?.scene.points > 1000")


def test_each_video_keeps_its_path_in_a_reopened_workflow(page, takes):
    page.show(page.node_bounds(LOADER))
    choose_files(page, LOADER, *sorted(takes["first"].iterdir()))
    wait_for_video(page, "kitchen.mp4")
    assert not page.browser_tab.get_by_text("is saved and returns").count(), "nobody drew one"
    for name, value in (("source", "keyframes"), ("keyframes", KEYFRAMES), ("camera", "aria_meta")):
        page.set_widget(POSE_NODE, name, value)
    page.load(page.serialize_graph())
    wait_for_video(page, "kitchen.mp4")
    assert read_pose_inputs(page, "source", "camera") == ("keyframes", "aria_meta"), (
        "as it was saved"
    )
    page.show(page.node_bounds(LOADER))
    choose_files(page, LOADER, takes["zip"])
    wait_for_video(page, "portrait.mp4")
    wait_for_toast(page, "head path for kitchen.mp4 is saved")
    assert read_pose_inputs(page, "source", "file") == ("file", "egox/portrait/meta.json")
    page.load(page.serialize_graph())
    wait_for_video(page, "portrait.mp4")
    assert read_pose_inputs(page, "source") == ("file",)
    page.set_widget(LOADER, "file", FIRST_VIDEO)
    wait_for_video(page, "kitchen.mp4")
    assert read_pose_inputs(page, "source", "camera") == ("keyframes", "aria_meta"), (
        "back with its video"
    )

    # Takes call their files alike: the folder tells them apart.
    page.set_widget(LOADER, "file", "sample/calm_room/exo.mp4")
    wait_for_video(page, "exo.mp4")
    for name, value in ("source", "keyframes"), ("keyframes", KEYFRAMES):
        page.set_widget(POSE_NODE, name, value)
    page.set_widget(LOADER, "file", "sample/synthetic_room/exo.mp4")
    toast_text = wait_for_toast(page, "head path for calm_room/exo.mp4 is saved")
    assert toast_text.count("is saved and returns") == 1
