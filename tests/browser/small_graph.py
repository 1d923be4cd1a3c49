"""Make a shipped graph small on the canvas itself, by its widgets, so that it runs in seconds, and
place a node in it by hand."""

from tests.browser.page import PageUnderTest

FRAMES, HEIGHT, WIDTH, STEPS = 5, 128, 224, 2

_PLACE = """([kind, wires, values]) => {
  const node = LiteGraph.createNode(kind);
  app.graph.add(node);
  node.pos = [2000, 0];
  for (const [input, [from, output]] of Object.entries(wires)) {
    const source = app.graph.nodes.find((n) => n.type === from || n.title === from);
    source.connect(source.findOutputSlot(output), node, node.findInputSlot(input));
  }
  for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
  return node.inputs.filter((slot) => slot.link != null).length;
}"""


def make_small(page: PageUnderTest, sampler: str = "EgoXWanSampler") -> None:
    for kind, name, value in (
        ("EgoXLoadExoVideo", "frame_count", FRAMES),
        ("EgoXLoadExoVideo", "height", HEIGHT),
        ("EgoXLoadExoVideo", "width", WIDTH),
        (sampler, "steps", STEPS),
    ):
        page.set_widget(kind, name, value)


def place(
    page: PageUnderTest,
    kind: str,
    wires: dict[str, tuple[str, str]],  # by input: the node's type or title, and its output
    **values: object,  # of its widgets
) -> None:
    """Add a node to the canvas and wire it."""
    assert page.evaluate(_PLACE, [kind, wires, values]) == len(wires)
