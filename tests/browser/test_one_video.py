"""egox_one_video as a user has it: a video and nothing else, run as a whole by the page's button.

The detectors (SAM3, SDPose, MoGe, Depth Anything 3, the language model) are the tests' own nodes,
which answer what the drawn take knows in the host's exact types: their weights can't be had here,
and random ones see nothing. It is the one place where more than weights stands in; what the host's
own code packs is tested in tests/nodes."""

import json
import shutil

import numpy as np
import pytest
import torch

from egox_core.take import load_take
from egox_core.trajectory.poses import camera_centre, compose, invert
from tests.browser.editor_page import NODE, EditorPage
from tests.browser.known_graph import with_known_detectors
from tests.browser.test_demo_in_page import SEEN

FRAMES, HEIGHT, WIDTH = 5, 128, 224
SAYS = """() => window.egoxSeen.filter((event) => event.kind === 'executed' && event.data.output?.text)
  .map((event) => event.data.output.text.join('\\n'))"""


@pytest.fixture
def lone_video(browser_server, repo_root) -> str:
    """The sample's video in the input folder, without depth, poses or prompt beside it."""
    folder = browser_server.base.root / "input" / "calm_room"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(repo_root / "sample" / "calm_room" / "exo.mp4", folder / "exo.mp4")
    return "calm_room/exo.mp4"


def start(open_page, shipped, video: str):
    page = open_page(webgl=True)
    page.load(with_known_detectors(shipped("egox_one_video")))
    for name, value in (
        ("file", video),
        ("frame_count", FRAMES),
        ("height", HEIGHT),
        ("width", WIDTH),
    ):
        page.set_widget("EgoXLoadExoVideo", name, value)
    set_outside(page, "steps", 2)
    return page


def set_outside(page, name: str, value) -> None:
    """A widget that a subgraph's node shows."""
    assert (
        page.evaluate(
            """([name, value]) => {
      const nodes = app.graph.nodes.filter((n) => n.subgraph);
      const widgets = nodes.flatMap((n) => n.widgets.filter((w) => w.name === name));
      for (const widget of widgets) widget.value = value;
      return widgets.length;
    }""",
            [name, value],
        )
        == 1
    )


def test_from_the_video_alone_to_the_ego_video(open_page, shipped, repo_root, lone_video):
    page = start(open_page, shipped, lone_video)
    page.queue()
    page.wait_for_run()
    said = "\n".join(page.evaluate(SAYS))
    assert "profile, back or small: the turn is a guess" in said
    assert (
        "metric depth: MoGe; video depth: Depth Anything 3" in said
        and "exo camera from MoGe" in said
    )
    assert all(
        f"caption: {repair}" in said for repair in ("thinking taken out", "headings put right")
    )
    assert "its unfinished last sentence is left out" in said

    # The head is where it was: the world is the exo camera's, since nothing says where that stood.
    path = torch.tensor(
        page.wait_for_node(NODE)["egox_pose"][0]["path"], dtype=torch.float64
    ).reshape(FRAMES, 3, 4)
    take = load_take(repo_root / "sample" / "calm_room", frame_count=FRAMES, size=(WIDTH, HEIGHT))
    true = take.trajectory.camera.upright_poses(take.trajectory.w2c)
    off = camera_centre(path) - camera_centre(compose(true, invert(take.depth.exo_w2c)))
    assert float(off.norm(dim=-1).max()) < 0.05
    turned = path[:, :3, :3] @ compose(true, invert(take.depth.exo_w2c))[:, :3, :3].transpose(1, 2)
    assert (
        float(torch.arccos((turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).rad2deg().max()) < 12
    )

    page.show()
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some((v) => (v.currentSrc || v.src || "
        "v.querySelector('source')?.src || '').includes('ego_'))"
    )
    seen = page.evaluate(SEEN, "ego_")
    assert (seen["width"], seen["height"]) == (HEIGHT, HEIGHT) and seen["deviation"] > 1

    # The estimate can be corrected: the editor begins with it.
    editor = EditorPage(page).open(load=False)
    editor.wait_for_scene()
    editor.hands.wait_for_function(f"() => {editor.script('state.content.keys.length')} >= 2")
    first = json.loads(editor.ask("state.text"))["keyframes"][0]["position"]
    assert np.linalg.norm(np.array(first) - camera_centre(path)[0].numpy()) < 0.02
    editor.close()
