"""Follow the remedies that the nodes' refusals name, each literally before a run or in one."""

import importlib

import pytest

from tests.remedies import Remedies, unfollowed

LINK = ["2", 3]
ROOM = {"file": "sample/calm_room/exo.mp4"}
KEYFRAMES = '{"keyframes": [{"frame": 0, "position": [0, 0, 0], "look_at": [0, 0, 2]}]}'
OF_OTHER_VIDEO = '{"made_on": {"video": "a.mp4", "id": "1"}, ' + KEYFRAMES[1:]


def module(file):
    return importlib.import_module(f"egox_pack.nodes.{file}")


def before_a_run(check):
    """Give a node's inputs to its check of a graph, in which node 2 loads the exo video."""
    file, name = check.split(":")

    def door(**inputs):
        video = {"class_type": "EgoXLoadExoVideo", "inputs": LOADED | ROOM}
        getattr(module(file), name)({"1": {"class_type": "a", "inputs": inputs}, "2": video}, "1")

    return door


def row(site, door, given, changes):
    return pytest.param(Remedies(site, door, given, changes), id=site)


LOADED = {
    "start_frame": 0,
    "frame_count": 9,
    "target_fps": 0.0,
    "resize": "crop",
    "width": 112,
    "height": 64,
}
LONG = {"length": 9, "continue_motion_max_frames": 5, "lambda_g": 0.0, "gga_mode": "off"}
GUIDED = {"lambda_g": 1.0, "gga_mode": "paper", "trajectory": LINK}
ROWS = [
    row(
        "nodes/sample_long.py:check_long",
        before_a_run("sample_long:check_long"),
        LONG | {"look_away_memory": True, "trajectory": LINK},
        {
            "connect 'depth'": {"depth": LINK},
            "switch look_away_memory off": {"look_away_memory": False},
        },
    ),
    row(
        "nodes/sample_long.py:check_long",
        before_a_run("sample_long:check_long"),
        LONG | {"straighten": "in one piece", "trajectory": LINK},
        {"connect 'depth'": {"depth": LINK}, "set straighten to off": {"straighten": "off"}},
    ),
    row(
        "nodes/patch/patch.py:missing_geometry_error",
        before_a_run("gga_inputs:check_geometry"),
        GUIDED,
        {"connect 'depth'": {"depth": LINK}, "set gga_mode to off": {"gga_mode": "off"}},
    ),
    row(
        "nodes/render_ego_prior.py:missing_points_error",
        before_a_run("render_ego_prior:check_prior_inputs"),
        {},
        {
            "connect 'scene'": {"scene": LINK},
            "'exo_images' and 'depth'": {"exo_images": LINK, "depth": LINK},
        },
    ),
    row(
        "nodes/ego_pose.py:missing_estimate_error",
        before_a_run("ego_pose:check_poses"),
        {"source": "estimated", "keyframes": KEYFRAMES},
        {
            "connect Estimate Head Pose to 'estimated'": {"estimated": LINK},
            "set source to keyframes": {"source": "keyframes"},
        },
    ),
    row(
        "nodes/ego_pose.py:missing_poses_error",
        before_a_run("ego_pose:check_poses"),
        {"source": "file", "file": "meta.json beside the video", "entry": "", "camera": "auto"},
        {"connect 'frames' from Load Exo Video": {"frames": LINK}},
    ),
    row(
        "egox_core/video/selection.py:select_frames",
        before_a_run("load_exo_video:check_video"),
        LOADED | ROOM | {"frame_count": 49},
        {"set the length (frame_count) to 9": {"frame_count": 9}},
    ),
    row(
        "egox_core/trajectory/keyframes.py:check_made_on",
        before_a_run("ego_pose:check_poses"),
        {"source": "keyframes", "keyframes": OF_OTHER_VIDEO, "frames": LINK},
        {'delete "made_on" from the keyframes': {"keyframes": KEYFRAMES}},
    ),
]
ELSEWHERE = {
    "nodes/advice.py": "the nodes' words for what the core says",
    "nodes/draw_hands.py:read_hands_in_use": "tests/nodes/test_draw_hands.py"
    "::test_hands_of_the_take_are_drawn_at_their_true_pixels",
    "nodes/draw_hands.py:use_depth_camera": "tests/nodes/test_draw_hands.py"
    "::test_hands_of_the_take_are_drawn_at_their_true_pixels",
    "nodes/robot_episode.py:draw_ego": "tests/nodes/test_robot_episode.py"
    "::test_each_run_adds_an_episode",
    "nodes/host/vae.py:decode_video": "a start option of the host, for a file that overflows",
    "nodes/model_patch.py:EgoXModelPatch.execute": "tests/host/test_model_samplers.py"
    "::test_sampler_node_recomputes_the_image_embedding_from_its_seed",
    "nodes/page/requests.py:file_writing_route": "a start option of the host",
    "nodes/page/requests.py:json_object": "says it of a request that no page of ours sends",
    "nodes/patch/patch.py": "start options of the host, on cards alone",
}
"""Places in the code that another test follows, or that need the host to be started anew."""


@pytest.mark.parametrize("remedies", ROWS)
def test_a_remedy_of_a_node_is_followed(remedies, pack, tmp_path):
    remedies.follow(tmp_path)


def test_every_remedy_that_a_node_names_is_followed():
    assert not unfollowed("nodes", ROWS, ELSEWHERE)
