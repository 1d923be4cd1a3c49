"""The route that shows the pack's sample videos in the page."""

from __future__ import annotations

import urllib.parse

import pytest

from tests.host.asking import Answer, request
from tools.setup.api_client import ApiClient

SAMPLE = "sample/synthetic_room/exo.mp4"


def ask(client: ApiClient, file: str, **headers: str) -> Answer:
    query = urllib.parse.urlencode({"file": file})
    return request(client, f"/egox/sample_video?{query}", **{"Origin": "", **headers})


def test_a_sample_is_shown(client, repo_root):
    whole = ask(client, SAMPLE)
    assert whole.status == 200 and whole.body == (repo_root / SAMPLE).read_bytes()
    part = ask(client, SAMPLE, Range="bytes=0-99")  # how a video element reads
    assert part.status == 206 and len(part.body) == 100


@pytest.mark.parametrize(
    "file",
    [
        "",
        "sample/../README.md",
        "sample/../nodes/__init__.py",
        "/etc/passwd",
        "sample/synthetic_room/meta.json",
        "sample/no_such_take/exo.mp4",
        "sample/../../x.mp4",
        "input/exo.mp4",
    ],
)
def test_nothing_else_is(client, file):
    answer = ask(client, file)
    assert answer.status == 400 and b"reason" in answer.body


def test_another_page_may_not_ask(client):
    assert ask(client, SAMPLE, Sec_Fetch_Site="cross-site").status == 403
    assert ask(client, SAMPLE, Sec_Fetch_Site="same-origin").status == 200
