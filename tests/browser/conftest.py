"""The real server and one browser for all tests in this folder. ``run.py test --browser`` runs only
them."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.page import PageUnderTest
from tests.flat_graph import flatten_workflow
from tools.rigs.comfy_page import open_browsers, read_workflow, shipped_workflows
from tools.setup.api_client import ApiClient
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.server import Server

from .placeholder_weights import place_weights


@pytest.fixture(scope="session")
def browser_file() -> Path:
    """Find the browser's executable, and skip the tests by name if there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright: pip install playwright")
    executable = find_browser()
    if executable is None:
        pytest.skip(f"needs a browser: {install_advice()}")
    return executable


@pytest.fixture(scope="session")
def browser_server(browser_file, environment, standin_models, tmp_path_factory) -> Iterator[Server]:
    """Start the host's own main.py."""
    layout = environment.layout
    packs = {"egox_standin_nodes": layout.repo / "tests" / "standin_nodes"}
    base = make_base_dir(tmp_path_factory.mktemp("browser_base"), layout, packs)
    shutil.copytree(standin_models, base.models, dirs_exist_ok=True)
    place_weights(base.models, map(read_workflow, shipped_workflows(layout.repo).values()))
    with Server(environment, base, base.root / "server.log") as running:
        yield running


@pytest.fixture(scope="session")
def browser(browser_file) -> Iterator[Callable[[bool], Any]]:
    with open_browsers(browser_file) as running:
        yield running


@pytest.fixture
def browser_client(browser_server) -> ApiClient:
    assert browser_server.is_running(), browser_server.log_tail(60)
    return browser_server.client


@pytest.fixture
def open_page(browser, browser_client) -> Iterator[Callable[..., PageUnderTest]]:
    """Yield ``open_page(theme=…, vue_nodes=…, size=…)``, which opens a page that is ready. One that
    opens the editor has ``webgl``. Tests don't see each other's state: storage and settings are a
    new user's, and the server has forgotten its results. At the end every page must have asked for
    nothing outside the machine, and no script may have failed."""
    pages: list[PageUnderTest] = []
    browser_client.post("/free", {"unload_models": True, "free_memory": True})

    def make(path: str = "/", *, webgl: bool = False, **options: Any) -> PageUnderTest:
        pages.append(PageUnderTest(browser(webgl), browser_client, **options))
        return pages[-1].open(path)

    try:
        yield make
        for page in pages:
            page.check()
    finally:
        for page in pages:
            page.close()


@pytest.fixture
def uploads(browser_server) -> Iterator[Path]:
    """Yield the folder of uploads, empty before and after."""
    place = browser_server.base.root / "input" / "egox"
    shutil.rmtree(place, ignore_errors=True)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def shipped(repo_root) -> Callable[[str], dict[str, Any]]:
    """Give ``shipped(name)``, which reads a workflow as it is saved."""
    return lambda name: read_workflow(shipped_workflows(repo_root)[name])


@pytest.fixture(scope="session")
def unpacked(shipped) -> Callable[[str], dict[str, Any]]:
    """Give ``unpacked(name)``, which reads a workflow with all its nodes on the canvas."""
    return lambda name: flatten_workflow(shipped(name))
