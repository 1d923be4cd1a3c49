"""A user's own files by hand: chosen with the node's button or dropped on it, on both canvases and in the form."""

from __future__ import annotations

import base64
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser.test_form import open_form
from tools.setup.server import Server

LOADER, DEPTH, POSES = "EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXEgoPoseInput"
_NODE = """const nodes = [];
  const walk = (graph) => { for (const n of graph.nodes) { nodes.push(n); if (n.subgraph) walk(n.subgraph); } };
  walk(app.rootGraph ?? app.graph);
  const node = nodes.find((n) => n.type === kind);
  const widget = (name) => node.widgets.find((w) => w.name === name);"""
_ELEMENT = "(kind) => { " + _NODE + " return widget('egox_upload').element; }"
_VALUE = "([kind, name]) => { " + _NODE + " return widget(name).value; }"
_NOTE = "(kind) => { " + _NODE + " return widget('egox_upload').element.lastChild.textContent; }"
# Files of some names and base64 contents, dragged over a place of the page and let go there.
_DROP = """async ([x, y, files]) => {
  const dataTransfer = new DataTransfer();
  for (const [name, type, content] of files) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], name, { type }));
  }
  const target = document.elementFromPoint(x, y);
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    const options = { dataTransfer, clientX: x, clientY: y, bubbles: true, cancelable: true, composed: true };
    target.dispatchEvent(new DragEvent(kind, options));
    await new Promise((done) => setTimeout(done, 100));
  }
  return target.tagName;
}"""


@pytest.fixture
def take(tmp_path: Path, repo_root: Path) -> Path:
    """Files of a take of which no other test knows, and a zip of them."""
    for name in ("exo.mp4", "depth.npz", "meta.json"):
        shutil.copy(repo_root / "sample" / "synthetic_room" / name, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "own take.zip", "w") as archive:
        for name in ("exo.mp4", "depth.npz", "meta.json"):
            archive.write(tmp_path / name, f"room/{name}")
    return tmp_path


@pytest.fixture(autouse=True)
def no_uploads(browser_server: Server):
    """The folder of uploads, empty before and after."""
    place = browser_server.base.root / "input" / "egox"
    shutil.rmtree(place, ignore_errors=True)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def value(page, kind: str, name: str) -> Any:
    return page.evaluate(_VALUE, [kind, name])


def choose(page, kind: str, *files: Path) -> None:
    """By the node's button."""
    button = page.page.evaluate_handle(_ELEMENT, kind).as_element().query_selector("button")
    with page.page.expect_file_chooser(timeout=30_000) as chooser:
        button.click()
    chooser.value.set_files(list(files))


def told(page, kind: str, words: str) -> str:
    """What the node says, as soon as these words are in it."""
    page.page.wait_for_function(f"([kind, words]) => {{ {_NODE} "
                                "return widget('egox_upload').element.lastChild.textContent.includes(words); }",
                                arg=[kind, words], timeout=60_000)
    return page.evaluate(_NOTE, kind)


def drop(page, place: tuple[float, float], *files: Path) -> str:
    types = {".mp4": "video/mp4", ".json": "application/json", ".zip": "application/zip"}
    content = [[f.name, types.get(f.suffix, ""), base64.b64encode(f.read_bytes()).decode()] for f in files]
    return page.evaluate(_DROP, [*place, content])


def on_node(page, kind: str, down: float = 12) -> tuple[float, float]:
    """A place of the page on a node's upper edge, below its title."""
    bounds = page.node_bounds(kind)
    page.show(bounds)
    seen = page.on_page((bounds[0], bounds[1], bounds[2], bounds[3]), 0)
    return seen["x"] + seen["width"] / 2, seen["y"] + down


def used(page, folder: str) -> None:
    """All nodes have the take of that folder."""
    assert value(page, LOADER, "file") == f"egox/{folder}/exo.mp4"
    assert value(page, DEPTH, "depth_file") == f"egox/{folder}/depth.npz"
    assert value(page, DEPTH, "camera_file") == value(page, POSES, "file") == f"egox/{folder}/meta.json"
    assert value(page, POSES, "source") == "file"


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic", "vue"])
def test_files_by_button_and_a_take_by_dropping_it(open_page, shipped, take: Path, vue_nodes: bool) -> None:
    page = open_page(vue_nodes=vue_nodes, size=(1400, 900))
    page.load(shipped("egox_demo"))
    page.show(page.node_bounds(DEPTH))
    choose(page, DEPTH, take / "depth.npz", take / "meta.json")
    assert "depth (49 frames), exo camera, ego poses" in told(page, DEPTH, "Set in")
    assert value(page, DEPTH, "depth_file") == "egox/depth/depth.npz"
    assert value(page, POSES, "file") == "egox/depth/meta.json" and value(page, LOADER, "file").startswith("sample/")

    drop(page, on_node(page, LOADER), take / "own take.zip")
    assert "video (49 frames)" in told(page, LOADER, "Set in")
    used(page, "own take")
    saved = page.saved()
    assert "egox_upload" not in str(page.to_prompt()) and len(saved["nodes"]) == len(shipped("egox_demo")["nodes"])


def test_in_the_form(open_page, shipped, take: Path) -> None:
    page = open_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    choose(page, LOADER, take / "exo.mp4", take / "depth.npz", take / "meta.json")
    told(page, LOADER, "Set in")
    used(page, "exo")
    box = page.page.evaluate_handle(_ELEMENT, LOADER).as_element().bounding_box()
    drop(page, (box["x"] + box["width"] / 2, box["y"] + box["height"] - 8), take / "own take.zip")
    told(page, LOADER, "own take")
    used(page, "own take")


def test_a_taken_name_a_bad_file_and_the_limit_are_told(open_page, shipped, take: Path, no_uploads: Path) -> None:
    page = open_page(size=(1200, 800))
    page.load(shipped("egox_demo"))
    page.show(page.node_bounds(DEPTH))
    choose(page, DEPTH, take / "depth.npz")
    told(page, DEPTH, "depth: depth (49 frames)")
    choose(page, DEPTH, take / "depth.npz")
    told(page, DEPTH, "there already as depth")
    np.savez_compressed(take / "depth.npz", depth_m=np.ones((3, 8, 8), np.float16))
    choose(page, DEPTH, take / "depth.npz")
    told(page, DEPTH, "so these are depth (2)")
    assert value(page, DEPTH, "depth_file") == "egox/depth (2)/depth.npz"

    np.savez(take / "pickled.npz", depth_m=np.array([{}], dtype=object))
    choose(page, DEPTH, take / "pickled.npz")
    assert "pickled" in told(page, DEPTH, "Not uploaded")
    with (take / "large.npz").open("wb") as file:
        file.truncate(101 * 2**20)
    choose(page, DEPTH, take / "large.npz")
    assert "--max-upload-size 102" in told(page, DEPTH, "101 MB")
    assert value(page, DEPTH, "depth_file") == "egox/depth (2)/depth.npz"
    assert sorted(p.name for p in no_uploads.iterdir()) == ["depth", "depth (2)"]
