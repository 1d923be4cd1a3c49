"""A graph under construction, saved in the form that the host's front end saves (LiteGraph, version 0.4)."""

from __future__ import annotations

from typing import Any

from tools.setup.workflow import (
    BYPASSED,
    NOTES,
    control_count,
    default_value,
    input_specs,
    is_widget,
    spec_kind,
    spec_options,
)

UPLOADS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload")


class Node:
    """One node: inputs by name are either widget values or ``(node, output name)``."""

    def __init__(self, number: int, kind: str, info: dict[str, Any] | None) -> None:
        self.number, self.kind, self.info = number, kind, info
        self.pos: tuple[int, int] = (0, 0)
        self.size: tuple[int, int] = (320, 120)
        self.wanted: tuple[int, int] = (320, 60)
        """What the description asks for at least; the front end's own size may be larger."""
        self.title, self.mode, self.color = "", 0, ""
        self.values: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        """What the page calls an input, where its own name says too little."""
        self.sources: dict[str, tuple[Node, str]] = {}

    def inputs(self) -> list[tuple[str, Any]]:
        """(name, specification) of every input, in the editor's order."""
        return [] if self.info is None else list(input_specs(self.info))

    def output_slot(self, name: str) -> int:
        """The position of a named output; a typo is an error, not a missing link."""
        names = self.info["output_name"]
        if name not in names:
            raise KeyError(f"{self.kind} has the outputs {names}, not {name!r}")
        return names.index(name)


class Graph:
    """Nodes, links and groups; :meth:`to_json` gives the saved workflow."""

    def __init__(self, object_info: dict[str, Any]) -> None:
        self.object_info = object_info
        self.nodes: list[Node] = []
        self.groups: list[dict[str, Any]] = []
        self.models: dict[int, list[dict[str, str]]] = {}
        self.form: dict[str, Any] = {}
        """As the front end saves it: the page's form of this graph, with which it opens."""

    def add(self, kind: str, wide: int = 320, high: int = 60, *, title: str = "", bypassed: bool = False,
            models: list[dict[str, str]] | None = None, **inputs: Any) -> Node:
        """Add a node. An input is a widget value or ``(node, output name)``; unknown names are refused.

        ``wide`` and ``high`` are what it needs at least: room for text, or for a picture that comes with the run.
        """
        info = None if kind in NOTES else self.object_info[kind]
        node = Node(len(self.nodes) + 1, kind, info)
        node.size = node.wanted = (wide, high)
        node.title, node.mode = title, BYPASSED if bypassed else 0
        names = {name for name, _ in node.inputs()} | ({"text"} if info is None else set())
        for name, value in inputs.items():
            if name not in names and not any(name.startswith(f"{k}.") for k in names):
                raise KeyError(f"{kind} has the inputs {sorted(names)}, not {name!r}")
            if isinstance(value, tuple) and isinstance(value[0], Node):
                node.sources[name] = value
            else:
                node.values[name] = value
        if models:
            self.models[node.number] = models
        self.nodes.append(node)
        return node

    def group(self, title: str, bounding: tuple[int, int, int, int], color: str = "#3f789e") -> None:
        """Frame the nodes inside ``bounding`` = (x, y, width, height)."""
        self.groups.append({"id": len(self.groups) + 1, "title": title, "bounding": list(bounding), "color": color,
                            "font_size": 24, "flags": {}})

    def to_json(self, identity: str) -> dict[str, Any]:
        """The saved workflow, widgets_values in the front end's order."""
        links: list[list[Any]] = []
        outgoing: dict[tuple[int, int], list[int]] = {}
        saved = [self._node_json(node, links, outgoing) for node in self.nodes]
        for node, entry in zip(self.nodes, saved, strict=True):
            for slot, output in enumerate(entry["outputs"]):
                output["links"] = outgoing.get((node.number, slot), []) or None
        return {"id": identity, "revision": 0, "last_node_id": len(self.nodes), "last_link_id": len(links),
                "nodes": saved, "links": links, "groups": self.groups, "config": {},
                "extra": {"ds": {"scale": 0.6, "offset": [60, 80]}, **self.form}, "version": 0.4}

    def _node_json(self, node: Node, links: list[list[Any]], outgoing: dict[tuple[int, int], list[int]]) -> dict:
        sockets, values, uploads = [], [], []
        for name, spec in grown_inputs(node):
            entry: dict[str, Any] = {"name": name, "type": spec_kind(spec), "link": None}
            if name in node.labels:
                entry["label"] = node.labels[name]
            shown = is_widget(name, spec, {})
            if shown:
                entry["widget"] = {"name": name}
                values += widget_values(node, name, spec)
                uploads += ["image"] * any(spec_options(spec).get(key) for key in UPLOADS)
            if name in node.sources:
                source, output = node.sources[name]
                slot = source.output_slot(output)
                link = len(links) + 1
                links.append([link, source.number, slot, node.number, len(sockets), source.info["output"][slot]])
                outgoing.setdefault((source.number, slot), []).append(link)
                entry["link"] = link
            sockets.append(entry)
        values += uploads  # the editor's upload buttons come after all other widgets
        if node.info is None:
            values = [node.values["text"]]
        properties: dict[str, Any] = {"Node name for S&R": node.kind} if node.info else {}
        if node.number in self.models:
            properties["models"] = self.models[node.number]
        outputs = [] if node.info is None else [
            {"name": name, "type": kind, "links": None}
            for name, kind in zip(node.info["output_name"], node.info["output"], strict=True)]
        saved = {"id": node.number, "type": node.kind, "pos": list(node.pos), "size": list(node.size), "flags": {},
                 "order": node.number - 1, "mode": node.mode, "inputs": sockets, "outputs": outputs,
                 "properties": properties, "widgets_values": values}
        if node.title:
            saved["title"] = node.title
        return saved


def grown_inputs(node: Node) -> list[tuple[str, Any]]:
    """The inputs, an input that grows (``inputs.input0``, ``inputs.input1``, ...) as its used ones and a free one."""
    specs: list[tuple[str, Any]] = []
    for name, spec in node.inputs():
        if spec_kind(spec) != "COMFY_AUTOGROW_V3":
            specs.append((name, spec))
            continue
        used = sum(source.startswith(f"{name}.") for source in node.sources)
        template = spec_options(spec)["template"]
        specs += [(f"{name}.{template['prefix']}{index}", ("*", {})) for index in range(used + 1)]
    return specs


def widget_values(node: Node, name: str, spec: Any) -> list[Any]:
    """What one input adds to widgets_values: its value, then what the editor appends to it."""
    values = [node.values.get(name, default_value(spec))]
    if spec_kind(spec) == "COMFY_DYNAMICCOMBO_V3":
        branch = next(option for option in spec_options(spec)["options"] if option["key"] == values[0])
        for inner, inner_spec in input_specs({"input": branch["inputs"]}):
            values.append(node.values.get(f"{name}.{inner}", default_value(inner_spec)))
    return values + ["fixed"] * control_count(name, spec)
