"""Test the files by which the pack is published."""

import re
import shutil
import subprocess
import sys

import pytest

from tools import api_page


def test_nothing_is_published_while_the_owners_names_are_empty(repo_root, tmp_path):
    pytest.importorskip("tomllib")
    from tools.publish_check import find_faults, list_entry

    (tmp_path / "egox_core").mkdir()
    for name in ("pyproject.toml", "CHANGELOG.md", "CITATION.cff", "egox_core/__init__.py"):
        shutil.copy2(repo_root / name, tmp_path / name)
    project_file = tmp_path / "pyproject.toml"
    project_text = project_file.read_text("utf-8")
    version = re.search(r'(?m)^version = "(.+)"$', project_text).group(1)
    for value, fault_count in (("", 4), ("given", 0)):
        text = re.sub(r'(?m)^(PublisherId|Icon|Banner) = ".*"$', rf'\1 = "{value}"', project_text)
        text += f'\n[project.urls]\nRepository = "{value}"\n'
        project_file.write_text(text, "utf-8")
        assert len(find_faults(tmp_path, f"v{version}")) == fault_count
        assert len(find_faults(tmp_path, "v0.0.1")) == fault_count + 1
        if not value:
            with pytest.raises(SystemExit, match="empty"):
                list_entry(tmp_path)
    entry = list_entry(tmp_path)
    assert entry["files"] == [entry["reference"]] and all(entry.values())


def test_the_core_needs_what_the_pack_lists(repo_root):
    tomllib = pytest.importorskip("tomllib")
    files = (repo_root / "pyproject.toml", repo_root / "egox_core" / "pyproject.toml")
    pack_project, core_project = (
        tomllib.loads(file.read_text("utf-8"))["project"] for file in files
    )
    sampling_packages = core_project["optional-dependencies"]["sampling"]
    # install.py brings OpenCV where ComfyUI's Python has none.
    pack_packages = pack_project["dependencies"] + pack_project["optional-dependencies"]["opencv"]
    assert {*core_project["dependencies"], *sampling_packages} < {*pack_packages}


def test_api_page_equals_the_sources():
    assert api_page.PAGE.read_text("utf-8") == api_page.write_page(), "run: python3 run.py make api"


def test_the_security_page_has_every_route_and_names_tests_that_are_there(pack, repo_root):
    from aiohttp import web
    from egox_pack.nodes.page import clips, exo_clip, routes, uploads

    route_table = web.RouteTableDef()
    for module in (routes, uploads, clips, exo_clip):
        module.register(route_table)
    page_text = (repo_root / "SECURITY.md").read_text("utf-8")
    assert set(re.findall(r"`((?:GET|POST) /egox/[^`]+)`", page_text)) == {
        f"{route.method} {route.path}" for route in route_table
    }
    for file, name in re.findall(r"`(tests/[^`]+)`(?: `(test_\w+)`)?", page_text):
        assert f"def {name}" in (repo_root / file).read_text("utf-8"), f"{file} {name}"


def test_the_repository_is_one_package(repo_root, tmp_path):
    """Build the package description as pip does and check that it names egox_core and egox_train
    alone."""
    pytest.importorskip("setuptools", reason="setuptools is not installed: pip would fetch it")
    for folder in (
        path for path in repo_root.iterdir() if path.is_dir() and path.name[0] not in "._"
    ):
        (tmp_path / folder.name).mkdir()
    for name in ("pyproject.toml", "README.md", "egox_core/__init__.py", "egox_train/__init__.py"):
        shutil.copy(repo_root / name, tmp_path / name)
    build_command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "egg_info"]
    subprocess.run(build_command, cwd=tmp_path, check=True, capture_output=True)
    (package_list_file,) = tmp_path.glob("*.egg-info/top_level.txt")
    assert package_list_file.read_text("utf-8").split() == ["egox_core", "egox_train"]
