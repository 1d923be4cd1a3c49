"""Define inputs of the node Ego Pose Input that its page also uses."""

from typing import Any

from comfy_api.latest import io

from ..egox_core.file_names import META
from ..egox_core.frames import FILE_FRAMES
from .host.graph import Graph, input_digest, inputs_of

BESIDE = f"{META} beside the video"
AUTO = "auto"
DEFAULT_PRESET = "aria_released"
SCENE_INPUTS = ("frames", "scene", "exo_images")
PROGRAM_FORMS = (
    "images.txt or images.bin of COLMAP, transforms.json, text of TUM or KITTI, .csv of EuRoC, "
    "OptiTrack or Aria, JSON of Record3D or Polycam, 4x4 matrices as .npy or JSON, an npz of ViPE, "
    "GVHMR, Depth Anything 3 or VGGT, or Nuke .chan"
)
"""Files of other programs that hold a camera's path, in tooltips."""
FILE_INPUTS = ("file", "entry", "every_nth", "file_frames", "declared")
"""Inputs on which a path from a file depends. Keyframes belong to the editor."""


def every_nth_input(source: str) -> io.Int.Input:
    """Make the node input for the number of video frames per pose of another program."""
    return io.Int.Input(
        "every_nth",
        default=0,
        min=-1000,
        max=1000,
        optional=True,
        advanced=True,
        tooltip=(
            f"Used with '{source}', for COLMAP or transforms.json. Number of video frames from one "
            "of their images to the next; 1 if the image numbers are frame numbers. Numbers "
            "start at 1 unless one is 0; with a minus (-1, -5) they start at 0. 0 detects it "
            "from the numbers and the video's length, and stops with an error if two answers are "
            "possible."
        ),
    )


def file_frames_input(label: str) -> io.Combo.Input:
    """Make the node input that states to which frames a file's entries belong."""
    return io.Combo.Input(
        "file_frames",
        options=list(FILE_FRAMES),
        default=FILE_FRAMES[0],
        optional=True,
        advanced=True,
        tooltip=(
            f"Tells to which frames the entries of {label} belong, if the file doesn't state it. "
            "auto: by their number, if there is one entry for each frame of the video. source: "
            "entry i is frame i of the video, even if the file ends early. in use: entry i is the "
            "i-th of the selected frames."
        ),
    )


def declared_input(label: str, example: str, *, force_input: Any = None) -> io.String.Input:
    """Make the node input in which a user declares facts that a file doesn't state."""
    return io.String.Input(
        "declared",
        default="",
        optional=True,
        advanced=True,
        force_input=force_input,
        tooltip=(
            f"What you know of {label} and the file doesn't state, as FACT=VALUE, for example "
            f"{example}. Several are separated by commas. It goes before what the file says. A "
            "wrong fact or value stops with the list of choices."
        ),
    )


def digest_editor_inputs(graph: Graph, node: str) -> dict[str, str]:
    """Compute digests of the inputs on which the pose editor's scene and path depend.

    If they differ from those of a run, the run had another video, depth or path.
    """
    path = FILE_INPUTS if inputs_of(graph, node).get("source") == "file" else ()
    return {
        "scene": input_digest(graph, node, SCENE_INPUTS),
        "path": input_digest(graph, node, ("source", "base", *path)),
    }
