"""Translations and help pages reach the front end: the server hands them out where it asks for
them."""

import re

from tests.host.asking import request
from tools.setup.base_dir import PACK_NAME
from tools.texts.locales import HELP, SOURCE, TRANSLATIONS, leaves, read_locale


def test_translations_are_served(client, object_info):
    served = client.get("/i18n")
    nodes = {
        name
        for name, info in object_info.items()
        if info["python_module"] == f"custom_nodes.{PACK_NAME}"
    }
    assert len(nodes) > 10
    for language in (SOURCE, *TRANSLATIONS):
        texts = dict(leaves(served[language]["nodeDefs"]))
        assert dict(leaves(read_locale(language))).items() <= texts.items(), language
    assert nodes <= set(served[SOURCE]["nodeDefs"])
    assert served["ko"]["nodeDefs"]["EgoXDepthAlign"]["display_name"] == "깊이 정렬"


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
