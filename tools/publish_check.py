#!/usr/bin/env python3
"""Refuse to publish while something is empty that only the owner can give, or while versions differ.

python tools/publish_check.py v1.3.0      # the tag; run by .github/workflows/publish.yml
python tools/publish_check.py --list      # the pack's entry for ComfyUI-Manager's custom-node-list.json
"""

import json
import re
import sys
from pathlib import Path

import tomllib

REPO = Path(__file__).resolve().parent.parent


def find_faults(repo: Path, tag: str) -> list[str]:
    """List the reasons not to publish this tag."""
    data = tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))
    project, comfy = data["project"], data["tool"]["comfy"]
    required = {
        "[project.urls] Repository": project.get("urls", {}).get("Repository", ""),
        "[tool.comfy] PublisherId": comfy["PublisherId"],
        "[tool.comfy] Icon": comfy["Icon"],
        "[tool.comfy] Banner": comfy["Banner"],
    }
    messages = [f"pyproject.toml: {name} is empty" for name, value in required.items() if not value]
    version = project["version"]
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
    """Write the pack's entry for ComfyUI-Manager's own list, for a pull request there.

    By ``nodename_pattern`` the Manager finds the pack for a graph whose nodes are missing.

    By ``nodename_pattern`` the Manager finds the pack for a graph whose nodes are missing.
    """
    data = tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))
    project, comfy = data["project"], data["tool"]["comfy"]
    address = project.get("urls", {}).get("Repository", "")
    if not (address and comfy["PublisherId"]):
        sys.exit("pyproject.toml: [project.urls] Repository or [tool.comfy] PublisherId is empty")
    return {
        "author": comfy["PublisherId"],
        "title": comfy["DisplayName"],
        "id": project["name"],
        "reference": address,
        "nodename_pattern": "^EgoX",
        "files": [address],
        "install_type": "git-clone",
        "description": project["description"],
    }


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        sys.exit(print(json.dumps(list_entry(REPO), indent=4)))
    found = find_faults(REPO, sys.argv[1])
    print("\n".join(found) or f"{sys.argv[1]} may be published")
    sys.exit(1 if found else 0)
