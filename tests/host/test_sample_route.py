"""Test the routes that read a named file, and where saved clips may be written."""

import io
import json
import shutil
import urllib.parse

import pytest
from PIL import Image

from tests.host.asking import Answer, multipart, request
from tools.setup.api_client import ApiClient

SAMPLE_VIDEO = "sample/synthetic_room/exo.mp4"


def get_file(client: ApiClient, file: str, route: str = "sample_video", **headers: str) -> Answer:
    query = urllib.parse.urlencode({"file": file})
    return request(client, f"/egox/{route}?{query}", **{"Origin": "", **headers})


def test_a_sample_video_is_sent_whole_or_in_part(client, repo_root):
    full_answer = get_file(client, SAMPLE_VIDEO)
    assert full_answer.status == 200
    assert full_answer.body == (repo_root / SAMPLE_VIDEO).read_bytes()
    part_answer = get_file(client, SAMPLE_VIDEO, Range="bytes=0-99")  # how a video element reads
    assert part_answer.status == 206
    assert len(part_answer.body) == 100


@pytest.mark.parametrize(
    "file",
    [
        "input/exo.mp4",
        "sample/synthetic_room/meta.json",
        "sample/../../x.mp4",
    ],
)
def test_files_other_than_sample_videos_are_refused(client, file):
    answer = get_file(client, file)
    assert answer.status == 400
    assert b"reason" in answer.body


def test_requests_from_another_page_are_refused(client):
    for route in ("sample_video", "exo_clip", "exo_frame"):
        assert get_file(client, SAMPLE_VIDEO, route, Sec_Fetch_Site="cross-site").status == 403
        assert get_file(client, SAMPLE_VIDEO, route, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize("route", ["exo_clip", "exo_frame"])
def test_the_trim_bar_reads_no_video_outside_the_folders(client, route):
    assert get_file(client, "../x.mp4", route).status == 400


def test_the_trim_bar_is_told_whether_depth_lies_beside(client, server_base, repo_root):
    bare_folder = server_base.input / "bare_video"
    bare_folder.mkdir(exist_ok=True)
    shutil.copy(repo_root / SAMPLE_VIDEO, bare_folder)
    clip_infos = [
        json.loads(get_file(client, name, "exo_clip").body)
        for name in (SAMPLE_VIDEO, "bare_video/exo.mp4")
    ]
    assert [clip["depth"] for clip in clip_infos] == [True, False]
    assert clip_infos[1]["frames"] == 49


def test_a_saved_clip_stays_in_its_folder(client, server_base):
    jpeg_stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(jpeg_stream, "JPEG")
    clip_options = json.dumps({"name": "../../out\\of", "fps": 8}).encode()
    multipart_body = multipart(
        ('name="about"', clip_options), ('name="frame"', jpeg_stream.getvalue())
    )
    answer = request(client, "/egox/save_clip", **multipart_body)
    saved_file = server_base.output / json.loads(answer.body)["file"]
    assert saved_file.is_file()
    assert saved_file.parent == server_base.output / "egox_previews"
