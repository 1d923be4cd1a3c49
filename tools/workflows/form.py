"""The form in which a shipped workflow opens (the host's app mode): what one changes, and what
comes out.

A host without that mode takes no notice and shows the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Node, Subgraph

MOST = 11
"""Rows of a form."""


@dataclass(frozen=True)
class Row:
    """An input of a kind of node, and what the form calls it; without a label it is a widget that
    our scripts add to the node (button, player), which they name in the page's language."""

    kind: str
    widget: str
    label: str = ""
    where_promoted: bool = False
    """A row only where the node of a subgraph shows it."""


ROWS = (
    Row("EgoXLoadExoVideo", "file", "Exo video"),
    Row("EgoXLoadExoVideo", "egox_upload"),
    Row("EgoXEgoPoseInput", "egox_pose_editor"),
    Row("EgoXText", "caption", "Caption"),
    Row("EgoXPrompt", "exo_view", "What the exo camera sees"),
    Row("EgoXPrompt", "ego_view", "What the person sees"),
    Row("EgoXSweep", "lambda_g", "Values of λ_g"),
    Row("EgoXSweep", "strength", "LoRA strengths"),
    Row("EgoXWanSampler", "lambda_g", "λ_g (3 as trained)"),
    Row("EgoXSampleLong", "lambda_g", "λ_g (3 as trained)"),
    Row("EgoXSampleLong", "look_away_memory", "Remember places"),
    Row("EgoXLoadLora", "strength", "LoRA (1 as trained)"),
    Row("EgoXWanSampler", "steps", "Steps"),
    Row("EgoXSampleLong", "steps", "Steps"),
    Row(
        "EgoXWanSampler",
        "recompute_exo",
        "Recompute exo every … steps (above 1: 7.5 GB)",
        where_promoted=True,
    ),
    Row("EgoXWanSampler", "seed", "Seed"),
    Row("EgoXSampleLong", "seed", "Seed"),
    Row("EgoXConditioning", "low_memory", "Little memory"),
    Row("EgoXDecodeEgoHalf", "egox_preview"),
    Row("EgoXSampleLong", "egox_preview"),
    Row("EgoXAttentionView", "egox_preview"),
    Row("EgoXRenderEgoPrior", "egox_preview"),
    Row("EgoXEstimateHeadPose", "egox_preview"),
)
"""All that a form may hold, in its order; a graph has those of which it has the node, where no wire
gives the value."""
RESULT, PRIOR = "SaveVideo", "EgoXRenderEgoPrior"


def add_form(graph: Graph) -> None:
    """Give a graph its form and the labels of its rows.

    Raises:
        KeyError: a row of an input that its node doesn't have.
        ValueError: more rows than anybody overlooks.
    """
    rows: list[list[int | str]] = []
    for row in ROWS:
        for node in graph.nodes:
            if (
                row.where_promoted
                or node.mode
                or node.kind != row.kind
                or row.widget in node.sources
            ):
                continue
            if row.label:
                if row.widget not in dict(node.inputs()):
                    raise KeyError(f"{row.kind} has no input {row.widget!r}")
                node.labels[row.widget] = f"{row.label} ({node.title})" if node.title else row.label
            rows.append([node.number, row.widget])
        rows += [
            [number, name]
            for number, inside in graph.insides.items()
            for name in _names(inside, row)
        ]
    if len(rows) > MOST:
        raise ValueError(f"a form of {len(rows)} rows; {MOST} at most")
    # The last one saved is what the graph is for.
    results: list[int | str] = [
        node.number
        for node in reversed(graph.nodes)
        if not node.mode
        and (
            node.kind == RESULT or node.number in graph.insides and RESULT in kinds_in(graph, node)
        )
    ]
    # The host looks for an output by the id that its run has: "6:5" is node 5 in the subgraph of node 6.
    inner = [(f"{at}:", node) for at, inside in graph.insides.items() for node in inside.nodes]
    results += [
        f"{at}{node.number}"
        for at, node in (*inner, *(("", node) for node in graph.nodes))
        if node.kind == PRIOR and not node.mode
    ]
    graph.form = {"linearMode": True, "linearData": {"inputs": rows, "outputs": results}}


def _names(inside: Subgraph, row: Row) -> list[str]:
    """Name of the row on the node of a subgraph: a widget that it promotes, or the player that it
    shows."""
    if row.label:
        return [
            name
            for name, (node, widget) in inside.promoted.items()
            if (node.kind, widget) == (row.kind, row.widget)
        ]
    return [row.widget for node in inside.players if node.kind == row.kind]


def kinds_in(graph: Graph, node: Node) -> set[str]:
    """The kinds of the nodes in a subgraph."""
    return {inner.kind for inner in graph.insides[node.number].nodes}
