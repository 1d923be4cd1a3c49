"""Requests of all kinds on the real server: none ends in 500 or keeps it for two minutes."""

import json
import os
import random
from typing import Any

from tests.damage import other_values
from tests.host.asking import request
from tests.host.test_pose_editor_routes import ask, graph, run

SEED = int(os.environ.get("EGOX_SEED", "38"))
REQUESTS = 300
ROUTES = ("cloud", "prior", "exo_frame", "pick", "camera", "import", "export", "renew", "origin")
RAW = (
    b"",
    b"[" * 4000,
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"\xff\xfe",
    b'{"token": ' + b"9" * 5000 + b"}",
)


def right(told: dict[str, Any], prompt: dict[str, Any], node: str) -> dict[str, Any]:
    keys = {"keyframes": [{"frame": 0, "position": [0, 0, 0], "yaw_deg": 0}]}
    return {
        "token": told["scene"]["token"],
        "frame": 0,
        "part": "static",
        "most": 100,
        "camera": told["camera"],
        "w2c": told["path"][0],
        "size": 64,
        "view": "random",
        "count": 0,
        "u": 0.5,
        "v": 0.5,
        "head": False,
        "indices": told["indices"],
        "times_s": told["times_s"],
        "texts": {"a.json": json.dumps(keys)},
        "file": "none.json",
        "poses": told["path"],
        "up": [0, -1, 0],
        "entry": "",
        "form": "blender",
        "document": keys,
        "prompt": "x",
        "node": node,
        "graph": prompt,
    }


def test_random_requests_get_a_reason(server, load_workflow):
    prompt = graph(load_workflow)
    node_output = run(server.client, prompt)
    node = next(key for key, each in prompt.items() if each["class_type"] == "EgoXEgoPoseInput")
    body, wrong, answers = right(node_output, prompt, node), [], []
    for number in range(REQUESTS):
        rng = random.Random(f"{SEED}:{number}")
        route = rng.choice(ROUTES)
        kept_fields = {name: value for name, value in body.items() if rng.random() > 0.15}
        sent = (
            rng.choice(RAW)
            if rng.random() < 0.1
            else other_values(json.dumps(kept_fields).encode(), rng)
        )
        headers = {"Content_Encoding": "gzip"} if rng.random() < 0.03 else {}
        answer = ask(server.client, route, sent, **headers)
        answers.append(answer.status)
        reasonless = answer.status == 400 and not answer.json().get("reason")
        if answer.status >= 500 or reasonless:
            wrong.append(f"{SEED}:{number} {route}: {answer.status}")
    assert wrong == [] and {200, 400} <= set(answers)


def test_uploads_that_are_none_get_a_reason(server):
    form = "multipart/form-data; boundary=B"
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
    bodies = [
        (b"x", "multipart/form-data"),
        (b"", form),
        (b"--B", form),
        (b"--B\r\n\r\n", form),
        (head % b"a.mp4" + b"cut off", form),
        (head % b"a.png" + b"\r\n--B--\r\n", form),
        (head % "한".encode() * 1 + b"x\r\n--B--\r\n", form),
        (head % ("é" * 200 + ".mp4").encode() + b"x\r\n--B--\r\n", form),
        (head % b"a.npz" + b"x\r\n" + head % b"a.npz/b.npz" + b"x\r\n--B--\r\n", form),
        (
            b"--B\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n--C\r\n\r\nx\r\n--C--\r\n--B--\r\n",
            form,
        ),
        (
            b'--B\r\nContent-Disposition: form-data; name="about"\r\n\r\n'
            + b"[" * 4000
            + b"\r\n--B--\r\n",
            form,
        ),
    ]
    for path in ("/egox/upload", "/egox/save_clip"):
        for data, kind in bodies:
            assert request(server.client, path, data, Content_Type=kind).status == 400, (
                path,
                data[:90],
            )
