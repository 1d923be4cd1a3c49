"""Each node has a help page where the front end looks for it."""

import re

from tools.texts.locales import HELP
from tools.texts.node_schemas import node_schemas


def test_pages_lie_where_the_front_end_looks(pack, repo_root):
    """``WEB_DIRECTORY/docs/<node id>.md``, fetched as ``/extensions/<pack>/docs/<node id>.md``."""
    declared = re.search(
        r'WEB_DIRECTORY = "([^"]+)"', (repo_root / "__init__.py").read_text("utf-8")
    )
    assert declared and HELP == (repo_root / declared.group(1)).resolve() / "docs"
    schemas = {schema.id: schema.display_name for schema in node_schemas(pack)}
    pages = {path.stem: path.read_text("utf-8") for path in HELP.glob("*.md")}
    assert pages.keys() == schemas.keys()
    assert all(page.startswith(f"# {schemas[node]}\n") for node, page in pages.items())
