"""Views over the players' clips that need no run: weights of exo patches for the ego pixel under the
pointer, and marks that tell how each ego pixel is known."""

import re

from .preview_graph import choose_view, loaded, part, state
from .small_graph import make_small

# The node on the canvas that has the prior's player.
_PRIOR = """() => app.graph.nodes.find((node) => node.type === 'EgoXRenderEgoPrior' ||
  node.subgraph?.nodes.some((inner) => inner.type === 'EgoXRenderEgoPrior')).type"""


def test_the_weights_follow_pointer_and_strength(same_page, shipped, pinned_host):
    """On the newer nodes; older pages draw no player on a subgraph there."""
    page = same_page(vue_nodes=True)
    page.load(shipped("egox_demo"))
    make_small(page)
    page.queue()
    page.wait_for_run()
    for node in (page.evaluate(_PRIOR), "EgoXDecodeEgoHalf"):
        loaded(page, node)
        page.set_widget("EgoXWanSampler", "lambda_g", 3)
        page.show(page.node_bounds(node))
        page.settle(6)
        choose_view(page, node, "geometry")
        about = part(page, node, "egox-preview-about")
        first = state(page, node)
        assert first["view"] == "geometry" and first["deviation"] > 5 and not first["message"]
        assert about.inner_text().startswith("λ_g 3 (released) · weight "), about.inner_text()

        box = page.evaluate(
            "(type) => app.graph.nodes.find((n) => n.type === type).egoxPreview.boxes[1].box", node
        )
        stage = part(page, node, "egox-preview-stage")
        zoom = stage.bounding_box()["width"] / stage.evaluate("(stage) => stage.offsetWidth")
        stage.hover(
            position={"x": zoom * (box[0] + box[2] * 0.8), "y": zoom * (box[1] + box[3] * 0.8)}
        )
        pointed = state(page, node)
        assert pointed["hash"] != first["hash"], "another pixel, another picture"
        stage.focus()
        page.page.keyboard.press("Shift+ArrowLeft")
        assert (
            state(page, node)["hash"] != pointed["hash"]
            and state(page, node)["frame"] == pointed["frame"]
        )

        for name, value, words in (
            ("lambda_g", 4, "λ_g 4 (released)"),
            ("lambda_g", 0, "weight 1 to 1"),  # no geometry leads nowhere
        ):
            page.set_widget("EgoXWanSampler", name, value)
            about.filter(has_text=words).wait_for()

    ego = "EgoXDecodeEgoHalf"
    choose_view(page, ego, "ego")
    bare, switch = state(page, ego)["hash"], part(page, ego, "egox-preview-seen")
    assert switch.get_attribute("aria-pressed") == "false"
    switch.click()
    marked = state(page, ego)["hash"]
    assert marked != bare and switch.get_attribute("aria-pressed") == "true"
    said = part(page, ego, "egox-preview-about").inner_text()
    assert sum(int(share) for share in re.findall(r"(\d+) %", said)) in range(98, 103), said
    page.page.keyboard.press("o")
    assert state(page, ego)["hash"] == bare
