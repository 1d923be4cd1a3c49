"""The shipped graphs as one sees them: opened by their card and switched to the graph."""

from __future__ import annotations

import pytest

from .test_form import ROW, to_graph
from .test_workflows_in_page import CARDS, PACK

LEAST_ZOOM = 0.6

# What lies outside the canvas' part of the page.
_OUTSIDE = """() => {
  const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
  return app.graph.nodes.filter((node) => {
    const [x, y, w, h] = node.boundingRect ?? node.getBounding();
    const left = (x + ds.offset[0]) * ds.scale, top = (y + ds.offset[1]) * ds.scale;
    return !(left >= 0 && top >= 0 && left + w * ds.scale <= box.width && top + h * ds.scale <= box.height);
  }).map((node) => node.title);
}"""

@pytest.mark.parametrize("name", CARDS)
def test_all_of_a_card_s_graph_is_seen(open_page, name: str) -> None:
    page = open_page(f"/?template={name}&source={PACK}", size=(1600, 900))
    page.page.locator(ROW).first.wait_for(timeout=60_000)
    scale, *_ = to_graph(page)
    assert scale >= LEAST_ZOOM, scale
    assert not page.evaluate(_OUTSIDE)
