"""Values of Ego Pose Input, and what its scene and path depend on: the page asks for these too."""

from ..egox_core.file_names import META
from .host.graph import Graph, input_digest, inputs_of

BESIDE = f"{META} beside the video"
AUTO = "auto"
DEFAULT_PRESET = "aria_released"
SCENE_INPUTS = ("frames", "scene", "exo_images")
OF_FILE = ("file", "entry")
"""Inputs that a path from a file depends on; keyframes are the editor's own."""


def editor_origin(graph: Graph, node: str) -> dict[str, str]:
    """Inputs of the editor's scene and of a path from elsewhere: where they differ from the run's,
    the run was of another video, depth or path."""
    path = OF_FILE if inputs_of(graph, node).get("source") == "file" else ()
    return {
        "scene": input_digest(graph, node, SCENE_INPUTS),
        "path": input_digest(graph, node, ("source", "base", *path)),
    }
