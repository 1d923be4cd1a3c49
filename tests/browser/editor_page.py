"""The pose editor on an open page: the graph that feeds it, and its controls by their test ids."""

from typing import Any

import numpy as np

from tests.browser.page import PageUnderTest

NODE = "EgoXEgoPoseInput"
NEEDED = ("EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXBuildScene", NODE, "EgoXRenderEgoPrior")


def editor_graph(demo: dict[str, Any]) -> dict[str, Any]:
    """Cut out the part of egox_demo that leads to the prior, without sampling. Its slots change."""
    nodes = [node for node in demo["nodes"] if node["type"] in NEEDED]
    ids = {node["id"] for node in nodes}
    links = [link for link in demo["links"] if link[1] in ids and link[3] in ids]
    link_ids = {link[0] for link in links}
    for node in nodes:
        for slot in node.get("inputs", []):
            slot["link"] = slot.get("link") if slot.get("link") in link_ids else None
        for slot in node.get("outputs", []):
            slot["links"] = [number for number in slot.get("links") or [] if number in link_ids]
    return demo | {"nodes": nodes, "links": links, "groups": []}


class EditorPage:
    """Hands and eyes on the editor."""

    def __init__(self, page: PageUnderTest) -> None:
        self.page, self.hands = page, page.page

    def at(self, name: str) -> Any:
        return self.hands.get_by_test_id(f"egox-{name}")

    def open(self, *, load: bool) -> "EditorPage":
        """Open the editor by the node's own button. With ``load``, press "Load scene" and wait for
        points and the first coarse prior."""
        self.page.show(self.page.node_bounds(NODE))
        self.at("open").first.click()
        self.hands.wait_for_selector("[data-testid=egox-editor]")
        if load:
            # By itself, where no head was placed; in one look, since it may begin or end meanwhile.
            self.hands.evaluate(
                f"() => {self.script('scene.running')} || {self.script('view.cloud.count')} || "
                "document.querySelector('[data-testid=egox-load-empty]').click()"
            )
            self.wait_for_scene()
        return self

    def wait_for_scene(self) -> None:
        try:
            self.hands.wait_for_function(
                "() => document.querySelector('[data-testid=egox-empty]').hidden && "
                f"{self.script('view.cloud.count')} > 1000"
            )
        except Exception as late:  # of Playwright, which only browser runs have
            texts = [self.at(name).inner_text() for name in ("status", "banner", "empty")]
            raise AssertionError(f"no scene; the editor says {texts}") from late
        self.wait_until_seen()

    def close(self) -> None:
        self.at("close").click()
        self.hands.wait_for_selector("[data-testid=egox-editor]", state="detached")

    @staticmethod
    def script(what: str) -> str:
        return f"app.graph.nodes.find((n) => n.type === '{NODE}').egoxPose.editor.{what}"

    def ask(self, what: str) -> Any:
        return self.hands.evaluate(f"() => {self.script(what)}")

    def wait_until_seen(self) -> None:
        """Wait until the coarse prior is that of the pose in the editor, with no request pending."""
        self.hands.wait_for_function(
            f"() => {self.script('side.latest')}.wish === null && "
            f"!{self.script('side.latest')}.busy && {self.script('side.count')} > 0"
        )

    def prior(self) -> np.ndarray:
        """Read the coarse prior that is shown, [224, 224, 3] float."""
        self.wait_until_seen()
        rgba = self.hands.evaluate(
            "() => { const c = document.querySelector('[data-testid=egox-prior]'); "
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
        )
        return np.array(rgba, dtype=np.float64).reshape(224, 224, 4)[..., :3]

    def keyframes(self) -> str:
        """Read the node's own value."""
        return self.hands.evaluate(
            f"() => app.graph.nodes.find((n) => n.type === '{NODE}')"
            ".widgets.find((w) => w.name === 'keyframes').value"
        )

    def click_exo(self, *places: tuple[float, float]) -> None:
        """Click at these shares of the exo picture, one after the other. Each click changes the
        node's value."""
        for place in places:
            before = self.keyframes()
            self.hands.mouse.click(*self.in_box("exo", *place))
            self.hands.wait_for_function(
                f"(old) => app.graph.nodes.find((n) => n.type === '{NODE}')"
                ".widgets.find((w) => w.name === 'keyframes').value !== old",
                arg=before,
            )

    def go_to_frame(self, frame: int) -> None:
        self.at("track").focus()
        self.hands.keyboard.press("Home")
        for _ in range(frame):
            self.hands.keyboard.press("ArrowRight")
        assert self.ask("state.frame") == frame

    def type_into(self, name: str, value: float) -> None:
        self.at(name).fill(str(value))
        self.hands.keyboard.press("Enter")

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        self.hands.mouse.move(*start)
        self.hands.mouse.down()
        for i in range(1, 9):
            self.hands.mouse.move(start[0] + by[0] * i / 8, start[1] + by[1] * i / 8)
        self.hands.mouse.up()

    def drag_key(self, i: int, frames: int) -> None:
        """Drag the mark of a keyframe along the timeline."""
        box, track = self.at(f"key-{i}").bounding_box(), self.at("track").bounding_box()
        each = (track["width"] - 28) / (self.ask("state.clip.count") - 1)
        self.drag((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), (frames * each, 0))

    def in_box(self, name: str, x: float, y: float) -> tuple[float, float]:
        """Compute a place inside a control from shares of its size."""
        box = self.at(name).bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]
