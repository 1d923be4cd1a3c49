"""Requests that the pack's own routes answer, and their answers to the others."""

import json
import uuid

import pytest

from tests.refusals import refuses


@pytest.mark.parametrize(
    ("site", "origin", "own"),
    [
        ("", "http://box:8188", True),
        ("same-origin", "https://outer", True),  # a proxy with its own name
        ("same-origin", "", True),
        ("", "", False),
        ("", "null", False),
        ("", "http://box:8189", False),
        ("", "http://evil.box:8188", False),
        ("", "http://[::1", False),  # no address
        ("cross-site", "http://box:8188", False),
        ("same-site", "", False),
        ("none", "", False),
    ],
)
def test_a_page_of_another_origin(pack, site, origin, own):
    from aiohttp.test_utils import make_mocked_request
    from egox_pack.nodes.page.requests import is_same_origin

    headers = {"Host": "BOX:8188", "Origin": origin, "Sec-Fetch-Site": site}
    sent = {name: value for name, value in headers.items() if value}
    assert is_same_origin(make_mocked_request("POST", "/", headers=sent)) is own


@pytest.mark.parametrize(
    "origin, kind, status, reason",
    [
        ("http://box", "multipart/form-data", 507, "disk"),
        ("http://box", "application/json", 400, "multipart"),
        ("http://elsewhere", "multipart/form-data", 403, "own page"),
    ],
)
def test_a_route_that_takes_files(pack, awaited, origin, kind, status, reason):
    from aiohttp.test_utils import make_mocked_request
    from egox_pack.nodes.page.requests import takes_files

    @takes_files
    async def full(request):
        raise OSError(28, "No space left on device")

    upload_request = make_mocked_request(
        "POST", "/", headers={"Host": "box", "Origin": origin, "Content-Type": kind}
    )
    answer = awaited(full(upload_request))
    assert answer.status == status and reason in json.loads(answer.body)["reason"]


def test_what_a_killed_server_left_is_cleared(pack, tmp_path):
    """An upload that another server still receives stays."""
    from egox_pack.egox_core.safe_files import clear_leftovers, file_lock
    from egox_pack.nodes.page.uploads import STAGING

    left, theirs = uuid.uuid4().hex, uuid.uuid4().hex
    for name in (f".{left}.part", f".{theirs}.part", "take", ".mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "depth.npz").write_bytes(b"half")
    (tmp_path / f".{left}.lock").touch()
    with file_lock(tmp_path / theirs):
        clear_leftovers(tmp_path, STAGING)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            [".mine", "take", f".{theirs}.part", f".{theirs}.lock"]
        )
    clear_leftovers(tmp_path, STAGING)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine", "take"]


def test_texts_may_show_an_escape_but_hold_no_nul(pack):
    from egox_pack.nodes.page.requests import json_object

    for harmless in ("\\u0000", "\\\\u0000", "\u00e9"):
        assert json_object(json.dumps({"a": harmless}).encode()) == {"a": harmless}
    for bad in ("\0", "\\\0", "\ud800"):
        with refuses():
            json_object(json.dumps({"a": [bad]}).encode())
