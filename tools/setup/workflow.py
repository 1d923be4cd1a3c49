"""A saved workflow (the editor's JSON) to the prompt that the API takes, as the editor itself would make it.

What the editor's file doesn't say is taken from the server's /object_info. Widget values are saved as a plain list,
in the order of the node's widgets, in which the editor adds some of its own: a control after every seed, an upload
button at the end, the inner widgets of a dynamic combo after it. The rules were read off the editor's behaviour at
version 1.47.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from .layout import SetupError

ALWAYS, MUTED, BYPASSED = 0, 2, 4
NOTES = frozenset({"Note", "MarkdownNote"})
WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "MARKDOWN", "TEXTAREA", "CURVE",
                          "COMFY_DYNAMICCOMBO_V3"})

def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """API prompt of ``workflow``: node id (str) -> {class_type, inputs, _meta}.

    Muted nodes are left out, bypassed ones are passed through by type, reroutes and primitives are resolved, notes
    dropped. A subgraph becomes its inner nodes, whose ids are then paths such as "5:3".

    Raises:
        SetupError: a node type that the server doesn't have, or a subgraph that holds itself.
    """
    prompt: dict[str, Any] = {}
    _add(Graph(workflow, object_info), prompt)
    return _without_dangling(prompt)


def _add(graph: Graph, prompt: dict[str, Any]) -> None:
    for node in graph.nodes.values():
        kind = node["type"]
        if node.get("mode", ALWAYS) in (MUTED, BYPASSED) or kind in NOTES or kind in ("Reroute", "PrimitiveNode"):
            continue
        if kind in graph.definitions:
            _add(graph.inside(node), prompt)
            continue
        if kind not in graph.object_info:
            raise SetupError(f"The workflow needs the node type {kind}, which this server does not have.")
        inputs = graph.values(node)
        for slot in node.get("inputs") or []:
            source = graph.source(slot.get("link"))
            if source is None:
                continue  # a widget keeps its own value
            if "value" in source:
                inputs[slot["name"]] = source["value"]
            else:
                inputs[slot["name"]] = [source["node"], source["slot"]]
        prompt[graph.path + str(node["id"])] = {"class_type": kind, "inputs": inputs,
                                                "_meta": {"title": node.get("title") or kind}}


def widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Widget name -> value of one node of the editor's file; what the file lacks gets the node's default."""
    saved = node.get("widgets_values")
    if isinstance(saved, dict):  # some nodes save by name
        named = {name: saved.get(name, default_value(spec)) for name, spec in input_specs(info)
                 if is_widget(name, spec, node)}
        return {name: _wrap(value) for name, value in named.items() if value is not None}
    values = list(saved or [])
    result: dict[str, Any] = {}
    _read(iter(values), input_specs(info), "", node, result)
    return result


def _read(values: Iterator[Any], specs: Iterator[tuple[str, Any]], prefix: str, node: dict[str, Any],
          result: dict[str, Any]) -> None:
    for name, spec in specs:
        if not is_widget(name, spec, node):
            continue
        full_name = prefix + name
        value = next(values, None)
        if value is None:  # saved by an older version of the node, or a hole
            value = default_value(spec)
        if value is not None:
            result[full_name] = _wrap(value)
        if spec_kind(spec) == "COMFY_DYNAMICCOMBO_V3":
            branch = next((option for option in spec_options(spec).get("options", []) if option["key"] == value), None)
            if branch is not None:
                _read(values, input_specs({"input": branch["inputs"]}), full_name + ".", node, result)
        for _ in range(control_count(name, spec)):
            next(values, None)


def input_specs(info: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The node's inputs in the editor's order: required, then optional."""
    order = info.get("input_order") or {}
    for group in ("required", "optional"):
        inputs = info.get("input", {}).get(group) or {}
        names = [name for name in order.get(group, inputs) if name in inputs]
        for name in [*names, *(name for name in inputs if name not in names)]:
            yield name, inputs[name]


def is_widget(name: str, spec: Any, node: dict[str, Any]) -> bool:
    """Whether the editor shows this input as a widget, and so saves a value for it."""
    options = spec_options(spec)
    if options.get("forceInput"):
        return False
    if isinstance(spec[0], list) or spec_kind(spec) in WIDGET_TYPES or options.get("socketless"):
        return True
    # A widget type of a node pack's own: only the file tells.
    return any(slot.get("name") == name and slot.get("widget") for slot in node.get("inputs") or [])


def control_count(name: str, spec: Any) -> int:
    """How many values the editor saves after this one for its "control after generate"."""
    control = spec_options(spec).get("control_after_generate")
    if isinstance(spec[0], list) or spec_kind(spec) == "COMBO":
        return 2 if control else 0  # the control and its filter
    if spec_kind(spec) == "INT":
        return 1 if (name in ("seed", "noise_seed") if control is None else control) else 0
    return 1 if control and spec_kind(spec) == "FLOAT" else 0


def spec_kind(spec: Any) -> str:
    return "COMBO" if isinstance(spec[0], list) else str(spec[0])


def spec_options(spec: Any) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}


def default_value(spec: Any) -> Any:
    options = spec_options(spec)
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        first = choices[0]
        return first["key"] if isinstance(first, dict) else first
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(spec_kind(spec))


def _wrap(value: Any) -> Any:
    """A bare list would be read as a link."""
    return {"__value__": value} if isinstance(value, list) else value


def _without_dangling(prompt: dict[str, Any]) -> dict[str, Any]:
    for node in prompt.values():
        node["inputs"] = {name: value for name, value in node["inputs"].items()
                          if not (isinstance(value, list) and value[0] not in prompt)}
    return prompt


class Graph:
    """Nodes and links of the editor's file by id, of the whole graph or of one subgraph as a node of it has it."""

    def __init__(self, saved: dict[str, Any], object_info: dict[str, Any], outside: Graph | None = None,
                 host: dict[str, Any] | None = None) -> None:
        self.saved, self.object_info, self.outside, self.host = saved, object_info, outside, host
        self.path = "" if outside is None else f"{outside.path}{host['id']}:"
        self.definitions: dict[str, dict[str, Any]] = (outside.definitions if outside is not None else {
            entry["id"]: entry for entry in (saved.get("definitions") or {}).get("subgraphs") or []})
        self.nodes = {node["id"]: node for node in saved["nodes"]}
        self.links: dict[Any, tuple[Any, int, Any, int]] = {}
        for link in saved.get("links") or []:
            if isinstance(link, dict):
                link = [link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
            self.links[link[0]] = tuple(link[1:5])

    def inside(self, host: dict[str, Any]) -> Graph:
        """The subgraph of one of the nodes.

        Raises:
            SetupError: it is one of those in which the node stands.
        """
        above: Graph | None = self
        while above is not None:
            if above.saved.get("id") == host["type"]:
                raise SetupError(f"The subgraph {above.saved.get('name', host['type'])} holds itself.")
            above = above.outside
        return Graph(self.definitions[host["type"]], self.object_info, self, host)

    def source(self, link_id: Any) -> dict[str, Any] | None:
        """Where a link's value comes from: {node, slot}, {value} of a widget, or None where nothing is connected."""
        seen: set[Any] = set()
        while link_id is not None and link_id in self.links and link_id not in seen:
            seen.add(link_id)
            node_id, slot = self.links[link_id][:2]
            if self.host is not None and node_id == self.saved["inputNode"]["id"]:
                return self._from_outside(slot)
            node = self.nodes.get(node_id)
            mode = ALWAYS if node is None else node.get("mode", ALWAYS)
            if node is None or mode == MUTED:
                return None
            if node["type"] == "PrimitiveNode":
                values = node.get("widgets_values") or [None]
                return {"value": _wrap(values[0])}
            if node["type"] == "Reroute":
                link_id = (node.get("inputs") or [{}])[0].get("link")
            elif mode == BYPASSED:
                link_id = _bypass(node, slot)
            elif node["type"] in self.definitions:
                inner = self.inside(node)
                return inner.source(next(iter(inner.saved["outputs"][slot].get("linkIds") or []), None))
            else:
                return {"node": self.path + str(node_id), "slot": slot}
        return None

    def _from_outside(self, slot: int) -> dict[str, Any] | None:
        name = self.saved["inputs"][slot]["name"]
        entry = next((entry for entry in self.host.get("inputs") or [] if entry["name"] == name), {})
        if entry.get("link") is not None:
            return self.outside.source(entry["link"])
        value = self.outside.values(self.host).get(name)
        return None if value is None else {"value": value}

    def values(self, node: dict[str, Any]) -> dict[str, Any]:
        """Name -> value of the widgets of a node, or of those that a subgraph promotes."""
        if node["type"] in self.definitions:
            found = self.inside(node)._promoted()
        else:
            found = widget_values(node, self.object_info[node["type"]])
        # Older files keep the values of inner widgets without a link to them on the outer node.
        for owner, name, value in _proxies(self.host or {}):
            if owner == str(node["id"]) and name in found:
                found[name] = _wrap(value)
        return found

    def _promoted(self) -> dict[str, Any]:
        """Name of each promoted widget -> its value: the outer node's, or what the inner node was saved with."""
        inner = {}
        for entry in self.saved["inputs"]:
            for link_id in entry.get("linkIds") or []:
                node_id, slot = self.links[link_id][2:]
                node = self.nodes.get(node_id, {})
                target = (node.get("inputs") or [])[slot] if node else {}
                if "widget" in target:
                    inner[entry["name"]] = self.values(node).get(target["name"])
                    break
        saved = self.host.get("widgets_values") or []
        if isinstance(saved, dict):
            return inner | saved
        proxies = _proxies(self.host)
        own = {name: value for owner, name, value in proxies if owner == "-1"} if proxies else dict(
            zip(inner, saved, strict=False))
        return inner | {name: _wrap(value) for name, value in own.items() if value is not None}


def _proxies(host: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(inner node, widget, value) as frontends before 1.45 or so saved promoted widgets; -1 is the outer node's own."""
    entries = (host.get("properties") or {}).get("proxyWidgets") or []
    values = host.get("widgets_values") or []
    return [(entry[0], entry[1], value) for entry, value in zip(entries, values, strict=False) if value is not None]


def _bypass(node: dict[str, Any], slot: int) -> Any:
    """The link that a bypassed node passes through to its output ``slot``: same place if types agree, else first."""
    inputs, kind = node.get("inputs") or [], (node.get("outputs") or [])[slot].get("type")
    if slot < len(inputs) and _agree(inputs[slot].get("type"), kind):
        return inputs[slot].get("link")
    for entry in inputs:
        if entry.get("type") == kind:
            return entry.get("link")
    return next((entry.get("link") for entry in inputs if _agree(entry.get("type"), kind)), None)


def _agree(one: Any, other: Any) -> bool:
    if one in ("*", "", None) or other in ("*", "", None):
        return True
    return bool(set(str(one).split(",")) & set(str(other).split(",")))


def nodes_of(saved: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a workflow and of all its subgraphs."""
    graphs = (saved, *(saved.get("definitions") or {}).get("subgraphs", []))
    return [node for graph in graphs for node in graph["nodes"]]


def part_of(saved: dict[str, Any], kinds: Container[str]) -> dict[str, Any]:
    """The nodes of these types with the links among them, as a workflow of its own; ``saved``'s slots are changed."""
    nodes = [n for n in saved["nodes"] if n["type"] in kinds]
    ids = {n["id"] for n in nodes}
    links = [link for link in saved["links"] if link[1] in ids and link[3] in ids]
    kept = {link[0] for link in links}
    for node in nodes:
        for slot in node.get("inputs", []):
            slot["link"] = slot.get("link") if slot.get("link") in kept else None
        for slot in node.get("outputs", []):
            slot["links"] = [i for i in slot.get("links") or [] if i in kept]
    return saved | {"nodes": nodes, "links": links, "groups": []}
