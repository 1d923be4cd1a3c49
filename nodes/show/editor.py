"""Collect the data of Ego Pose Input for the page's pose editor."""

from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.frames import Frames, settle_frames
from ...egox_core.scene import ego_in_scene
from ...egox_core.types import CameraTrajectory, PointCloud
from ...egox_core.video import video_mark
from ..io_types import notes_of
from ..page.scenes import SCENES

DIGITS = 6
"""Decimals of lengths in metres (a micrometre) and of rotations."""


def collect_editor_data(
    trajectory: CameraTrajectory,
    frames: Frames | None,
    scene: PointCloud | None,
    exo_images: Tensor | None,  # [T, H, W, 3]
    # The id by which a run knows the node (in a subgraph this isn't the page's own number).
    node: str = "",
) -> dict:
    """Describe frames, path and stored scene as JSON for the pose editor.

    ``path`` is upright w2c [T][3][4], ``exo_from_scene`` one pose or T poses. ``up`` is the
    scene's upward direction, which is nine times in ten right within ``up_within`` degrees.
    ``video`` is the mark of the video in use, if it is a file. ``guessed`` lists the frames
    whose pose is a guess."""
    frame_count = len(trajectory)
    used_frames = select_editor_frames(trajectory, frames, scene)
    video_frames = settle_frames(frames, Frames.of_count(0))
    editor_data = {
        "frames": frame_count,
        "indices": used_frames.indices.tolist(),
        "times_s": used_frames.times_s.tolist(),
        "prompt": notes_of(trajectory).prompt,
        "node": node,
        "note": notes_of(trajectory).placed,
        "source_frames": video_frames.total,
        "camera": trajectory.ego.camera.to_json(),
        "scene": None,
        "video": video_mark(video_frames.source),
        "guessed": []
        if trajectory.guessed is None
        else trajectory.guessed.nonzero()[:, 0].tolist(),
    }
    ego_path = trajectory.ego
    if scene is not None:
        try:
            ego_path = ego_in_scene(scene, trajectory)
        except (
            EgoXInputError
        ) as error:  # the renderer refuses such a path; here the page may still show the scene
            editor_data["note"] = str(error)
            ego_path = None
        editor_data["scene"] = describe_scene(scene, exo_images)
    editor_data["path"] = None if ego_path is None else round_poses(ego_path.upright_w2c)
    return editor_data


def select_editor_frames(
    trajectory: CameraTrajectory, frames: Frames | None, scene: PointCloud | None
) -> Frames:
    """Choose the frames that keyframe numbers refer to."""
    frame_count = len(trajectory)
    scene_covers = scene is not None and scene.frame_count >= frame_count
    known_frames = (
        scene.frames.from_zero().select(slice(frame_count))
        if scene_covers
        else Frames.of_count(frame_count)
    )
    return settle_frames(frames, known_frames)


def describe_scene(scene: PointCloud, exo_images: Tensor | None) -> dict:  # pictures [T, H, W, 3]
    """Describe the stored scene by its token and its exo camera."""
    stored_entry = SCENES.put(scene, exo_images)
    exo = scene.exo
    return {
        "token": stored_entry.token,
        "frames": scene.frame_count,
        "points": len(stored_entry.static),
        "frame": "exo" if exo.world == "exo" else "world",
        "pictures": stored_entry.images is not None,
        "whole": stored_entry.is_complete,
        "up": [round(v, 4) + 0.0 for v in stored_entry.up.direction.tolist()],
        "up_within": round(stored_entry.up.within_deg),
        "up_note": stored_entry.up.text(),
        "exo_from_scene": round_poses(exo.w2c if exo.moves else exo.w2c[:1]),
        "rest": round_poses(exo.upright.at(0)),
        "exo_camera": exo.camera.to_json(),
        "exo_size": list(exo.camera.stored_size),
        "lens_guessed": exo.lens_guessed,
        "notes": list(map(str, scene.notes)),
    }


def round_poses(poses: Tensor) -> list:  # [..., 3, 4]
    """Round poses to JSON numbers."""
    return poses.double().round(decimals=DIGITS).tolist()
