"""The pose editor's routes on the real server: what they answer, to whom, and what they refuse."""

import json
from typing import Any

import cv2
import numpy as np
import pytest

from tests.host.asking import Answer, request
from tests.host.prompts import id_of, of_type, ran, small
from tests.paths import ROOT
from tools.setup.api_client import ApiClient, PromptRefused

FRAMES = 5
NEEDED = ("EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXBuildScene", "EgoXEgoPoseInput")


def ask(client: ApiClient, name: str, body: Any, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8")
    return request(
        client, f"/egox/pose_editor/{name}", data, **{"Content_Type": "application/json", **headers}
    )


def graph(load_workflow, **pose: Any) -> dict[str, Any]:
    """Cut out the part of the demo that leads to the pose node, which runs alone."""
    prompt = small(load_workflow("egox_demo"), frames=FRAMES, size=96)
    prompt = {k: n for k, n in prompt.items() if n["class_type"] in NEEDED}
    of_type(prompt, "EgoXLoadExoVideo").update(
        {
            "file": "sample/synthetic_room/exo.mp4",
            "start_frame": 0,
            "target_fps": 0.0,
        }
    )
    of_type(prompt, "EgoXEgoPoseInput").update(**pose)
    return prompt


def run(client: ApiClient, prompt: dict[str, Any]) -> dict[str, Any]:
    outcome = ran(client, prompt)
    return outcome.outputs[id_of(prompt, "EgoXEgoPoseInput")]["egox_pose"][0]


@pytest.fixture(scope="module")
def told(server, load_workflow) -> dict[str, Any]:
    return run(server.client, graph(load_workflow))


@pytest.fixture(scope="module")
def camera(server, load_workflow) -> dict[str, Any]:
    prompt = graph(load_workflow)
    widgets = of_type(prompt, "EgoXEgoPoseInput")
    return ask(server.client, "camera", widgets).json()


@pytest.fixture
def body(told, camera) -> dict[str, Any]:
    """Build what a page sends, of which each route takes its own part."""
    return {
        "token": told["scene"]["token"],
        "camera": camera["camera"],
        "w2c": told["path"][0],
        "indices": told["indices"],
        "times_s": told["times_s"],
        "up": told["scene"]["up"],
    }


def test_the_node_tells_the_page_what_it_needs(told, client, load_workflow):
    scene = told["scene"]
    assert len(scene["token"]) >= 32 and scene["frames"] == told["frames"] == FRAMES == len(
        told["path"]
    )
    assert (
        len(told["indices"]) == len(told["times_s"]) == FRAMES
        and scene["pictures"]
        and scene["whole"]
    )
    assert scene["up"] == [0, 0, 1] and np.array(told["path"]).shape == (FRAMES, 3, 4)
    # The same scene keeps its token, in a run that comes from the cache and in one with another
    # path.
    assert run(client, graph(load_workflow))["scene"]["token"] == scene["token"]
    moved = run(client, graph(load_workflow, source="keyframes", keyframes="[]"))
    assert moved["scene"]["token"] == scene["token"] and moved["path"] != told["path"]


def test_a_graph_of_another_video_depth_or_path_has_another_origin(client, told, load_workflow):
    def of(prompt: dict[str, Any]) -> dict[str, Any]:
        return ask(
            client, "origin", {"node": id_of(prompt, "EgoXEgoPoseInput"), "graph": prompt}
        ).json()

    def changed(kind: str, **values: Any) -> dict[str, Any]:
        prompt = graph(load_workflow)
        of_type(prompt, kind).update(**values)
        return of(prompt)["origin"]

    assert of(graph(load_workflow)) == {
        "origin": told["origin"],
        "file_missing": False,
        "video": told["video"],
    }
    float_graph = graph(load_workflow)  # as JavaScript writes numbers
    for entry in float_graph.values():
        entry["inputs"] = {
            k: int(v) if isinstance(v, float) and v.is_integer() else v
            for k, v in entry["inputs"].items()
        }
    assert of(float_graph)["origin"] == told["origin"]
    renumbered = json.loads(json.dumps(graph(load_workflow)))
    names = {name: f"9:{name}" for name in renumbered}
    for entry in renumbered.values():
        entry["inputs"] = {
            k: [names[v[0]], v[1]] if isinstance(v, list) else v for k, v in entry["inputs"].items()
        }
    assert of({names[k]: v for k, v in renumbered.items()})["origin"] == told["origin"]
    video, depth = (
        changed("EgoXLoadExoVideo", start_frame=2),
        changed("EgoXDepthAlign", scale_factor=0.5),
    )
    assert len({told["origin"]["scene"], video["scene"], depth["scene"]}) == 3
    # The camera and the keyframes are not what a scene is made from, and keyframes are the editor's
    # own.
    assert changed("EgoXEgoPoseInput", size=64, keyframes="[]") == told["origin"]
    other = changed("EgoXEgoPoseInput", file="sample/synthetic_room/other.json")
    assert other["scene"] == told["origin"]["scene"] and other["path"] != told["origin"]["path"]


def test_what_is_missing_is_said_before_a_run(client, load_workflow, server_base):
    """The node's own message names each missing thing and what to do. Nothing has run by then."""
    alone = server_base.input / "alone" / "exo.mp4"
    alone.parent.mkdir(exist_ok=True)
    alone.write_bytes((ROOT / "sample" / "synthetic_room" / "exo.mp4").read_bytes())
    meta_words = "meta.json beside the video"
    for kind, values, message in (
        ("EgoXLoadExoVideo", {"file": "alone/none.mp4"}, "not there"),
        ("EgoXLoadExoVideo", {"file": "alone/exo.mp4"}, "no depth at all"),
        ("EgoXDepthAlign", {"depth_file": "alone/none.npz"}, "not there"),
        ("EgoXDepthAlign", {"camera_file": "../meta.json"}, "leads out"),
        ("EgoXDepthAlign", {"exo_fov": 2.0}, "field of view"),
        ("EgoXEgoPoseInput", {"source": "file", "file": "alone/none.json"}, "not there"),
        ("EgoXEgoPoseInput", {"source": "keyframes", "keyframes": '[{"frame": 0}]'}, "keys"),
    ):
        prompt = graph(load_workflow, source="keyframes", keyframes="[]")
        of_type(prompt, "EgoXDepthAlign")["depth_file"] = ""
        of_type(prompt, kind).update(**values)
        with pytest.raises(PromptRefused, match=message):
            client.run(prompt)
    prompt = graph(load_workflow, source="file", file=meta_words)
    node = id_of(prompt, "EgoXEgoPoseInput")
    of_type(prompt, "EgoXLoadExoVideo")["file"] = "alone/exo.mp4"
    of_type(prompt, "EgoXDepthAlign")["depth_file"] = "sample/synthetic_room/depth.npz"
    with pytest.raises(PromptRefused, match="Open pose editor.*Load scene"):
        client.run(prompt)
    assert ask(client, "origin", {"node": node, "graph": prompt}).json()["file_missing"] is True


def test_cloud(client, told):
    token, count = told["scene"]["token"], told["scene"]["points"]
    all_points = ask(client, "cloud", {"token": token})
    assert (
        all_points.status == 200
        and len(all_points.body) == 15 * count
        and int(all_points.headers["X-EgoX-Points"]) == count
    )
    xyz = np.frombuffer(all_points.body[: 12 * count], "<f4").reshape(-1, 3)
    assert np.isfinite(xyz).all() and xyz.std(0).min() > 0.1
    part = ask(client, "cloud", {"token": token, "most": 100})
    assert part.body[:1200] == all_points.body[:1200] and len(part.body) == 1500
    moving = ask(client, "cloud", {"token": token, "part": "moving", "frame": 2})
    assert moving.status == 200 and 0 < len(moving.body) and len(moving.body) % 15 == 0


def picture(answer: Answer) -> np.ndarray:
    assert answer.status == 200 and answer.headers["Content-Type"] == "image/jpeg", answer.body[
        :300
    ]
    return cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)


def test_prior_and_exo_frame(client, told, body):
    first = ask(client, "prior", body)
    assert picture(first).shape == (224, 224, 3) and float(first.headers["X-EgoX-Coverage"]) > 0.3
    again = picture(ask(client, "prior", body | {"size": 64, "moving": True, "frame": 3}))
    assert again.shape == (64, 64, 3)
    exo = picture(ask(client, "exo_frame", {"token": told["scene"]["token"], "frame": 1}))
    assert list(exo.shape[1::-1]) == told["scene"]["exo_size"] and exo.std() > 10


def test_late_requests_are_dropped(client, body):
    body["view"] = "late"
    assert ask(client, "prior", body | {"count": 5}).status == 200
    assert ask(client, "prior", body | {"count": 4}).status == 204
    assert ask(client, "prior", body | {"count": 4, "view": "another"}).status == 200


def test_pick(client, told):
    body = {"token": told["scene"]["token"], "frame": 0}
    hit = ask(client, "pick", body | {"u": 0.5, "v": 0.8}).json()
    pose = np.array(told["scene"]["exo_from_scene"][0])
    ahead = pose[2, :3] @ hit["point"] + pose[2, 3]
    assert ahead == pytest.approx(hit["depth_m"], rel=1e-3)
    head = ask(client, "pick", body | {"u": 0.5, "v": 0.8, "head": True}).json()
    assert (
        head["point"] != hit["point"] and abs(head["depth_m"] - hit["depth_m"]) < 0.5
    )  # as of any surface
    assert ask(client, "pick", body | {"u": 1.5, "v": 0.5}).status == 400


def test_camera_of_the_menu(camera, client):
    assert camera["quarter_turns"] == 1 and len(camera["outline"]) == 64
    assert ask(client, "camera", {"camera": "pinhole"}).json()["camera"]["lens"] == "pinhole"
    assert (
        ask(client, "camera", {"camera": "fish"}).status == ask(client, "camera", {}).status == 400
    )


def test_a_path_outside_the_hosts_folders_is_refused(client, body, server_base):
    del body["token"]
    path = json.dumps([{"frame": 0, "position": [0, 0, 7], "yaw_deg": 0}])
    (server_base.root / "secret.json").write_text(path, "utf-8")
    (server_base.input / "mine.json").write_text(path, "utf-8")
    assert (
        ask(client, "import", body | {"file": "mine.json"}).json()["document"]["keyframes"][0][
            "position"
        ][2]
        == 7
    )
    for name in (
        "../secret.json",
        str(server_base.root / "secret.json"),
        "/etc/passwd",
        "input/../../secret.json",
    ):
        answer = ask(client, "import", body | {"file": name})
        assert answer.status == 400 and "position" not in answer.json()["reason"], name


def test_only_the_servers_own_page_is_answered(client, body):
    """Pages of other origins are refused. tests/nodes/test_requests.py tells them apart."""
    answer = ask(client, "cloud", body, Origin="http://evil.example")
    assert answer.status == 403 and len(answer.body) < 200
    assert request(client, "/egox/pose_editor/cloud").status in (404, 405)


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
def test_a_malformed_body_is_refused_with_a_reason(client, body, name, change, message):
    answer = ask(client, name, body | change)
    assert answer.status == 400 and message in answer.json()["reason"], answer.body[:400]


def test_what_is_no_json_or_too_large_is_refused(client):
    for body in (b"", b"[1]", b"\xff\xfe", b"{", b"[" * 100_000):
        answer = ask(client, "cloud", body)
        assert answer.status == 400 and "JSON" in answer.json()["reason"]
    assert ask(client, "cloud", b" " * 300_000).status == 413


def test_an_old_token_is_gone_and_a_page_that_says_so_gets_a_run(client, load_workflow):
    """Although the host has the node's result in its cache. How many scenes are kept:
    tests/nodes/test_scene_store.py."""
    answer = ask(client, "cloud", {"token": "x" * 32})
    assert answer.status == 410 and "run the graph again" in answer.json()["reason"]
    prompt = graph(load_workflow)
    node = id_of(prompt, "EgoXEgoPoseInput")
    ran(client, prompt)
    assert ran(client, prompt).ran == []
    assert ask(client, "renew", {"node": node}).status == 200
    assert node in ran(client, prompt).ran
