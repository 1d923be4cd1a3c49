"""Name the flags of a command where a message names the core's arguments."""

from collections.abc import Mapping

from egox_core.errors import in_words

FLAGS: Mapping[str, str] = {
    "frame_count": "--frames",
    "leave every_nth at 0": "leave ego.every_nth out",
    "set every_nth ": "give --declare ego.every_nth=",
    "set file_frames to": "give --file-frames",
    "set file_frames:": "give --file-frames",
    "file_frames": "--file-frames",
    "set one_shot": "give --one-shot",
    "draw_anyway": "--draw-anyway",
    "scene_scale": "--scene-scale",
    "fov_deg of stages.align": "--exo-fov",
    "give camera, meta or fov_deg": "declare exo.fov_deg, or state the lens in meta.json",
    "estimate its motion (estimate_exo_motion)": "give --exo-motion auto",
    ", or give the path of another program (given)": "",
    ", or give stages.path a camera": ", or state ego_camera in meta.json (preview: --camera)",
    "convert it with safetensors.torch.save_file: ": "convert it once with: python "
    "tools/convert_to_safetensors.py ",
    ": give stages.path the scene": ": it is taken to be the scene's",
}


def in_flags(message: object) -> str:
    """Write a message of the core with a command's flags."""
    return in_words(str(message), FLAGS)
