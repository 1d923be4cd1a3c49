"""Places of a workflow's nodes: on the canvas in frames at given places, in a subgraph in rows of
blocks, blocks of columns, columns of nodes.

Heights are those that the front end itself gives its nodes, so that nothing overlaps in either of
its two ways to draw them; see ``make.py``."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Node

TITLE = 30
"""Height of a node's title bar, which is above its position."""
BADGE = 24
"""Room for the pack's name above a node."""
GROUP_TITLE = 44
PAD, COLUMN_GAP, NODE_GAP, BLOCK_GAP, ROW_GAP = 24, 50, 26, 60, 70
FOOT = 10
"""Room under the last node of a frame of the canvas, whose height is what the page shows at
once."""


@dataclass
class Block:
    """Some columns of nodes, framed and titled; without a title they stand free (notes)."""

    title: str
    columns: list[list[Node]]
    color: str = "#3f789e"


@dataclass
class Frame:
    """Nodes below each other from a place on, framed and titled; without a title they stand free
    (notes)."""

    title: str
    left: float
    top: float
    nodes: list[Node]
    color: str = "#3f789e"


def place(graph: Graph, frames: list[Frame], heights: dict[int, float]) -> None:
    """Give every node of the canvas its place and its size, and every titled frame its edge;
    heights as in `arrange`.

    Raises:
        ValueError: as `arrange`.
    """
    check_once(graph, [node for frame in frames for node in frame.nodes])
    graph.groups.clear()
    for frame in frames:
        y = frame.top
        for node in frame.nodes:
            height = max(heights.get(node.number, 0.0), node.wanted[1])
            node.pos, node.size = (round(frame.left), round(y)), (node.wanted[0], round(height))
            y += node.size[1] + NODE_GAP + BADGE + TITLE
        if frame.title:
            bottom = y - NODE_GAP - BADGE - TITLE + FOOT
            top = frame.top - TITLE - BADGE - GROUP_TITLE
            wide = max(node.size[0] for node in frame.nodes) + 2 * PAD
            graph.group(
                frame.title,
                (round(frame.left - PAD), round(top), wide, round(bottom - top)),
                frame.color,
            )


def check_once(graph: Graph, placed: list[Node]) -> None:
    """Refuse a node that was forgotten, or placed twice."""
    numbers = sorted(node.number for node in placed)
    if numbers != sorted(node.number for node in graph.nodes):
        lost = {node.number for node in graph.nodes} - set(numbers)
        raise ValueError(
            f"nodes {sorted(lost)} stand in no block" if lost else "a node stands in two blocks"
        )


def arrange(graph: Graph, rows: list[list[Block]], heights: dict[int, float] | None = None) -> None:
    """Give every node its place and its size, and every titled block its frame.

    Args:
        heights: node number -> height as the front end draws it; a node that is missing, or that
            the description made higher (room for a picture that comes with the run), keeps the
            description's height.

    Raises:
        ValueError: a node that no block holds, or that two hold.
    """
    check_once(
        graph,
        [node for row in rows for block in row for column in block.columns for node in column],
    )
    heights = heights or {}
    graph.groups.clear()
    top = 0.0
    for row in rows:
        left, row_bottom = 0.0, top
        frames = []
        for block in row:
            right, bottom = _place(block, left, top, heights)
            frames.append((block, left, right))
            left, row_bottom = right + BLOCK_GAP, max(row_bottom, bottom)
        for block, left, right in frames:
            if block.title:
                graph.group(
                    block.title,
                    (round(left), round(top), round(right - left), round(row_bottom - top)),
                    block.color,
                )
        top = row_bottom + ROW_GAP


def _place(block: Block, left: float, top: float, heights: dict[int, float]) -> tuple[float, float]:
    """Place the nodes; the block's right and bottom edge."""
    x, bottom = left + PAD, top
    for column in block.columns:
        y, width = top + GROUP_TITLE + BADGE + TITLE, max(node.wanted[0] for node in column)
        for node in column:
            height = max(heights.get(node.number, 0.0), node.wanted[1])
            node.pos, node.size = (round(x), round(y)), (width, round(height))
            y += node.size[1] + NODE_GAP + BADGE + TITLE
        bottom = max(bottom, y - NODE_GAP - BADGE - TITLE + PAD)
        x += width + COLUMN_GAP
    return x - COLUMN_GAP + PAD, bottom
