"""A graph under construction: as the host's front end saves it (LiteGraph, version 0.4), and as its
API takes it."""

from __future__ import annotations

import itertools
import re
import uuid
from typing import Any

from tools.setup.node_inputs import (
    BYPASSED,
    NOTES,
    control_count,
    default_value,
    input_specs,
    is_widget,
    spec_kind,
    spec_options,
)

INPUT_NODE, OUTPUT_NODE = -10, -20
"""Front end's ids of the two edges of a subgraph."""
PLAYER = "egox_preview"
"""The widget that web/js/previews.js adds."""
UPLOADS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload")


class Node:
    """One node: inputs by name are either widget values or ``(node, output name)``."""

    def __init__(self, number: int, kind: str, info: dict[str, Any] | None) -> None:
        self.number, self.kind, self.info = number, kind, info
        self.pos: tuple[int, int] = (0, 0)
        self.size: tuple[int, int] = (320, 120)
        self.wanted: tuple[int, int] = (320, 60)
        """Least size that the description asks for; the front end's own size may be larger."""
        self.title, self.mode, self.color = "", 0, ""
        self.values: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        """Label of an input on the page, where its own name says too little."""
        self.properties: dict[str, Any] = {}
        self.sources: dict[str, tuple[Node, str]] = {}
        self.players: dict[str, tuple[Node, str]] = {}
        """Like ``sources``, for slots that only the file knows."""

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
    """Nodes, links and groups; :meth:`to_json` gives the saved workflow, :meth:`to_prompt` its API
    form."""

    path = ""
    """Prefix of its nodes' numbers in the API form."""

    def __init__(self, object_info: dict[str, Any], name: str = "") -> None:
        self.object_info, self.name = object_info, name
        self.nodes: list[Node] = []
        self.groups: list[dict[str, Any]] = []
        self.models: dict[int, list[dict[str, str]]] = {}
        self.form: dict[str, Any] = {}
        """Form of this graph as the front end saves it; the graph opens with it."""
        self.insides: dict[int, Subgraph] = {}
        """Number of a node that is a subgraph -> what is in it."""
        self.numbers = itertools.count(1)
        self.link_numbers = itertools.count(1)

    def subgraph(self, name: str, description: str) -> Subgraph:
        """An empty subgraph, for :meth:`add_subgraph` once it holds its nodes."""
        made = Subgraph(self.object_info, f"{self.name}/{name}", name, description)
        made.numbers = self.numbers  # the page renumbers what is there twice in one file
        return made

    def add(
        self,
        kind: str,
        wide: int = 320,
        high: int = 60,
        *,
        title: str = "",
        bypassed: bool = False,
        models: list[dict[str, str]] | None = None,
        **inputs: Any,
    ) -> Node:
        """Add a node. An input is a widget value or ``(node, output name)``; unknown names are
        refused.

        ``wide`` and ``high`` are what it needs at least: room for text, or for a picture that comes
        with the run."""
        info = None if kind in NOTES else self.object_info[kind]
        node = self._added(kind, info, wide, high, inputs)
        node.title, node.mode = title, BYPASSED if bypassed else 0
        if models:
            self.models[node.number] = models
        return node

    def add_subgraph(
        self, inside: Subgraph, wide: int = 320, high: int = 60, **inputs: Any
    ) -> Node:
        """Add the node that stands for a subgraph; inputs as in :meth:`add`."""
        node = self._added(inside.identity, inside.info(), wide, high, inputs)
        node.title = inside.title
        node.labels.update(inside.labels)
        self.insides[node.number] = inside
        inside.outside, inside.host = self, node
        return node

    def _added(
        self, kind: str, info: dict[str, Any] | None, wide: int, high: int, inputs: dict[str, Any]
    ) -> Node:
        node = Node(next(self.numbers), kind, info)
        node.size = node.wanted = (wide, high)
        names = {name for name, _ in node.inputs()} | ({"text"} if info is None else set())
        for name, value in inputs.items():
            if name not in names and not any(name.startswith(f"{k}.") for k in names):
                raise KeyError(f"{kind} has the inputs {sorted(names)}, not {name!r}")
            if isinstance(value, tuple) and isinstance(value[0], Node):
                node.sources[name] = value
            else:
                node.values[name] = value
        self.nodes.append(node)
        return node

    def group(
        self, title: str, bounding: tuple[int, int, int, int], color: str = "#3f789e"
    ) -> None:
        """Frame the nodes inside ``bounding`` = (x, y, width, height)."""
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": list(bounding),
                "color": color,
                "font_size": 24,
                "flags": {},
            }
        )

    def to_json(self, identity: str) -> dict[str, Any]:
        """The saved workflow, widgets_values in the front end's order."""
        self.link_numbers = itertools.count(1)
        for inside in self._all_insides():
            inside.link_numbers = self.link_numbers
        nodes, links = self._saved()
        definitions = [inside.to_definition() for inside in self._all_insides()]
        numbers = [node.number for graph in (self, *self._all_insides()) for node in graph.nodes]
        last_link = next(self.link_numbers) - 1
        saved = {
            "id": identity,
            "revision": 0,
            "last_node_id": max(numbers),
            "last_link_id": last_link,
            "nodes": nodes,
            "links": links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [60, 80]}, **self.form},
            "version": 0.4,
        }
        return saved | ({"definitions": {"subgraphs": definitions}} if definitions else {})

    def to_prompt(self) -> dict[str, Any]:
        """The API form: node id -> class, inputs and title; a subgraph's nodes have paths as ids,
        such as "5:3".

        A bypassed node is left out and passes nothing on: none of ours has an input of the type of
        its output."""
        prompt: dict[str, Any] = {}
        for node in self.nodes:
            if node.number in self.insides:
                prompt |= self.insides[node.number].to_prompt()
            elif node.info is not None and node.mode != BYPASSED:
                inputs = {
                    name: value
                    for widget, spec in node.inputs()
                    if is_widget(spec)
                    for name, value in widget_values(node, widget, spec).items()
                    if value is not None
                }
                if prefix := inputs.get("filename_prefix"):
                    # The page alone fills in a node's values.
                    inputs["filename_prefix"] = re.sub(r"_[a-z]+%[^%]*%", "", prefix)
                found = {name: self._found(source) for name, source in node.sources.items()}
                inputs |= {name: value for name, value in found.items() if value is not None}
                prompt[f"{self.path}{node.number}"] = {
                    "class_type": node.kind,
                    "inputs": inputs,
                    "_meta": {"title": node.title or node.kind},
                }
        return prompt

    def _found(self, source: tuple[Node, str]) -> Any:
        """Source of a link's value: [node id, output], a promoted widget's value, or None for
        nowhere."""
        node, output = source
        if node.number in self.insides:
            inside = self.insides[node.number]
            return inside._found(inside.given[output])
        return (
            None
            if node.mode == BYPASSED
            else [f"{self.path}{node.number}", node.output_slot(output)]
        )

    def _all_insides(self) -> list[Subgraph]:
        return [
            found for inside in self.insides.values() for found in (inside, *inside._all_insides())
        ]

    def _saved(self) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        for node in self.nodes:
            if node.number in self.insides:
                node.info = self.insides[node.number].info()  # inner values may have been set since
        links: list[list[Any]] = []
        outgoing: dict[tuple[int, int], list[int]] = {}
        saved = [self._node_json(node, links, outgoing) for node in self.nodes]
        for node, entry in zip(self.nodes, saved, strict=True):
            for slot, output in enumerate(entry["outputs"]):
                output["links"] = outgoing.get((node.number, slot), []) or None
        return saved, links

    def _linked(
        self,
        source: tuple[Node, str],
        node: Node,
        place: int,
        links: list[list[Any]],
        outgoing: dict[tuple[int, int], list[int]],
    ) -> int:
        """Add a link; its number, of which no two are alike in a file."""
        origin, output = source
        slot, number = origin.output_slot(output), next(self.link_numbers)
        links.append([number, origin.number, slot, node.number, place, origin.info["output"][slot]])
        outgoing.setdefault((origin.number, slot), []).append(number)
        return number

    def _node_json(
        self, node: Node, links: list[list[Any]], outgoing: dict[tuple[int, int], list[int]]
    ) -> dict:
        sockets, values, uploads = [], [], []
        for name, spec in grown_inputs(node):
            entry: dict[str, Any] = {"name": name, "type": spec_kind(spec), "link": None}
            if name in node.labels:
                entry["label"] = node.labels[name]
            if spec_kind(spec) == PLAYER.upper():
                entry["widget"] = {"name": name}
            elif is_widget(spec):
                entry["widget"] = {"name": name}
                values += [
                    *widget_values(node, name, spec).values(),
                    *["fixed"] * control_count(name, spec),
                ]
                uploads += ["image"] * any(spec_options(spec).get(key) for key in UPLOADS)
            if name in node.sources:
                entry["link"] = self._linked(
                    node.sources[name], node, len(sockets), links, outgoing
                )
            sockets.append(entry)
        for name, source in node.players.items():
            sockets.append(
                {
                    "name": name,
                    "type": name.upper(),
                    "widget": {"name": name},
                    "link": self._linked(source, node, len(sockets), links, outgoing),
                }
            )
        values += uploads  # the editor's upload buttons come after all other widgets
        if node.info is None:
            values = [node.values["text"]]
        properties: dict[str, Any] = {"Node name for S&R": node.kind} if node.info else {}
        if node.number in self.models:
            properties["models"] = self.models[node.number]
        if node.number in self.insides:
            properties = {}
        properties |= node.properties
        outputs = (
            []
            if node.info is None
            else [
                {"name": name, "type": kind, "links": None}
                for name, kind in zip(node.info["output_name"], node.info["output"], strict=True)
            ]
        )
        saved = {
            "id": node.number,
            "type": node.kind,
            "pos": list(node.pos),
            "size": list(node.size),
            "flags": {},
            "order": self.nodes.index(node),
            "mode": node.mode,
            "inputs": sockets,
            "outputs": outputs,
            "properties": properties,
            "widgets_values": values,
        }
        if node.title:
            saved["title"] = node.title
        return saved


class Subgraph(Graph):
    """The inside of a node: what it takes and gives, and the inner inputs that stand on the node
    itself."""

    def __init__(
        self, object_info: dict[str, Any], name: str, title: str, description: str
    ) -> None:
        super().__init__(object_info, name)
        self.identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"egox/{name}"))
        self.title, self.description = title, description
        self.outside: Graph | None = None
        self.host: Node | None = None
        """The node that stands for it, in the graph outside."""
        self.labels: dict[str, str] = {}
        self.players: list[Node] = []
        """Nodes whose player is promoted."""
        self.edge = Node(INPUT_NODE, "", {"output": [], "output_name": []})
        self.given: dict[str, tuple[Node, str]] = {}
        self.promoted: dict[str, tuple[Node, str]] = {}
        self.rows: list[list[Any]] = []
        """The rows of blocks of its layout."""

    @property
    def path(self) -> str:
        return f"{self.outside.path}{self.host.number}:"

    def take(self, name: str, kind: str) -> tuple[Node, str]:
        """An input of the node, as a source for the nodes inside."""
        self.edge.info["output"].append(kind)
        self.edge.info["output_name"].append(name)
        return self.edge, name

    def promote_player(self, node: Node, label: str) -> None:
        """Put an inner node's player on the node. A script adds it, so the file has to bring the
        slot for it."""
        self.players.append(node)
        node.players[PLAYER] = self.take(PLAYER, PLAYER.upper())
        self.labels[PLAYER] = label

    def give(self, name: str, source: tuple[Node, str]) -> None:
        """An output of the node."""
        self.given[name] = source

    def promote(self, node: Node, widget: str, name: str = "", label: str = "") -> None:
        """Put an inner widget on the node, under another name where two are alike.

        Raises:
            ValueError: an advanced one, which newer nodes then hide on the outer node, too.
        """
        name, spec = name or widget, dict(node.inputs())[widget]
        if spec_options(spec).get("advanced"):
            raise ValueError(
                f"{widget} of {node.kind} is advanced: nobody would see it on {self.title}"
            )
        self.promoted[name] = (node, widget)
        node.sources[widget] = self.take(name, spec_kind(spec))
        if label:
            self.labels[name] = label

    def _found(self, source: tuple[Node, str]) -> Any:
        node, name = source
        if node is not self.edge:
            return super()._found(source)
        linked = self.host.sources.get(name)
        return self.host.values.get(name) if linked is None else self.outside._found(linked)

    def info(self) -> dict[str, Any]:
        """As /object_info would describe the node."""
        specs: dict[str, Any] = {}
        for name, kind in zip(self.edge.info["output_name"], self.edge.info["output"], strict=True):
            specs[name] = [kind, {}]
            found = self.promoted.get(name) or self._widget_behind(name)
            if found:
                node, widget = found
                spec = dict(node.inputs())[widget]
                specs[name] = [
                    spec[0],
                    {
                        "default": node.values.get(widget, default_value(spec)),
                        "control_after_generate": False,
                    },
                ]
        kinds = [
            node.info["output"][node.output_slot(output)] for node, output in self.given.values()
        ]
        return {"input": {"required": specs}, "output": kinds, "output_name": list(self.given)}

    def _widget_behind(self, name: str) -> tuple[Node, str] | None:
        """Inputs that the front end promotes by itself: an input that leads to a widget, linked
        outside or not."""
        for node in self.nodes:
            specs = dict(node.inputs())
            for widget, source in node.sources.items():
                if source == (self.edge, name) and widget in specs and is_widget(specs[widget]):
                    return node, widget
        return None

    def to_definition(self) -> dict[str, Any]:
        """As the front end saves it."""
        nodes, links = self._saved()
        inputs = [
            {
                "id": self._slot_id("in", name),
                "name": name,
                "type": kind,
                "linkIds": [link[0] for link in links if link[1:3] == [INPUT_NODE, slot]],
                **({"label": self.labels[name]} if name in self.labels else {}),
            }
            for slot, (name, kind) in enumerate(
                zip(self.edge.info["output_name"], self.edge.info["output"], strict=True)
            )
        ]
        outputs = []
        for slot, (name, (node, output)) in enumerate(self.given.items()):
            number, kind = next(self.link_numbers), node.info["output"][node.output_slot(output)]
            links.append([number, node.number, node.output_slot(output), OUTPUT_NODE, slot, kind])
            entry = nodes[self.nodes.index(node)]["outputs"][node.output_slot(output)]
            entry["links"] = [*(entry["links"] or []), number]
            outputs.append(
                {"id": self._slot_id("out", name), "name": name, "type": kind, "linkIds": [number]}
            )
        right = max(node.pos[0] + node.size[0] for node in self.nodes)
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return {
            "id": self.identity,
            "version": 1,
            "revision": 0,
            "config": {},
            "name": self.title,
            "state": {
                "lastGroupId": len(self.groups),
                "lastNodeId": max(node.number for node in self.nodes),
                "lastLinkId": max(link[0] for link in links),
                "lastRerouteId": 0,
            },
            "inputNode": {"id": INPUT_NODE, "bounding": [-240, 40, 160, 40 + 20 * len(inputs)]},
            "outputNode": {
                "id": OUTPUT_NODE,
                "bounding": [right + 80, 40, 160, 40 + 20 * len(outputs)],
            },
            "inputs": inputs,
            "outputs": outputs,
            "widgets": [],
            "nodes": nodes,
            "groups": self.groups,
            "links": [dict(zip(keys, link, strict=True)) for link in links],
            "extra": {},
            "category": "EgoX",
            "description": self.description,
        }

    def _slot_id(self, side: str, name: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"egox/{self.name}/{side}/{name}"))


def grown_inputs(node: Node) -> list[tuple[str, Any]]:
    """The inputs, an input that grows (``inputs.input0``, ``inputs.input1``, ...) as its used ones
    and a free one."""
    specs: list[tuple[str, Any]] = []
    for name, spec in node.inputs():
        if spec_kind(spec) != "COMFY_AUTOGROW_V3":
            specs.append((name, spec))
            continue
        used = sum(source.startswith(f"{name}.") for source in node.sources)
        template = spec_options(spec)["template"]
        names = template.get("names") or [
            f"{template['prefix']}{index}" for index in range(used + 1)
        ]
        specs += [(f"{name}.{inner}", ("*", {})) for inner in names[: used + 1]]
    return specs


def widget_values(node: Node, name: str, spec: Any) -> dict[str, Any]:
    """The value of one widget, and those of the inner widgets of a dynamic combo, by name."""
    values = {name: node.values.get(name, default_value(spec))}
    if spec_kind(spec) == "COMFY_DYNAMICCOMBO_V3":
        branch = next(
            option for option in spec_options(spec)["options"] if option["key"] == values[name]
        )
        for inner, inner_spec in input_specs({"input": branch["inputs"]}):
            values[f"{name}.{inner}"] = node.values.get(
                f"{name}.{inner}", default_value(inner_spec)
            )
    return values
