"""egox_one_video as a user has it: a video and nothing else, run as a whole by the page's button.
The hands of a network come by file, and *Save Robot Episode*, placed by hand, makes an episode of it.

The detectors (SAM3, SDPose, MoGe, Depth Anything 3, the language model) are the tests' own nodes,
which answer what the drawn take knows in the host's exact types: their weights can't be had here,
and random ones see nothing. It is the one place where more than weights stands in; what the host's
own code packs is tested in tests/nodes."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import torch

from egox_core.cameras.poses import camera_centre, compose, invert
from egox_core.take import load_take
from tests.browser.editor_page import NODE, EditorPage
from tests.browser.known_graph import with_known_detectors
from tests.browser.small_graph import FRAMES, HEIGHT, WIDTH, make_small, place
from tests.browser.test_demo_in_page import SEEN

EPISODE = {
    "exo_images": ("EgoXLoadExoVideo", "exo_images"),
    "ego_images": ("GetVideoComponents", "images"),
    "trajectory": ("EgoXEgoPoseInput", "trajectory"),
    "depth": ("Scene and prior", "depth"),
    "scene": ("Scene and prior", "scene"),
    "hands": ("EgoXDrawHands", "hands"),
}
SAYS = """() => window.egoxSeen.filter((event) => event.kind === 'executed' && event.data.output?.text)
  .map((event) => event.data.output.text.join('\\n')).join('\\n')"""


def test_from_the_video_alone_to_the_ego_video(open_page, shipped, repo_root, browser_server):
    """The sample's video in the input folder, without depth, poses or prompt beside it."""
    folder = browser_server.base.root / "input" / "calm_room"  # of which the detectors know
    folder.mkdir(exist_ok=True)
    for name in ("exo.mp4", "hands.json"):
        shutil.copy(repo_root / "sample" / "calm_room" / name, folder)
    page = open_page(webgl=True)
    page.load(with_known_detectors(shipped("egox_one_video")))
    make_small(page, "EgoXSampleLong")
    page.set_widget("EgoXLoadExoVideo", "file", "calm_room/exo.mp4")
    place(page, "GetVideoComponents", {"video": ("EgoX", "video")})
    drawn = {"trajectory": EPISODE["trajectory"], "frames": ("EgoXLoadExoVideo", "frames")}
    place(page, "EgoXDrawHands", drawn)
    place(page, "EgoXSaveRobotEpisode", EPISODE, dataset="one_video", task="set the table")
    page.queue()
    page.wait_for_run()
    text = page.evaluate(SAYS)
    for words in (
        "profile, back or small: the turn is a guess",
        "metric depth: MoGe; video depth: Depth Anything 3",
        "exo camera from MoGe",
        "caption: thinking taken out",
        "episode 0 of one_video, 5 frames",
    ):
        assert words in text

    # The head is where it was: the world is the exo camera's, since nothing says where that stood.
    path = torch.tensor(
        page.wait_for_node(NODE)["egox_pose"][0]["path"], dtype=torch.float64
    ).reshape(FRAMES, 3, 4)
    take = load_take(repo_root / "sample" / "calm_room", frame_count=FRAMES, size=(WIDTH, HEIGHT))
    true = take.trajectory.ego.camera.upright_poses(take.trajectory.ego.w2c)
    true = compose(true, invert(take.depth.exo.pose))
    assert float((camera_centre(path) - camera_centre(true)).norm(dim=-1).max()) < 0.05
    turned = path[:, :3, :3] @ true[:, :3, :3].transpose(1, 2)
    cosine = (turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    assert float(torch.arccos(cosine).rad2deg().max()) < 12

    # The episode's wrists are where they were drawn, but for what the head was estimated off.
    rows = pq.read_table(browser_server.base.output / "egox_robots/one_video/data").to_pylist()
    state = torch.tensor([row["observation.state"] for row in rows], dtype=torch.float64)
    wrists = take.hands.in_head(take.trajectory)[0][:, :, 0]
    assert float((state.view(FRAMES, 2, 24)[..., :3] - wrists).norm(dim=-1).max()) < 0.15
    assert {row["egox.camera_fits"] for row in rows} == {-1}, "a generated view can't tell"

    page.show()
    player = page.evaluate(SEEN, "ego_")
    assert (player["width"], player["height"]) == (HEIGHT, HEIGHT) and player["deviation"] > 1

    # The estimate can be corrected: the editor begins with it.
    editor = EditorPage(page).open(load=False)
    editor.wait_for_scene()
    editor.hands.wait_for_function(f"() => {editor.script('state.content.keys.length')} >= 2")
    first = json.loads(editor.ask("state.text"))["keyframes"][0]["position"]
    assert np.linalg.norm(np.array(first) - camera_centre(path)[0].numpy()) < 0.02
    editor.close()
