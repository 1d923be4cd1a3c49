"""Shrink a graph so that it runs in seconds, and add nodes to it."""

from tests.browser.page import PageUnderTest

FRAMES, HEIGHT, WIDTH, STEPS = 5, 128, 224, 2

_PLACE_SCRIPT = """([kind, wires, values]) => {
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


_END_AT_LATENT_SCRIPT = """() => {
  const decode = app.graph.nodes.find((n) => n.type === 'EgoXDecodeEgoHalf'), show = LiteGraph.createNode('PreviewAny');
  const link = app.graph.links.get(decode.inputs.find((slot) => slot.name === 'latent').link);
  app.graph.add(show);
  app.graph.getNodeById(link.origin_id).connect(link.origin_slot, show, 0);
  for (const node of app.graph.nodes.filter((n) => n === decode || n.type === 'SaveVideo')) app.graph.remove(node);
}"""


def end_at_latent(page: PageUnderTest) -> None:
    """Show the sampled latent in place of the decoded video, which takes longer than the rest."""
    page.evaluate(_END_AT_LATENT_SCRIPT)


def shrink_graph_on_canvas(
    page: PageUnderTest, sampler: str = "EgoXWanSampler", frames: int = FRAMES
) -> None:
    for kind, name, value in (
        ("EgoXLoadExoVideo", "frame_count", frames),
        ("EgoXLoadExoVideo", "height", HEIGHT),
        ("EgoXLoadExoVideo", "width", WIDTH),
        (sampler, "steps", STEPS),
    ):
        page.set_widget(kind, name, value)


def place_node(
    page: PageUnderTest,
    node_type: str,
    wires: dict[
        str, tuple[str, str]
    ],  # input name: the source node's type or title, and its output
    **values: object,  # of its widgets
) -> None:
    """Add a node to the canvas, connect its inputs and set its widgets."""
    assert page.evaluate(_PLACE_SCRIPT, [node_type, wires, values]) == len(wires)
