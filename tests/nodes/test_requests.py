"""Test which HTTP requests the pack's routes accept."""

import json
import uuid

import pytest

from tests.refusals import refuses


@pytest.mark.parametrize(
    ("fetch_site", "origin", "is_same"),
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
def test_a_page_of_another_origin_is_recognised(pack, fetch_site, origin, is_same):
    from aiohttp.test_utils import make_mocked_request
    from egox_pack.nodes.page.requests import is_same_origin

    headers = {"Host": "BOX:8188", "Origin": origin, "Sec-Fetch-Site": fetch_site}
    sent_headers = {name: value for name, value in headers.items() if value}
    assert is_same_origin(make_mocked_request("POST", "/", headers=sent_headers)) is is_same


@pytest.mark.parametrize(
    "origin, content_type, status, reason",
    [
        ("http://box", "multipart/form-data", 507, "disk"),
        ("http://box", "application/json", 400, "multipart"),
        ("http://elsewhere", "multipart/form-data", 403, "own page"),
    ],
)
def test_a_route_for_files_answers_errors_with_a_reason(
    pack, run_coroutine, origin, content_type, status, reason
):
    from aiohttp.test_utils import make_mocked_request
    from egox_pack.nodes.page.requests import file_receiving_route

    @file_receiving_route
    async def receive_on_full_disk(request):
        raise OSError(28, "No space left on device")

    upload_request = make_mocked_request(
        "POST", "/", headers={"Host": "box", "Origin": origin, "Content-Type": content_type}
    )
    answer = run_coroutine(receive_on_full_disk(upload_request))
    assert answer.status == status
    assert reason in json.loads(answer.body)["reason"]


def test_incomplete_uploads_of_a_killed_server_are_removed(pack, tmp_path):
    """Check that incomplete uploads are deleted unless another server is receiving them."""
    from egox_pack.egox_core.safe_files import clear_leftovers, file_lock
    from egox_pack.nodes.page.uploads import STAGING

    abandoned_id, active_id = uuid.uuid4().hex, uuid.uuid4().hex
    for name in (f".{abandoned_id}.part", f".{active_id}.part", "take", ".mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "depth.npz").write_bytes(b"half")
    (tmp_path / f".{abandoned_id}.lock").touch()
    with file_lock(tmp_path / active_id):
        clear_leftovers(tmp_path, STAGING)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [".mine", "take", f".{active_id}.part", f".{active_id}.lock"]
        )
    clear_leftovers(tmp_path, STAGING)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "take"]


def test_texts_may_contain_escapes_but_no_nul_character(pack):
    from egox_pack.nodes.page.requests import json_object

    for allowed_text in ("\\u0000", "\\\\u0000", "\u00e9"):
        assert json_object(json.dumps({"a": allowed_text}).encode()) == {"a": allowed_text}
    for refused_text in ("\0", "\\\0", "\ud800"):
        with refuses():
            json_object(json.dumps({"a": [refused_text]}).encode())
