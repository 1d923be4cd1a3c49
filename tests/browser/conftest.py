"""The real server and one browser for all tests in this folder. ``run.py test --browser`` runs only
them."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.page import PageUnderTest
from tests.flat_graph import flat
from tools.rigs.comfy_page import open_browsers, read_workflow, shipped_workflows
from tools.setup.api_client import ApiClient
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.server import Server

from .placeholder_weights import place_weights


@pytest.fixture(scope="session")
def browser_file() -> Path:
    """The browser's executable; the tests are skipped by name where there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright: pip install playwright")
    found = find_browser()
    if found is None:
        pytest.skip(f"needs a browser: {install_advice()}")
    return found


@pytest.fixture(scope="session")
def browser_server(browser_file, environment, standins, tmp_path_factory) -> Iterator[Server]:
    """The host's own main.py."""
    layout = environment.layout
    packs = {"egox_standin_nodes": layout.repo / "tests" / "standin_nodes"}
    base = make_base_dir(tmp_path_factory.mktemp("browser_base"), layout, packs)
    shutil.copytree(standins, base.models, dirs_exist_ok=True)
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
    """``open_page(theme=…, vue_nodes=…, size=…)``: a page that is ready; one that opens the editor
    has ``webgl``. At the test's end every page is held to its promise: nothing asked outside the
    machine, no script failed."""
    pages: list[PageUnderTest] = []

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


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Note a failed test: the page that it leaves is in the middle of something."""
    report = yield
    item.stash[FAILED] = report.failed or item.stash.get(FAILED, False)
    return report


MOST_KEPT = 2
"""Pages that stay open between tests: the next takes 3 core-seconds to open. They draw nothing
meanwhile."""

_PARK = """() => {
  if (window.egoxHeld) return;
  window.egoxHeld = [];
  window.egoxFrame = window.requestAnimationFrame;
  window.requestAnimationFrame = (step) => window.egoxHeld.push(step);
}"""
_TIDY = """async () => {
  if (window.egoxHeld) {
    const held = window.egoxHeld;
    window.requestAnimationFrame = window.egoxFrame;
    window.egoxHeld = null;
    held.forEach((step) => window.requestAnimationFrame(step));
  }
  await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false);
  const { toast } = app.extensionManager;
  (toast.dismissAll ?? toast.removeAll)();
  app.canvas.deselectAll();
}"""


@pytest.fixture(scope="session")
def kept_pages(browser_server, browser) -> Iterator[dict[str, PageUnderTest]]:
    """The longest unused first."""
    pages: dict[str, PageUnderTest] = {}
    yield pages
    for page in pages.values():
        page.close()


@pytest.fixture
def same_page(
    browser, browser_client, kept_pages, request
) -> Iterator[Callable[..., PageUnderTest]]:
    """``open_page``'s twin for tests that load their own graph: one page for all with the same
    options but its size."""
    used: dict[str, PageUnderTest] = {}

    def make(
        *, webgl: bool = False, size: tuple[int, int] = (1600, 1000), **options: Any
    ) -> PageUnderTest:
        key = repr((webgl, sorted(options.items())))
        page = kept_pages.pop(key, None)
        if page is None:
            while len(kept_pages) >= MOST_KEPT:
                kept_pages.pop(next(iter(kept_pages))).close()
            page = PageUnderTest(browser(webgl), browser_client, size=size, **options).open()
        else:
            page.page.set_viewport_size({"width": size[0], "height": size[1]})
            page.evaluate(_TIDY)
            form = page.page.get_by_role("button", name="Enter node graph").first
            if form.is_visible():
                form.click()
                page.page.wait_for_selector("canvas#graph-canvas", state="visible")
        kept_pages[key] = used[key] = page
        return page

    yield make
    for key, page in used.items():
        if request.node.stash.get(FAILED, False):
            kept_pages.pop(key).close()
        else:
            page.evaluate(_PARK)
        page.check()


@pytest.fixture
def uploads(browser_server) -> Iterator[Path]:
    """The folder of uploads, empty before and after."""
    place = browser_server.base.root / "input" / "egox"
    shutil.rmtree(place, ignore_errors=True)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def shipped(repo_root) -> Callable[[str], dict[str, Any]]:
    """``shipped(name)``: a workflow as it is saved."""
    return lambda name: read_workflow(shipped_workflows(repo_root)[name])


@pytest.fixture(scope="session")
def unpacked(shipped) -> Callable[[str], dict[str, Any]]:
    """``unpacked(name)``: with all its nodes on the canvas."""
    return lambda name: flat(shipped(name))
