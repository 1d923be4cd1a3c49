"""``run.py demo --head estimated``: the ego poses from keypoints of the wearer, by the real
nodes."""

import json
from pathlib import Path
from typing import Any

from egox_core.types import FrameSelection
from egox_core.video import probe_video, source_rectangle

from .layout import SetupError
from .node_inputs import default_value, input_specs

LOAD, DEPTH, HEAD, POSE = (
    "EgoXLoadExoVideo",
    "EgoXDepthAlign",
    "EgoXEstimateHeadPose",
    "EgoXEgoPoseInput",
)


def keypoints_in_use(file: Path, exo: Path, chosen: FrameSelection) -> list[dict[str, Any]]:
    """Keypoints of a whole video as those of the frames in use: chosen, cropped and scaled alike.

    Raises:
        SetupError: no such file, another form, or of another video.
    """
    video = probe_video(exo)
    left, top, shown_width, shown_height = source_rectangle(chosen)
    width, height = chosen.size

    def moved(person: dict[str, Any]) -> list[float]:
        result, values = [], person["pose_keypoints_2d"]
        for column, row, score in zip(values[::3], values[1::3], values[2::3], strict=True):
            x = (column + 0.5 - left) * width / shown_width - 0.5
            y = (row + 0.5 - top) * height / shown_height - 0.5
            result += [x, y, score] if score > 0 else [0.0, 0.0, score]
        return result

    try:
        frames = json.loads(file.read_text("utf-8"))
        sizes = {(frame["canvas_width"], frame["canvas_height"]) for frame in frames}
        if len(frames) != video.frame_count or sizes != {(video.width, video.height)}:
            raise ValueError(
                f"{len(frames)} frames of {sorted(sizes)} px; the video has {video.frame_count} of "
                f"{(video.width, video.height)}"
            )
        return [
            {
                "canvas_width": width,
                "canvas_height": height,
                "people": [{"pose_keypoints_2d": moved(p)} for p in frames[index]["people"]],
            }
            for index in chosen.source_indices.tolist()
        ]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise SetupError(
            f"--head estimated: {file} can't be used ({type(error).__name__}: {error}). Give "
            "--keypoints FILE: what a detector saw of the wearer in the video, in OpenPose's form, a "
            "list with one object per frame (canvas_width, canvas_height, people)."
        ) from None


def estimate_head(
    prompt: dict[str, Any], keypoints: list[dict[str, Any]], object_info: dict[str, Any]
) -> dict[str, Any]:
    """Put Estimate Head Pose before Ego Pose Input; the keypoints go to its socket as a value, as
    the API allows."""
    ids = {node["class_type"]: node_id for node_id, node in prompt.items()}

    def link(node_id: str, kind: str, name: str) -> list[Any]:
        return [node_id, object_info[kind]["output_name"].index(name)]

    defaults = {name: default_value(spec) for name, spec in input_specs(object_info[HEAD])}
    prompt["head"] = {
        "class_type": HEAD,
        "inputs": {
            **{name: value for name, value in defaults.items() if value is not None},
            "depth": link(ids[DEPTH], DEPTH, "depth"),
            **{name: link(ids[LOAD], LOAD, name) for name in ("exo_images", "frames")},
            "pose_keypoints": {"__value__": keypoints},
        },
    }
    prompt[ids[POSE]]["inputs"] |= {
        "source": "estimated",
        "estimated": link("head", HEAD, "trajectory"),
    }
    return prompt
