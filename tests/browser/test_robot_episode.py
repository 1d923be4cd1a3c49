"""Save Robot Episode placed by hand: added to egox_demo on the canvas, wired to its nodes, run."""

from egox_core.safe_files import read_json

from .small_graph import FRAMES, HEIGHT, make_small

# Wires a new node of the kind to outputs by name, and types into its widgets.
_ADD = """([kind, wires, values]) => {
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
_SOURCES = {
    "exo_images": ("EgoXLoadExoVideo", "exo_images"),
    "ego_images": ("EgoXDecodeEgoHalf", "ego"),
    "trajectory": ("EgoXEgoPoseInput", "trajectory"),
    "depth": ("Scene and prior", "depth"),
    "scene": ("Scene and prior", "scene"),
    "hands": ("EgoXDrawHands", "hands"),
}


def test_a_run_of_the_demo_is_saved_as_an_episode(open_page, shipped, browser_server):
    page = open_page(size=(1600, 900))
    page.load(shipped("egox_demo"))
    make_small(page)
    drawn = {"trajectory": _SOURCES["trajectory"], "frames": ("EgoXLoadExoVideo", "frames")}
    page.page.evaluate(_ADD, ["EgoXDrawHands", drawn, {}])
    values = {"dataset": "by_hand", "task": "set the table"}
    assert page.page.evaluate(_ADD, ["EgoXSaveRobotEpisode", _SOURCES, values]) == len(_SOURCES)
    page.queue()
    page.wait_for_run()
    said = page.wait_for_node("EgoXSaveRobotEpisode")["text"]
    assert "by_hand" in " ".join(said), said
    info = read_json(browser_server.base.output / "egox_robots" / "by_hand" / "meta" / "info.json")
    assert (info["total_episodes"], info["total_frames"]) == (1, FRAMES)
    assert info["features"]["observation.images.ego"]["shape"][0] == HEIGHT
