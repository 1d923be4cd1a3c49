"""``run.py demo --head estimated``: the ego poses from keypoints of the wearer, by the real nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .layout import SetupError
from .workflow import default_value, input_specs

KEYPOINTS = "head_keypoints.json"  # egox_core/file_names.py says it too
HEADS = TRUE, ESTIMATED = ("true", "estimated")
"""The take's own ego poses, or those that Estimate Head Pose makes of keypoints."""
LOAD, DEPTH, HEAD, POSE = "EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXEstimateHeadPose", "EgoXEgoPoseInput"


def read_keypoints(file: Path) -> list[dict[str, Any]]:
    """Keypoints of a video, one object a frame.

    Raises:
        SetupError: no such file, or another form.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"--head {ESTIMATED}: {file} can't be read ({error}). Give --keypoints FILE: what a detector "
                         "saw of the wearer in the video, in OpenPose's form.") from None
    if not isinstance(content, list) or not all(isinstance(frame, dict) and "people" in frame for frame in content):
        raise SetupError(f"{file}: expected a list with one object a frame, each with its people (OpenPose's form).")
    return content


def keypoints_in_use(frames: list[dict[str, Any]], load: dict[str, Any]) -> list[dict[str, Any]]:
    """Keypoints of a whole video as those of the frames that Load Exo Video gives: chosen, cropped and scaled alike.

    Raises:
        SetupError: too few frames, another frame rate, a padded picture, keypoints without the picture's size.
    """
    start, count, width, height = (int(load[name]) for name in ("start_frame", "frame_count", "width", "height"))
    if load.get("target_fps") or load.get("resize", "crop") != "crop":
        raise SetupError(f"--head {ESTIMATED} takes a video's own frames, cropped: no other rate, no padding.")
    if len(frames) < start + count:
        raise SetupError(f"--head {ESTIMATED}: keypoints of {len(frames)} frames, and {start + count} are used. Give "
                         f"those of the whole video, or --frames N.")
    return [_of_size(frame, width, height) for frame in frames[start:start + count]]


def _of_size(frame: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    source_width, source_height = frame.get("canvas_width", 0), frame.get("canvas_height", 0)
    if not (source_width > 0 and source_height > 0):
        raise SetupError(f"--head {ESTIMATED}: the keypoints lack canvas_width and canvas_height, the picture's size.")
    scale = max(width / source_width, height / source_height)
    # What the frames show of the source, about its middle: as egox_core/video/selection.py has it.
    kept_width, kept_height = round(width / scale), round(height / scale)
    left, top = (source_width - kept_width) // 2, (source_height - kept_height) // 2

    def moved(values: list[float]) -> list[float]:
        result = []
        for column, row, score in zip(values[::3], values[1::3], values[2::3], strict=True):
            found = score > 0
            result += [(column + 0.5 - left) * width / kept_width - 0.5 if found else 0.0,
                       (row + 0.5 - top) * height / kept_height - 0.5 if found else 0.0, score]
        return result

    people = [{"pose_keypoints_2d": moved(person["pose_keypoints_2d"])} for person in frame["people"]]
    return {"canvas_width": width, "canvas_height": height, "people": people}


def estimate_head(prompt: dict[str, Any], keypoints: list[dict[str, Any]],
                  object_info: dict[str, Any]) -> dict[str, Any]:
    """Put Estimate Head Pose before Ego Pose Input; the keypoints go to its socket as a value, as the API allows.

    Raises:
        SetupError: see :func:`keypoints_in_use`.
    """
    ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    if HEAD in ids or HEAD not in object_info or not {LOAD, DEPTH, POSE} <= set(ids):
        raise SetupError(f"--head {ESTIMATED} is for the demo's graph and this pack's nodes.")

    def link(node_id: str, kind: str, name: str) -> list[Any]:
        return [node_id, object_info[kind]["output_name"].index(name)]

    pose = prompt[ids[POSE]]["inputs"]
    defaults = {name: default_value(spec) for name, spec in input_specs(object_info[HEAD])}
    prompt["head"] = {"class_type": HEAD, "_meta": {"title": "Estimate Head Pose"}, "inputs": {
        **{name: value for name, value in defaults.items() if value is not None},
        "depth": link(ids[DEPTH], DEPTH, "depth"),
        **{name: link(ids[LOAD], LOAD, name) for name in ("exo_images", "frames")},
        "pose_keypoints": {"__value__": keypoints_in_use(keypoints, prompt[ids[LOAD]]["inputs"])}}}
    pose |= {"source": ESTIMATED, "estimated": link("head", HEAD, "trajectory")}
    return prompt
