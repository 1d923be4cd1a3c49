#!/usr/bin/env python3
"""Refuse a release with empty settings or differing versions.

python tools/publish_check.py v1.3.0      # the tag; run by .github/workflows/publish.yml
python tools/publish_check.py --list      # the pack's entry for ComfyUI-Manager's
custom-node-list.json
"""

import json
import re
import sys
from pathlib import Path

import tomllib

REPO = Path(__file__).resolve().parent.parent


def find_faults(repo: Path, tag: str) -> list[str]:
    """List the reasons why this tag can't be published."""
    pyproject = tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))
    project_table = pyproject["project"]
    comfy_table = pyproject["tool"]["comfy"]
    required = {
        "[project.urls] Repository": project_table.get("urls", {}).get("Repository", ""),
        "[tool.comfy] PublisherId": comfy_table["PublisherId"],
        "[tool.comfy] Icon": comfy_table["Icon"],
        "[tool.comfy] Banner": comfy_table["Banner"],
    }
    messages = [f"pyproject.toml: {name} is empty" for name, value in required.items() if not value]
    version = project_table["version"]
    if tag != f"v{version}":
        messages.append(f"the tag is {tag}, pyproject.toml has version {version}")
    for file, words in (
        ("CHANGELOG.md", f"## {version}"),
        ("CITATION.cff", f"version: {version}"),
        ("egox_core/__init__.py", f'__version__ = "{version}"'),
    ):
        if not re.search(rf"(?m)^{re.escape(words)}$", (repo / file).read_text("utf-8")):
            messages.append(f"{file} has no line {words!r}")
    return messages


def list_entry(repo: Path) -> dict[str, str | list[str]]:
    """Write the pack's entry for ComfyUI-Manager's list of packs.

    By ``nodename_pattern`` the Manager finds the pack for a graph whose nodes are missing.
    """
    pyproject = tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))
    project_table = pyproject["project"]
    comfy_table = pyproject["tool"]["comfy"]
    repository_url = project_table.get("urls", {}).get("Repository", "")
    if not (repository_url and comfy_table["PublisherId"]):
        sys.exit("pyproject.toml: [project.urls] Repository or [tool.comfy] PublisherId is empty")
    return {
        "author": comfy_table["PublisherId"],
        "title": comfy_table["DisplayName"],
        "id": project_table["name"],
        "reference": repository_url,
        "nodename_pattern": "^EgoX",
        "files": [repository_url],
        "install_type": "git-clone",
        "description": project_table["description"],
    }


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        sys.exit(print(json.dumps(list_entry(REPO), indent=4)))
    found = find_faults(REPO, sys.argv[1])
    print("\n".join(found) or f"{sys.argv[1]} may be published")
    sys.exit(1 if found else 0)
