"""Test the pose editor's HTTP routes on a real server."""

import json
from typing import Any

import cv2
import numpy as np
import pytest

from tests.host.asking import Answer, request
from tests.paths import ROOT
from tests.prompts import inputs_of_type, node_id_of_type, run_successfully, shrink_graph
from tools.setup.api_client import ApiClient, PromptRefused

FRAMES = 5
POSE_GRAPH_CLASSES = ("EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXBuildScene", "EgoXEgoPoseInput")


def ask_editor(client: ApiClient, name: str, body: Any, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8")
    return request(
        client, f"/egox/pose_editor/{name}", data, **{"Content_Type": "application/json", **headers}
    )


def pose_graph(load_workflow, **pose_inputs: Any) -> dict[str, Any]:
    """Cut the pose node's part out of the demo graph."""
    prompt = shrink_graph(load_workflow("egox_demo"), frames=FRAMES, size=96)
    prompt = {k: n for k, n in prompt.items() if n["class_type"] in POSE_GRAPH_CLASSES}
    inputs_of_type(prompt, "EgoXLoadExoVideo").update(
        {
            "file": "sample/synthetic_room/exo.mp4",
            "start_frame": 0,
            "target_fps": 0.0,
        }
    )
    inputs_of_type(prompt, "EgoXEgoPoseInput").update(**pose_inputs)
    return prompt


def run_pose_node(client: ApiClient, prompt: dict[str, Any]) -> dict[str, Any]:
    outcome = run_successfully(client, prompt)
    return outcome.outputs[node_id_of_type(prompt, "EgoXEgoPoseInput")]["egox_pose"][0]


@pytest.fixture(scope="module")
def pose_output(server, load_workflow) -> dict[str, Any]:
    return run_pose_node(server.client, pose_graph(load_workflow))


@pytest.fixture(scope="module")
def camera(server, load_workflow) -> dict[str, Any]:
    prompt = pose_graph(load_workflow)
    widgets = inputs_of_type(prompt, "EgoXEgoPoseInput")
    return ask_editor(server.client, "camera", widgets).json()


@pytest.fixture
def request_body(pose_output, camera) -> dict[str, Any]:
    """Build a JSON body with the arguments of all pose editor routes."""
    return {
        "token": pose_output["scene"]["token"],
        "camera": camera["camera"],
        "w2c": pose_output["path"][0],
        "indices": pose_output["indices"],
        "times_s": pose_output["times_s"],
        "up": pose_output["scene"]["up"],
    }


def test_the_node_sends_the_page_the_data_of_its_scene(pose_output, client, load_workflow):
    scene = pose_output["scene"]
    assert len(scene["token"]) >= 32 and scene["frames"] == pose_output["frames"] == FRAMES == len(
        pose_output["path"]
    )
    assert (
        len(pose_output["indices"]) == len(pose_output["times_s"]) == FRAMES
        and scene["pictures"]
        and scene["whole"]
    )
    assert scene["up"] == [0, 0, 1]
    assert np.array(pose_output["path"]).shape == (FRAMES, 3, 4)
    # The same scene keeps its token, in a run that comes from the cache and in one with another
    # path.
    assert run_pose_node(client, pose_graph(load_workflow))["scene"]["token"] == scene["token"]
    keyframe_output = run_pose_node(
        client, pose_graph(load_workflow, source="keyframes", keyframes="[]")
    )
    assert (
        keyframe_output["scene"]["token"] == scene["token"]
        and keyframe_output["path"] != pose_output["path"]
    )


def test_a_graph_of_another_video_depth_or_path_has_another_origin(
    client, pose_output, load_workflow
):
    def read_origin(prompt: dict[str, Any]) -> dict[str, Any]:
        return ask_editor(
            client, "origin", {"node": node_id_of_type(prompt, "EgoXEgoPoseInput"), "graph": prompt}
        ).json()

    def changed_origin(kind: str, **values: Any) -> dict[str, Any]:
        prompt = pose_graph(load_workflow)
        inputs_of_type(prompt, kind).update(**values)
        return read_origin(prompt)["origin"]

    assert read_origin(pose_graph(load_workflow)) == {
        "origin": pose_output["origin"],
        "file_missing": False,
        "video": pose_output["video"],
    }
    float_graph = pose_graph(load_workflow)  # as JavaScript writes numbers
    for entry in float_graph.values():
        entry["inputs"] = {
            k: int(v) if isinstance(v, float) and v.is_integer() else v
            for k, v in entry["inputs"].items()
        }
    assert read_origin(float_graph)["origin"] == pose_output["origin"]
    renumbered_prompt = json.loads(json.dumps(pose_graph(load_workflow)))
    new_ids = {name: f"9:{name}" for name in renumbered_prompt}
    for entry in renumbered_prompt.values():
        entry["inputs"] = {
            k: [new_ids[v[0]], v[1]] if isinstance(v, list) else v
            for k, v in entry["inputs"].items()
        }
    assert (
        read_origin({new_ids[k]: v for k, v in renumbered_prompt.items()})["origin"]
        == pose_output["origin"]
    )
    other_video_origin, other_depth_origin = (
        changed_origin("EgoXLoadExoVideo", start_frame=2),
        changed_origin("EgoXDepthAlign", scale_factor=0.5),
    )
    assert (
        len(
            {
                pose_output["origin"]["scene"],
                other_video_origin["scene"],
                other_depth_origin["scene"],
            }
        )
        == 3
    )
    # The camera and the keyframes are not what a scene is made from, and keyframes are the editor's
    # own.
    assert changed_origin("EgoXEgoPoseInput", size=64, keyframes="[]") == pose_output["origin"]
    other_path_origin = changed_origin("EgoXEgoPoseInput", file="sample/synthetic_room/other.json")
    assert (
        other_path_origin["scene"] == pose_output["origin"]["scene"]
        and other_path_origin["path"] != pose_output["origin"]["path"]
    )


def test_missing_files_and_bad_values_are_refused_before_a_run(client, load_workflow, server_base):
    """Check that the error message names what is missing."""
    bare_video = server_base.input / "alone" / "exo.mp4"
    bare_video.parent.mkdir(exist_ok=True)
    bare_video.write_bytes((ROOT / "sample" / "synthetic_room" / "exo.mp4").read_bytes())
    meta_choice = "meta.json beside the video"
    for node_class, values, message in (
        ("EgoXLoadExoVideo", {"file": "alone/none.mp4"}, "not there"),
        ("EgoXLoadExoVideo", {"file": "alone/exo.mp4"}, "no depth at all"),
        ("EgoXDepthAlign", {"depth_file": "alone/none.npz"}, "not there"),
        ("EgoXDepthAlign", {"camera_file": "../meta.json"}, "leads out"),
        ("EgoXDepthAlign", {"exo_fov": 2.0}, "field of view"),
        ("EgoXEgoPoseInput", {"source": "file", "file": "alone/none.json"}, "not there"),
        ("EgoXEgoPoseInput", {"source": "keyframes", "keyframes": '[{"frame": 0}]'}, "keys"),
    ):
        prompt = pose_graph(load_workflow, source="keyframes", keyframes="[]")
        inputs_of_type(prompt, "EgoXDepthAlign")["depth_file"] = ""
        inputs_of_type(prompt, node_class).update(**values)
        with pytest.raises(PromptRefused, match=message):
            client.run(prompt)
    prompt = pose_graph(load_workflow, source="file", file=meta_choice)
    pose_node_id = node_id_of_type(prompt, "EgoXEgoPoseInput")
    inputs_of_type(prompt, "EgoXLoadExoVideo")["file"] = "alone/exo.mp4"
    inputs_of_type(prompt, "EgoXDepthAlign")["depth_file"] = "sample/synthetic_room/depth.npz"
    with pytest.raises(PromptRefused, match="Open pose editor.*Load scene"):
        client.run(prompt)
    assert (
        ask_editor(client, "origin", {"node": pose_node_id, "graph": prompt}).json()["file_missing"]
        is True
    )


def test_the_cloud_route_sends_points_and_colours(client, pose_output):
    token, count = pose_output["scene"]["token"], pose_output["scene"]["points"]
    all_points = ask_editor(client, "cloud", {"token": token})
    assert (
        all_points.status == 200
        and len(all_points.body) == 15 * count
        and int(all_points.headers["X-EgoX-Points"]) == count
    )
    xyz = np.frombuffer(all_points.body[: 12 * count], "<f4").reshape(-1, 3)
    assert np.isfinite(xyz).all()
    assert xyz.std(0).min() > 0.1
    first_points = ask_editor(client, "cloud", {"token": token, "most": 100})
    assert first_points.body[:1200] == all_points.body[:1200]
    assert len(first_points.body) == 1500
    moving_points = ask_editor(client, "cloud", {"token": token, "part": "moving", "frame": 2})
    assert (
        moving_points.status == 200
        and 0 < len(moving_points.body)
        and len(moving_points.body) % 15 == 0
    )


def decode_picture(answer: Answer) -> np.ndarray:
    assert answer.status == 200 and answer.headers["Content-Type"] == "image/jpeg", answer.body[
        :300
    ]
    return cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)


def test_the_prior_and_exo_frame_routes_send_pictures(client, pose_output, request_body):
    first_answer = ask_editor(client, "prior", request_body)
    assert (
        decode_picture(first_answer).shape == (224, 224, 3)
        and float(first_answer.headers["X-EgoX-Coverage"]) > 0.3
    )
    small_picture = decode_picture(
        ask_editor(client, "prior", request_body | {"size": 64, "moving": True, "frame": 3})
    )
    assert small_picture.shape == (64, 64, 3)
    exo_picture = decode_picture(
        ask_editor(client, "exo_frame", {"token": pose_output["scene"]["token"], "frame": 1})
    )
    assert (
        list(exo_picture.shape[1::-1]) == pose_output["scene"]["exo_size"]
        and exo_picture.std() > 10
    )


def test_requests_that_arrive_late_are_dropped(client, request_body):
    request_body["view"] = "late"
    assert ask_editor(client, "prior", request_body | {"count": 5}).status == 200
    assert ask_editor(client, "prior", request_body | {"count": 4}).status == 204
    assert ask_editor(client, "prior", request_body | {"count": 4, "view": "another"}).status == 200


def test_the_pick_route_finds_the_point_under_a_pixel(client, pose_output):
    pick_body = {"token": pose_output["scene"]["token"], "frame": 0}
    picked_point = ask_editor(client, "pick", pick_body | {"u": 0.5, "v": 0.8}).json()
    exo_pose = np.array(pose_output["scene"]["exo_from_scene"][0])
    depth_ahead = exo_pose[2, :3] @ picked_point["point"] + exo_pose[2, 3]
    assert depth_ahead == pytest.approx(picked_point["depth_m"], rel=1e-3)
    picked_head = ask_editor(client, "pick", pick_body | {"u": 0.5, "v": 0.8, "head": True}).json()
    assert (
        picked_head["point"] != picked_point["point"]
        and abs(picked_head["depth_m"] - picked_point["depth_m"]) < 0.5
    )  # as of any surface
    assert ask_editor(client, "pick", pick_body | {"u": 1.5, "v": 0.5}).status == 400


def test_a_path_outside_comfyuis_folders_is_refused(client, request_body, server_base):
    del request_body["token"]
    path_text = json.dumps([{"frame": 0, "position": [0, 0, 7], "yaw_deg": 0}])
    (server_base.root / "secret.json").write_text(path_text, "utf-8")
    (server_base.input / "mine.json").write_text(path_text, "utf-8")
    assert (
        ask_editor(client, "import", request_body | {"file": "mine.json"}).json()["document"][
            "keyframes"
        ][0]["position"][2]
        == 7
    )
    for name in (
        "../secret.json",
        str(server_base.root / "secret.json"),
        "/etc/passwd",
        "input/../../secret.json",
    ):
        answer = ask_editor(client, "import", request_body | {"file": name})
        assert answer.status == 400 and "position" not in answer.json()["reason"], name


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cloud", {"token": 3}, "token"),
        ("cloud", {"most": 10**9}, "most"),
        ("cloud", {"frame": FRAMES, "part": "moving"}, "frame"),
        ("prior", {"size": 4096}, "size"),
        ("prior", {"w2c": [[1]]}, "w2c"),
        ("prior", {"camera": {"lens": "none"}}, "camera"),
        ("pick", {"u": "left", "v": 0}, "u"),
        ("import", {"texts": {"x.json": "{"}}, "JSON"),
        ("export", {"form": "exe"}, "form"),
        ("renew", {"node": ""}, "node"),
        ("origin", {"node": "1", "graph": {}}, "graph"),
    ],
)
def test_a_malformed_body_is_refused_with_a_reason(client, request_body, name, change, message):
    answer = ask_editor(client, name, request_body | change)
    assert answer.status == 400 and message in answer.json()["reason"], answer.body[:400]


def test_after_a_renew_request_the_node_runs_again_for_a_new_token(client, load_workflow):
    """Check that the node runs again after its stored scene was dropped."""
    answer = ask_editor(client, "cloud", {"token": "x" * 32})
    assert answer.status == 410
    assert "run the graph again" in answer.json()["reason"]
    prompt = pose_graph(load_workflow)
    node_id = node_id_of_type(prompt, "EgoXEgoPoseInput")
    run_successfully(client, prompt)
    assert run_successfully(client, prompt).executed_nodes == []
    assert ask_editor(client, "renew", {"node": node_id}).status == 200
    assert node_id in run_successfully(client, prompt).executed_nodes
