"""The route that shows the pack's sample videos in the page."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request

import pytest

from tools.setup.api_client import ApiClient

SAMPLE = "sample/synthetic_room/exo.mp4"


def ask(client: ApiClient, file: str, **headers: str) -> tuple[int, bytes]:
    address = f"{client.address}/egox/sample_video?{urllib.parse.urlencode({'file': file})}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_sample_is_shown(client, repo_root):
    status, body = ask(client, SAMPLE)
    assert status == 200 and body == (repo_root / SAMPLE).read_bytes()
    status, body = ask(client, SAMPLE, Range="bytes=0-99")  # how a video element reads
    assert status == 206 and len(body) == 100


@pytest.mark.parametrize("file", ["", "sample/../README.md", "sample/../nodes/__init__.py", "/etc/passwd",
                                  "sample/synthetic_room/meta.json", "sample/no_such_take/exo.mp4",
                                  "sample/../../x.mp4", "input/exo.mp4"])
def test_nothing_else_is(client, file):
    status, body = ask(client, file)
    assert status == 400 and b"reason" in body


def test_another_page_may_not_ask(client):
    assert ask(client, SAMPLE, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert ask(client, SAMPLE, **{"Sec-Fetch-Site": "same-origin"})[0] == 200
