"""The names of the page that the scripts rely on (``nodes/host/names.py``) are there, on this frontend too."""

from __future__ import annotations

from ..nodes.test_host_names import listed

# In the page: which of the names are missing. ``in`` rather than a value, since many are empty before the first run.
_MISSING = """(names) => {
  app.graph.clear();
  const node = LiteGraph.createNode("EgoXEgoPoseInput");
  app.graph.add(node);
  const roots = { app, api: app.api, node };
  return names.filter((name) => {
    const [root, attribute] = name.split(".");
    return !(attribute in roots[root]);
  });
}"""


def test_every_listed_name_is_on_the_page(open_page) -> None:
    page = open_page(size=(1000, 700))
    names = listed("PAGE_NAMES")
    assert len(names) > 20
    assert page.evaluate(_MISSING, names) == []
    assert page.evaluate(_MISSING, ["app.noSuchName", "node.id"]) == ["app.noSuchName"], "the look itself"


def test_the_node_has_its_definition_and_the_graph_its_nodes(open_page) -> None:
    """Two that lie deeper: the defaults of inputs, and a node by its id."""
    page = open_page(size=(1000, 700))
    assert page.evaluate("""() => {
      app.graph.clear();
      const node = LiteGraph.createNode("EgoXEgoPoseInput");
      app.graph.add(node);
      return [node.constructor.comfyClass, "keyframes" in node.constructor.nodeData.input.required,
              (app.rootGraph ?? app.graph).getNodeById(node.id) === node];
    }""") == ["EgoXEgoPoseInput", True, True]
