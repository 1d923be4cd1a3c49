"""Draw the links of saved graphs as ComfyUI's page does, with their reroutes."""

import math
from typing import Any

SLOT_TOP, SLOT_PX, TITLE_PX = 14, 20, 30
"""Height of a node's first slot below its top, of each slot, and of the title above it, in px."""
MOST_REACH = 80  # px, of a spline's handle at a reroute
STEPS = 40  # points of a spline


def link_ends(graph: dict[str, Any], link: list[Any]) -> tuple[tuple[float, float], ...]:
    """Find the output's and the input's position of a link of a saved graph."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    source, target = nodes[link[1]], nodes[link[3]]
    return (
        (source["pos"][0] + source["size"][0], source["pos"][1] + SLOT_TOP + SLOT_PX * link[2]),
        (target["pos"][0], target["pos"][1] + SLOT_TOP + SLOT_PX * link[4]),
    )


def link_points(graph: dict[str, Any], link: list[Any]) -> list[tuple[float, float]]:
    """Sample the drawn line of a link: splines between its ends and its reroutes.

    The page's renderLink and Reroute.calculateAngle, in which a reroute's handles halve the
    corner.
    """
    start, end = link_ends(graph, link)
    stops = [start, *reroutes_of(graph, link[0]), end]
    points, handle = [], (math.dist(*stops[:2]) / 4, 0.0)
    for i, (here, there) in enumerate(zip(stops, stops[1:], strict=False)):
        reach = math.dist(here, there) / 4
        if i + 2 < len(stops):
            following = stops[i + 2]
            arrival = math.atan2(there[1] - here[1], there[0] - here[0])
            departure = math.atan2(following[1] - there[1], following[0] - there[0])
            half_turn = (arrival - departure) / 2
            if abs(half_turn) > math.pi / 2:
                half_turn += math.pi
            direction = math.cos(arrival - half_turn), math.sin(arrival - half_turn)
            last_reach = min(MOST_REACH, reach)
            next_reach = min(MOST_REACH, math.dist(there, following) / 4)
        else:
            direction, last_reach, next_reach = (1.0, 0.0), reach, 0.0
        controls = (
            here,
            (here[0] + handle[0], here[1] + handle[1]),
            (there[0] - last_reach * direction[0], there[1] - last_reach * direction[1]),
            there,
        )
        for step in range(STEPS + 1):
            t = step / STEPS
            weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3)
            points.append(
                tuple(
                    sum(
                        weight * point[axis]
                        for weight, point in zip(weights, controls, strict=True)
                    )
                    for axis in (0, 1)
                )
            )
        handle = next_reach * direction[0], next_reach * direction[1]
    return points


def reroutes_of(graph: dict[str, Any], link_id: int) -> list[tuple[float, float]]:
    """List the positions of a link's reroutes from its output to its input."""
    reroutes = {entry["id"]: entry for entry in graph["extra"].get("reroutes", [])}
    parents = {entry["id"]: entry["parentId"] for entry in graph["extra"].get("linkExtensions", [])}
    positions, reroute_id = [], parents.get(link_id)
    while reroute_id is not None:
        positions.insert(0, tuple(reroutes[reroute_id]["pos"]))
        reroute_id = reroutes[reroute_id].get("parentId")
    return positions


def nodes_over(graph: dict[str, Any], link: list[Any]) -> set[str]:
    """Name the nodes that hide a part of a link, its own ends included."""
    return {
        node.get("title", node["type"])
        for x, y in link_points(graph, link)
        for node in graph["nodes"]
        if node["pos"][0] + 1 < x < node["pos"][0] + node["size"][0] - 1
        and node["pos"][1] - TITLE_PX < y < node["pos"][1] + node["size"][1]
    }
