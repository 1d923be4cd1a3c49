"""Saved workflows and their subgraphs: all nodes, and the same graph with all of them on the
canvas."""

import copy
from itertools import count
from typing import Any

BELOW = 3000  # units under the canvas' own nodes


def nodes_of(saved: dict[str, Any]) -> list[dict[str, Any]]:
    """List the nodes of a workflow and of all its subgraphs."""
    graphs = (saved, *(saved.get("definitions") or {}).get("subgraphs", []))
    return [node for graph in graphs for node in graph["nodes"]]


def flat(saved: dict[str, Any]) -> dict[str, Any]:
    """Replace each node that is a subgraph by its inner nodes. Slots that promote a player are
    removed.

    One level; numbers occur once, and promoted values equal the inner ones, as in the shipped
    files."""
    saved = copy.deepcopy(saved)
    definitions = {
        entry["id"]: entry for entry in saved.pop("definitions", {"subgraphs": []})["subgraphs"]
    }
    hosts = {
        node["id"]: definitions[node["type"]]
        for node in saved["nodes"]
        if node["type"] in definitions
    }
    sources: dict[
        tuple[int, int], tuple[int, int]
    ] = {}  # (host, its output) -> inner node and slot
    links = [tuple(link[1:]) for link in saved["links"]]
    nodes = [node for node in saved["nodes"] if node["id"] not in hosts]
    for shift, (host, inside) in enumerate(hosts.items()):
        into = {link[3]: link[:2] for link in links if link[2] == host}
        for link in inside["links"]:
            origin = (link["origin_id"], link["origin_slot"])
            if link["target_id"] == -20:
                sources[host, link["target_slot"]] = origin
            elif origin[0] != -10:
                links.append((*origin, link["target_id"], link["target_slot"], link["type"]))
            elif origin[1] in into:
                links.append(
                    (*into[origin[1]], link["target_id"], link["target_slot"], link["type"])
                )
        for node in inside["nodes"]:
            node["pos"] = [node["pos"][0] + 4000 * shift, node["pos"][1] + BELOW]
            nodes.append(node)
    links = [
        (*sources.get(link[:2], link[:2]), *link[2:]) for link in links if link[2] not in hosts
    ]
    for node in nodes:
        node["inputs"] = [
            {**slot, "link": None}
            for slot in node["inputs"]
            if not slot["name"].startswith("egox_")
        ]
        node["outputs"] = [{**slot, "links": []} for slot in node["outputs"]]
    by_number, numbers, flat_links = {node["id"]: node for node in nodes}, count(1), []
    for origin, slot, target, place, kind in links:
        if place < len(by_number[target]["inputs"]):
            flat_links.append([next(numbers), origin, slot, target, place, kind])
            by_number[origin]["outputs"][slot]["links"].append(flat_links[-1][0])
            by_number[target]["inputs"][place]["link"] = flat_links[-1][0]
    extra = {key: value for key, value in saved["extra"].items() if not key.startswith("linear")}
    return saved | {
        "nodes": nodes,
        "links": flat_links,
        "groups": [],
        "last_link_id": len(flat_links),
        "extra": extra,
    }
