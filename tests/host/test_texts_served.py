"""Test that the server sends help pages and updated modules."""

import re

from tests.host.asking import request
from tests.paths import ROOT
from tools.setup.base_dir import PACK_NAME
from tools.texts.locales import HELP, SOURCE, read_locale


def test_help_pages_and_their_pictures_are_served(client, object_info):
    assert {page.stem for page in HELP.glob("*.md")} == read_locale(SOURCE).keys()
    for node in read_locale(SOURCE):
        answer = request(client, f"/extensions/{PACK_NAME}/docs/{node}.md")
        # The front end takes an HTML answer for its own fallback page and shows no help.
        assert "text/html" not in answer.headers.get("Content-Type", "")
        page = answer.body.decode("utf-8")
        assert page.startswith(f"# {object_info[node]['display_name']}\n"), node
        assert re.search(rf"!\[.{{20,}}\]\(img/{node}\.webp\)", page), "a picture, described"
        picture = request(client, f"/extensions/{PACK_NAME}/docs/img/{node}.webp")
        assert picture.status == 200 and picture.body.startswith(b"RIFF"), node


def test_a_browser_asks_again_for_every_module(client):
    """Check each module's cache header."""
    modules = (ROOT / "web" / "js").rglob("*.mjs")
    for name in [module.relative_to(ROOT / "web" / "js").as_posix() for module in modules]:
        answer = request(client, f"/extensions/{PACK_NAME}/{name}")
        assert answer.headers["Cache-Control"] == "no-cache", name
        etag_header = {"If-None-Match": answer.headers["Etag"]}
        assert (
            answer.body
            and request(client, f"/extensions/{PACK_NAME}/{name}", **etag_header).status == 304
        )
