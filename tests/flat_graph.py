"""List the nodes of saved workflows, and replace their subgraphs by the inner nodes."""

import copy
from itertools import count
from typing import Any

INNER_NODES_OFFSET_Y = 3000  # units under the canvas' own nodes


def all_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """List the nodes of a workflow and of all its subgraphs."""
    graphs = (workflow, *(workflow.get("definitions") or {}).get("subgraphs", []))
    return [node for graph in graphs for node in graph["nodes"]]


def flatten_workflow(workflow: dict[str, Any]) -> dict[str, Any]:
    """Replace each node that is a subgraph by its inner nodes, with all links.

    One level; numbers occur once, and promoted values equal the inner ones, as in the shipped
    files."""
    workflow = copy.deepcopy(workflow)
    definitions = {
        entry["id"]: entry for entry in workflow.pop("definitions", {"subgraphs": []})["subgraphs"]
    }
    subgraph_nodes = {
        node["id"]: definitions[node["type"]]
        for node in workflow["nodes"]
        if node["type"] in definitions
    }
    output_origins: dict[
        tuple[int, int], tuple[int, int]
    ] = {}  # (host, its output) -> inner node and slot
    links = [tuple(link[1:]) for link in workflow["links"]]
    nodes = [node for node in workflow["nodes"] if node["id"] not in subgraph_nodes]
    for column, (subgraph_id, subgraph) in enumerate(subgraph_nodes.items()):
        input_origins = {link[3]: link[:2] for link in links if link[2] == subgraph_id}
        for link in subgraph["links"]:
            origin = (link["origin_id"], link["origin_slot"])
            if link["target_id"] == -20:
                output_origins[subgraph_id, link["target_slot"]] = origin
            elif origin[0] != -10:
                links.append((*origin, link["target_id"], link["target_slot"], link["type"]))
            elif origin[1] in input_origins:
                links.append(
                    (
                        *input_origins[origin[1]],
                        link["target_id"],
                        link["target_slot"],
                        link["type"],
                    )
                )
        for node in subgraph["nodes"]:
            node["pos"] = [node["pos"][0] + 4000 * column, node["pos"][1] + INNER_NODES_OFFSET_Y]
            nodes.append(node)
    links = [
        (*output_origins.get(link[:2], link[:2]), *link[2:])
        for link in links
        if link[2] not in subgraph_nodes
    ]
    for node in nodes:
        node["inputs"] = [
            {**slot, "link": None}
            for slot in node["inputs"]
            if not slot["name"].startswith("egox_")
        ]
        node["outputs"] = [{**slot, "links": []} for slot in node["outputs"]]
    nodes_by_id, link_ids, flat_links = {node["id"]: node for node in nodes}, count(1), []
    for origin, slot, target, input_slot, link_type in links:
        if input_slot < len(nodes_by_id[target]["inputs"]):
            flat_links.append([next(link_ids), origin, slot, target, input_slot, link_type])
            nodes_by_id[origin]["outputs"][slot]["links"].append(flat_links[-1][0])
            nodes_by_id[target]["inputs"][input_slot]["link"] = flat_links[-1][0]
    extra = {key: value for key, value in workflow["extra"].items() if not key.startswith("linear")}
    return workflow | {
        "nodes": nodes,
        "links": flat_links,
        "groups": [],
        "last_link_id": len(flat_links),
        "extra": extra,
    }
