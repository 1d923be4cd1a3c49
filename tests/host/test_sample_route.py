"""Routes that read a file by the name in their address, and where a saved clip may go."""

import io
import json
import shutil
import urllib.parse

import pytest
from PIL import Image

from tests.host.asking import Answer, multipart, request
from tools.setup.api_client import ApiClient

SAMPLE = "sample/synthetic_room/exo.mp4"


def ask(client: ApiClient, file: str, route: str = "sample_video", **headers: str) -> Answer:
    query = urllib.parse.urlencode({"file": file})
    return request(client, f"/egox/{route}?{query}", **{"Origin": "", **headers})


def test_a_sample_is_shown(client, repo_root):
    full_answer = ask(client, SAMPLE)
    assert full_answer.status == 200 and full_answer.body == (repo_root / SAMPLE).read_bytes()
    part = ask(client, SAMPLE, Range="bytes=0-99")  # how a video element reads
    assert part.status == 206 and len(part.body) == 100


@pytest.mark.parametrize(
    "file",
    [
        "input/exo.mp4",
        "sample/synthetic_room/meta.json",
        "sample/../../x.mp4",
    ],
)
def test_nothing_else_is(client, file):
    answer = ask(client, file)
    assert answer.status == 400 and b"reason" in answer.body


def test_another_page_may_not_ask(client):
    for route in ("sample_video", "exo_clip", "exo_frame"):
        assert ask(client, SAMPLE, route, Sec_Fetch_Site="cross-site").status == 403
        assert ask(client, SAMPLE, route, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize("route", ["exo_clip", "exo_frame"])
def test_the_trim_bar_reads_videos_inside_only(client, route):
    assert ask(client, "../x.mp4", route).status == 400


def test_the_trim_bar_is_told_whether_depth_lies_beside(client, server_base, repo_root):
    bare = server_base.input / "bare_video"
    bare.mkdir(exist_ok=True)
    shutil.copy(repo_root / SAMPLE, bare)
    told = [
        json.loads(ask(client, name, "exo_clip").body) for name in (SAMPLE, "bare_video/exo.mp4")
    ]
    assert [clip["depth"] for clip in told] == [True, False] and told[1]["frames"] == 49


def test_a_saved_clip_stays_in_its_folder(client, server_base):
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "JPEG")
    about = json.dumps({"name": "../../out\\of", "fps": 8}).encode()
    parts = multipart(('name="about"', about), ('name="frame"', picture.getvalue()))
    answer = request(client, "/egox/save_clip", **parts)
    file = server_base.output / json.loads(answer.body)["file"]
    assert file.is_file() and file.parent == server_base.output / "egox_previews"
