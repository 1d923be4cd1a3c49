"""Check that random requests never crash or block a real server."""

import json
import os
import random
from typing import Any

from tests.damage import _change_json_values
from tests.host.test_pose_editor_routes import ask_editor, pose_graph, run_pose_node

SEED = int(os.environ.get("EGOX_SEED", "38"))
REQUEST_COUNT = 300
ROUTES = ("cloud", "prior", "exo_frame", "pick", "camera", "import", "export", "renew", "origin")
RAW_BODIES = (
    b"",
    b"[" * 4000,
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"\xff\xfe",
    b'{"token": ' + b"9" * 5000 + b"}",
)


def make_valid_body(
    pose_output: dict[str, Any], prompt: dict[str, Any], node_id: str
) -> dict[str, Any]:
    keyframe_document = {"keyframes": [{"frame": 0, "position": [0, 0, 0], "yaw_deg": 0}]}
    return {
        "token": pose_output["scene"]["token"],
        "frame": 0,
        "part": "static",
        "most": 100,
        "camera": pose_output["camera"],
        "w2c": pose_output["path"][0],
        "size": 64,
        "view": "random",
        "count": 0,
        "u": 0.5,
        "v": 0.5,
        "head": False,
        "indices": pose_output["indices"],
        "times_s": pose_output["times_s"],
        "texts": {"a.json": json.dumps(keyframe_document)},
        "file": "none.json",
        "poses": pose_output["path"],
        "up": [0, -1, 0],
        "entry": "",
        "form": "blender",
        "document": keyframe_document,
        "prompt": "x",
        "node": node_id,
        "graph": prompt,
    }


def test_random_requests_are_answered_or_refused_with_a_reason(server, load_workflow):
    prompt = pose_graph(load_workflow)
    node_output = run_pose_node(server.client, prompt)
    node_id = next(
        candidate_id
        for candidate_id, node_inputs in prompt.items()
        if node_inputs["class_type"] == "EgoXEgoPoseInput"
    )
    valid_body = make_valid_body(node_output, prompt, node_id)
    failures = []
    statuses = []
    for number in range(REQUEST_COUNT):
        rng = random.Random(f"{SEED}:{number}")
        route = rng.choice(ROUTES)
        kept_fields = {name: value for name, value in valid_body.items() if rng.random() > 0.15}
        request_body = (
            rng.choice(RAW_BODIES)
            if rng.random() < 0.1
            else _change_json_values(json.dumps(kept_fields).encode(), rng)
        )
        headers = {"Content_Encoding": "gzip"} if rng.random() < 0.03 else {}
        answer = ask_editor(server.client, route, request_body, **headers)
        statuses.append(answer.status)
        reasonless = answer.status == 400 and not answer.json().get("reason")
        if answer.status >= 500 or reasonless:
            failures.append(f"{SEED}:{number} {route}: {answer.status}")
    assert failures == []
    assert {200, 400} <= set(statuses)
