"""Tell whether a graph needs MoGe, which an exo video with a depth of its own doesn't."""

from ..egox_core.depth import DEPTH_ADAPTERS
from ..egox_core.file_names import DEPTH
from .host.graph import Graph, inputs_of, linked_node_id, sidecar_missing

AUTO = "auto"
"""Choice of a MoGe file that is asked for only where the video has no depth of its own."""
MOGE_NODE, ALIGN_NODE = "EgoXMoGeVideo", "EgoXDepthAlign"
MOGE_SOCKET = "moge_geometry"


def is_auto_moge(graph: Graph, node_id: str | None) -> bool:
    """Check whether a node is Run MoGe on Video with the file that it chooses by itself."""
    if node_id is None or graph[node_id].get("class_type") != MOGE_NODE:
        return False
    is_given = linked_node_id(graph, node_id, "moge_model") is not None
    return not is_given and inputs_of(graph, node_id).get("model_name", AUTO) == AUTO


def has_auto_moge(graph: Graph, align_id: str) -> bool:
    """Check whether such a MoGe is the only depth model of a Depth Align."""
    linked_ids = {
        name: source
        for name in DEPTH_ADAPTERS
        if (source := linked_node_id(graph, align_id, name)) is not None
    }
    return set(linked_ids) == {MOGE_SOCKET} and is_auto_moge(graph, linked_ids[MOGE_SOCKET])


def lacks_own_depth(graph: Graph, align_id: str) -> bool:
    """Check whether it is certain before a run that a Depth Align reads no depth file."""
    depth_file = inputs_of(graph, align_id).get("depth_file", "")
    is_unnamed = isinstance(depth_file, str) and not depth_file.strip()
    return is_unnamed and sidecar_missing(graph, align_id, DEPTH)


def needs_auto_moge(graph: Graph, moge_id: str) -> bool:
    """Check whether anything that runs after such a MoGe certainly has no other depth."""
    return any(
        linked_node_id(graph, node_id, name) == moge_id
        and not (name == MOGE_SOCKET and _may_have_own_depth(graph, node_id))
        for node_id in graph
        for name in inputs_of(graph, node_id)
    )


def _may_have_own_depth(graph: Graph, node_id: str) -> bool:
    is_align = graph[node_id].get("class_type") == ALIGN_NODE
    return is_align and has_auto_moge(graph, node_id) and not lacks_own_depth(graph, node_id)
