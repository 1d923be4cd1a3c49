"""Test the workflow egox_one_video with a single user video.

The hands come from a file, and *Save Robot Episode*, placed by hand, makes an episode of the
run. The detectors (SAM3, SDPose, MoGe, Depth Anything 3, the language model) are nodes of the
tests, which answer from the drawn take in ComfyUI's exact types: their weights can't be
downloaded here."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import torch

from egox_core.cameras.poses import camera_centre, compose, invert
from egox_core.take import load_take
from tests.browser.editor_page import POSE_NODE, EditorPage
from tests.browser.known_graph import use_known_detectors
from tests.browser.small_graph import FRAMES, HEIGHT, WIDTH, place_node, shrink_graph_on_canvas
from tests.browser.test_demo_in_page import VIDEO_STATE_SCRIPT

EPISODE_WIRES = {
    "exo_images": ("EgoXLoadExoVideo", "exo_images"),
    "ego_images": ("GetVideoComponents", "images"),
    "trajectory": ("EgoXEgoPoseInput", "trajectory"),
    "depth": ("Scene and prior", "depth"),
    "scene": ("Scene and prior", "scene"),
    "hands": ("EgoXDrawHands", "hands"),
}
NODE_TEXTS_SCRIPT = """() => window.egoxSeen.filter((event) => event.kind === 'executed' && event.data.output?.text)
  .map((event) => event.data.output.text.join('\\n')).join('\\n')"""


def test_the_video_alone_gives_an_ego_video_and_an_episode(
    open_page, read_shipped, repo_root, browser_server
):
    """Check the ego video and the robot episode of a run whose only input file is a video."""
    folder = (
        browser_server.base.root / "input" / "calm_room"
    )  # a name that the stand-in detectors look up
    folder.mkdir(exist_ok=True)
    for name in ("exo.mp4", "hands.json"):
        shutil.copy(repo_root / "sample" / "calm_room" / name, folder)
    page = open_page(size=(1100, 720), stays_open=True)
    page.load(use_known_detectors(read_shipped("egox_one_video")))
    shrink_graph_on_canvas(page, "EgoXSampleLong")
    page.set_widget("EgoXLoadExoVideo", "file", "calm_room/exo.mp4")
    place_node(page, "GetVideoComponents", {"video": ("EgoX", "video")})
    hand_wires = {
        "trajectory": EPISODE_WIRES["trajectory"],
        "frames": ("EgoXLoadExoVideo", "frames"),
    }
    place_node(page, "EgoXDrawHands", hand_wires)
    place_node(
        page, "EgoXSaveRobotEpisode", EPISODE_WIRES, dataset="one_video", task="set the table"
    )
    page.queue()
    page.wait_for_run()
    text = page.evaluate(NODE_TEXTS_SCRIPT)
    for note in (
        "profile, back or small: the turn is a guess",
        "metric depth: MoGe; video depth: Depth Anything 3",
        "exo camera from MoGe",
        "caption: thinking taken out",
        "episode 0 of one_video, 5 frames",
    ):
        assert note in text

    # The head is where it was: the world is the exo camera's, since nothing says where that stood.
    shown_path = torch.tensor(
        page.wait_for_node(POSE_NODE)["egox_pose"][0]["path"], dtype=torch.float64
    ).reshape(FRAMES, 3, 4)
    take = load_take(repo_root / "sample" / "calm_room", frame_count=FRAMES, size=(WIDTH, HEIGHT))
    true_path = take.trajectory.ego.camera.upright_poses(take.trajectory.ego.w2c)
    true_path = compose(true_path, invert(take.depth.exo.pose))
    assert float((camera_centre(shown_path) - camera_centre(true_path)).norm(dim=-1).max()) < 0.05
    relative_rotations = shown_path[:, :3, :3] @ true_path[:, :3, :3].transpose(1, 2)
    cosine = (relative_rotations.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    assert float(torch.arccos(cosine).rad2deg().max()) < 12

    # The episode's wrists are where they were drawn, but for what the head was estimated off.
    episode_rows = pq.read_table(
        browser_server.base.output / "egox_robots/one_video/data"
    ).to_pylist()
    hand_state = torch.tensor(
        [row["observation.state"] for row in episode_rows], dtype=torch.float64
    )
    true_wrists = take.hands.in_head(take.trajectory)[0][:, :, 0]
    assert float((hand_state.view(FRAMES, 2, 24)[..., :3] - true_wrists).norm(dim=-1).max()) < 0.15
    assert {row["egox.camera_fits"] for row in episode_rows} == {-1}, "a generated view can't tell"

    page.show()
    player_state = page.evaluate(VIDEO_STATE_SCRIPT, "ego_")
    assert (player_state["width"], player_state["height"]) == (HEIGHT, HEIGHT) and player_state[
        "deviation"
    ] > 1

    # The estimate can be corrected: the editor begins with it.
    editor = EditorPage(page).open(load=False)
    editor.wait_for_scene()
    editor.page.wait_until(f"() => {editor.script('state.content.keys.length')} >= 2")
    first_position = json.loads(editor.read_state("state.text"))["keyframes"][0]["position"]
    assert np.linalg.norm(np.array(first_position) - camera_centre(shown_path)[0].numpy()) < 0.02
    editor.close()
