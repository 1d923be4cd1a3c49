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
    subgraph_definitions = {
        entry["id"]: entry for entry in workflow.pop("definitions", {"subgraphs": []})["subgraphs"]
    }
    subgraph_nodes = {
        node["id"]: subgraph_definitions[node["type"]]
        for node in workflow["nodes"]
        if node["type"] in subgraph_definitions
    }
    output_origins: dict[
        tuple[int, int], tuple[int, int]
    ] = {}  # (host, its output) -> inner node and slot
    links = [tuple(link[1:]) for link in workflow["links"]]
    nodes = [node for node in workflow["nodes"] if node["id"] not in subgraph_nodes]
    for subgraph_index, (subgraph_id, subgraph) in enumerate(subgraph_nodes.items()):
        input_origins = {link[3]: link[:2] for link in links if link[2] == subgraph_id}
        for link in subgraph["links"]:
            origin_socket = (link["origin_id"], link["origin_slot"])
            if link["target_id"] == -20:
                output_origins[subgraph_id, link["target_slot"]] = origin_socket
            elif origin_socket[0] != -10:
                links.append((*origin_socket, link["target_id"], link["target_slot"], link["type"]))
            elif origin_socket[1] in input_origins:
                links.append(
                    (
                        *input_origins[origin_socket[1]],
                        link["target_id"],
                        link["target_slot"],
                        link["type"],
                    )
                )
        for node in subgraph["nodes"]:
            node["pos"] = [
                node["pos"][0] + 4000 * subgraph_index,
                node["pos"][1] + INNER_NODES_OFFSET_Y,
            ]
            nodes.append(node)
    links = [
        (*output_origins.get(link[:2], link[:2]), *link[2:])
        for link in links
        if link[2] not in subgraph_nodes
    ]
    for node in nodes:
        node["inputs"] = [
            {**input_entry, "link": None}
            for input_entry in node["inputs"]
            if not input_entry["name"].startswith("egox_")
        ]
        node["outputs"] = [{**input_entry, "links": []} for input_entry in node["outputs"]]
    nodes_by_id, link_ids, flat_links = {node["id"]: node for node in nodes}, count(1), []
    for origin_socket, input_entry, target_node, input_slot, link_type in links:
        if input_slot < len(nodes_by_id[target_node]["inputs"]):
            flat_links.append(
                [next(link_ids), origin_socket, input_entry, target_node, input_slot, link_type]
            )
            nodes_by_id[origin_socket]["outputs"][input_entry]["links"].append(flat_links[-1][0])
            nodes_by_id[target_node]["inputs"][input_slot]["link"] = flat_links[-1][0]
    extra_fields = {
        key: value
        for key, value in workflow["extra"].items()
        if not key.startswith(("linear", "link", "reroutes"))
    }
    return workflow | {
        "nodes": nodes,
        "links": flat_links,
        "groups": [],
        "last_link_id": len(flat_links),
        "extra": extra_fields,
    }
