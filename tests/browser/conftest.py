"""Start a real ComfyUI server and a browser for the browser tests."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from tests.browser.page import PageUnderTest
from tests.flat_graph import flatten_workflow
from tools.rigs.comfy_page import PagePool, open_browser, read_workflow, shipped_workflows
from tools.setup.api_client import ApiClient
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.server import Server

from .placeholder_weights import place_weights

RUNNING = ExitStack()
"""Server and browser of these tests."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close server and browser after the folder's last test, since an open page draws."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        RUNNING.close()


@pytest.fixture(scope="session")
def browser_file() -> Path:
    """Find the browser's executable, and skip the tests with a reason if there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright: pip install playwright")
    executable = find_browser()
    if executable is None:
        pytest.skip(f"needs a browser: {install_advice()}")
    return executable


@pytest.fixture(scope="session")
def browser_server(browser_file, environment, standin_models, tmp_path_factory) -> Server:
    """Start a ComfyUI server with stand-in models."""
    layout = environment.layout
    packs = {"egox_standin_nodes": layout.repo / "tests" / "standin_nodes"}
    base = make_base_dir(tmp_path_factory.mktemp("browser_base"), layout, packs)
    shutil.copytree(standin_models, base.models, dirs_exist_ok=True)
    place_weights(base.models, map(read_workflow, shipped_workflows(layout.repo).values()))
    return RUNNING.enter_context(Server(environment, base, base.root / "server.log"))


@pytest.fixture(scope="session")
def browser_pages(browser_file) -> PagePool:
    return RUNNING.enter_context(open_browser(browser_file))


@pytest.fixture
def api_client(browser_server) -> ApiClient:
    assert browser_server.is_running(), browser_server.log_tail(60)
    return browser_server.client


@pytest.fixture
def open_page(request, browser_pages, api_client) -> Iterator[Callable[..., PageUnderTest]]:
    """Provide a function that opens ComfyUI's page with a theme, size and node style.

    Each test has a new user's storage and settings, and a server without cached results. With
    ``stays_open`` the page of an earlier test is emptied for it, and its own for a later one, unless
    it fails. One page is open at a time, and fails when it is closed if it asked for anything
    outside the machine or if a script failed."""
    pages: list[tuple[PageUnderTest, bool]] = []
    failed_before = request.session.testsfailed
    api_client.post("/free", {"unload_models": True, "free_memory": True})

    def open_new_page(
        path: str = "/", *, stays_open: bool = False, **options: Any
    ) -> PageUnderTest:
        close_page()
        page = PageUnderTest(browser_pages, api_client, **options)
        pages.append((page, stays_open))
        return page.open(path, anew=not stays_open or options.get("is_first_visit", False))

    def close_page() -> None:
        if pages:
            page, stays_open = pages.pop()
            is_sound = False
            try:
                page.check()
                is_sound = request.session.testsfailed == failed_before
            finally:
                page.close(stays_open=stays_open and is_sound)

    yield open_new_page
    close_page()


@pytest.fixture
def upload_folder(browser_server) -> Iterator[Path]:
    """Yield the folder of uploads, empty before and after a test."""
    upload_dir = browser_server.base.root / "input" / "egox"
    shutil.rmtree(upload_dir, ignore_errors=True)
    yield upload_dir
    shutil.rmtree(upload_dir, ignore_errors=True)


@pytest.fixture
def read_shipped(request, repo_root) -> Callable[[str], dict[str, Any]]:
    """Provide a function that reads a shipped workflow with an id of this test's own.

    An open page keeps for each id of a graph what was refused of it."""

    def read_with_own_id(name: str) -> dict[str, Any]:
        graph_id = str(uuid5(NAMESPACE_URL, f"{request.node.nodeid} {name}"))
        return read_workflow(shipped_workflows(repo_root)[name]) | {"id": graph_id}

    return read_with_own_id


@pytest.fixture
def read_unpacked(read_shipped) -> Callable[[str], dict[str, Any]]:
    """Provide a function that reads a shipped workflow with its subgraphs unpacked."""
    return lambda name: flatten_workflow(read_shipped(name))
