"""Operate the pose editor on an open page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.browser.page import PageUnderTest, read_picture

POSE_NODE = "EgoXEgoPoseInput"
EDITOR_NODES = (
    "EgoXLoadExoVideo",
    "EgoXDepthAlign",
    "EgoXBuildScene",
    POSE_NODE,
    "EgoXRenderEgoPrior",
)


def editor_graph(demo: dict[str, Any]) -> dict[str, Any]:
    """Cut the pose editor's part out of the demo graph, so that nothing is sampled."""
    return keep_nodes(demo, [node for node in demo["nodes"] if node["type"] in EDITOR_NODES])


def keep_nodes(graph: dict[str, Any], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Keep some nodes of a graph, and the links between them."""
    node_ids = {node["id"] for node in nodes}
    links = [link for link in graph["links"] if link[1] in node_ids and link[3] in node_ids]
    link_ids = {link[0] for link in links}
    for node in nodes:
        for slot in node.get("inputs", []):
            slot["link"] = slot.get("link") if slot.get("link") in link_ids else None
        for slot in node.get("outputs", []):
            slot["links"] = [link_id for link_id in slot.get("links") or [] if link_id in link_ids]
    return graph | {"nodes": nodes, "links": links, "groups": []}


class EditorPage:
    """Click, type and read in the pose editor of an open page."""

    def __init__(self, page: PageUnderTest) -> None:
        self.page = page
        self.tab = page.browser_tab

    def find(self, name: str) -> Any:
        return self.tab.get_by_test_id(f"egox-{name}")

    def open(self, *, load: bool) -> "EditorPage":
        """Open the pose editor by clicking the node's own button.

        With ``load``, press "Load scene" and wait for points and the first coarse prior."""
        self.page.show(self.page.node_bounds(POSE_NODE))
        self.find("open").first.click()
        self.tab.wait_for_selector("[data-testid=egox-editor]")
        if load:
            # By itself, where no head was placed; in one look, since it may begin or end meanwhile.
            self.tab.evaluate(
                f"() => {self.script('scene.running')} || {self.script('view.cloud.count')} || "
                "document.querySelector('[data-testid=egox-load-empty]').click()"
            )
            self.wait_for_scene()
        return self

    def wait_for_scene(self) -> None:
        try:
            self.page.wait_until(
                "() => document.querySelector('[data-testid=egox-empty]').hidden && "
                f"{self.script('view.cloud.count')} > 1000"
            )
        except Exception as timeout_error:  # of Playwright, which only browser runs have
            texts = [self.find(name).inner_text() for name in ("status", "banner", "empty")]
            raise AssertionError(f"no scene; the editor says {texts}") from timeout_error
        self.wait_for_prior()

    def close(self) -> None:
        self.find("close").click()
        self.tab.wait_for_selector("[data-testid=egox-editor]", state="detached")

    @staticmethod
    def script(expression: str) -> str:
        return f"app.graph.nodes.find((n) => n.type === '{POSE_NODE}').egoxPose.editor.{expression}"

    def read_state(self, expression: str) -> Any:
        return self.tab.evaluate(f"() => {self.script(expression)}")

    def wait_for_prior(self) -> None:
        """Wait until the prior picture shows the pose editor's current pose."""
        self.page.wait_until(
            f"() => {self.script('side.latest')}.wish === null && "
            f"!{self.script('side.latest')}.busy && {self.script('side.count')} > 0"
        )

    def read_prior(self) -> np.ndarray:
        """Read the coarse prior that the editor shows, [224, 224, 3] float."""
        self.wait_for_prior()
        rgba = read_picture(
            self.tab.evaluate(
                "() => document.querySelector('[data-testid=egox-prior]').toDataURL()"
            )
        )
        assert rgba.shape == (224, 224, 4)
        return rgba[..., :3].astype(np.float64)

    def read_keyframes(self) -> str:
        """Read the keyframes in the node's widget."""
        return self.tab.evaluate(
            f"() => app.graph.nodes.find((n) => n.type === '{POSE_NODE}')"
            ".widgets.find((w) => w.name === 'keyframes').value"
        )

    def click_exo(self, *shares: tuple[float, float]) -> None:
        """Click at positions in the exo picture, and wait for each click's new keyframes."""
        for share in shares:
            keyframes_before = self.read_keyframes()
            self.tab.mouse.click(*self.point_in_box("exo", *share))
            self.page.wait_until(
                f"(old) => app.graph.nodes.find((n) => n.type === '{POSE_NODE}')"
                ".widgets.find((w) => w.name === 'keyframes').value !== old",
                keyframes_before,
            )

    def go_to_frame(self, frame: int) -> None:
        self.find("track").focus()
        self.tab.keyboard.press("Home")
        for _ in range(frame):
            self.tab.keyboard.press("ArrowRight")
        assert self.read_state("state.frame") == frame

    def type_into(self, name: str, value: float) -> None:
        self.find(name).fill(str(value))
        self.tab.keyboard.press("Enter")

    @contextmanager
    def touched(self) -> Iterator[Callable[..., None]]:
        """Have the page believe in a touch screen, and provide a function that taps on it."""
        devtools_session = self.tab.context.new_cdp_session(self.tab)
        devtools_session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

        def tap(name: str, x: float = 0.5, y: float = 0.5) -> None:
            place = dict(zip(("x", "y"), self.point_in_box(name, x, y), strict=True))
            for kind, points in (("touchStart", [place]), ("touchEnd", [])):
                event = {"type": kind, "touchPoints": points}
                devtools_session.send("Input.dispatchTouchEvent", event)

        try:
            yield tap
        finally:
            devtools_session.detach()

    def drag(self, start: tuple[float, float], offset: tuple[float, float]) -> None:
        self.tab.mouse.move(*start)
        self.tab.mouse.down()
        for step in range(1, 9):
            self.tab.mouse.move(start[0] + offset[0] * step / 8, start[1] + offset[1] * step / 8)
        self.tab.mouse.up()

    def drag_key(self, key_number: int, frames: int) -> None:
        """Drag a keyframe's mark along the editor's timeline with the mouse."""
        box, track = (
            self.find(f"key-{key_number}").bounding_box(),
            self.find("track").bounding_box(),
        )
        frame_width = (track["width"] - 28) / (self.read_state("state.clip.count") - 1)
        self.drag(
            (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), (frames * frame_width, 0)
        )

    def point_in_box(self, name: str, x: float, y: float) -> tuple[float, float]:
        """Compute a position on the page from shares of a control's size."""
        box = self.find(name).bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]
