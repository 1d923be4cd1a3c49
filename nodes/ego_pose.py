"""Define the node Ego Pose Input, which reads the ego camera's path from a file, keyframes or an
estimate."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..egox_core.cameras import CAMERA_PRESETS, preset_camera
from ..egox_core.errors import EgoXInputError
from ..egox_core.exchange import read_trajectory
from ..egox_core.facts import NOTHING_DECLARED, Declared
from ..egox_core.file_names import META
from ..egox_core.frames import Frames, settle_frames
from ..egox_core.safe_files import parse_json
from ..egox_core.scene import viewer_camera
from ..egox_core.sizes import REFERENCE_SIZE
from ..egox_core.stages import adapt_path, path
from ..egox_core.takes import check_same_take
from ..egox_core.trajectory import check_made_on, keyframe_track
from ..egox_core.types import FrameSelection
from ..egox_core.video import video_mark
from .host.graph import (
    Graph,
    check_or_message,
    exo_video,
    frames_in_use,
    inputs_of,
    is_only_target,
    linked_node_id,
    output_is_used,
    sidecar_missing,
    this_node,
)
from .host.paths import beside_video, file_fingerprint, list_files, resolve
from .host.remember import RENEWAL_COUNTS
from .io_types import (
    EgoXFrames,
    EgoXScene,
    EgoXTrajectory,
    TrajectoryWithNotes,
    notes_of,
)
from .pose_inputs import (
    AUTO,
    BESIDE,
    DEFAULT_PRESET,
    PROGRAM_FORMS,
    declared_input,
    every_nth_input,
    file_frames_input,
)
from .search_words import node_schema
from .show import result_views

KEYFRAMES_EXAMPLE = """[
  {"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0.5, 2]},
  {"time_s": 2, "position": [0.2, 0, 1], "look_at": [0, 0.5, 2]}
]"""

CAMERA_INFO = 2  # index among the outputs
UNTIED_CAMERA = (
    "camera_info begins at the exo camera of the poses' own file: connect scene where the viewer "
    "shows the scene of another one"
)


class EgoXEgoPoseInput(io.ComfyNode):
    """Read a trajectory of the ego camera, with the take's prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXEgoPoseInput",
            display_name="Ego Pose Input",
            category="EgoX/input",
            description=(
                "Sets the first-person camera for each frame, from a meta.json, a trajectory JSON, "
                "keyframes or an estimated path. Positions are metres in the take's world. If the "
                "take has no world, the exo camera is its origin (x right, y down, z forward)."
            ),
            inputs=[
                io.Combo.Input(
                    "source",
                    options=["file", "keyframes", "estimated"],
                    default="file",
                    tooltip=(
                        "Chooses the input that gives the poses. The inputs of the other sources "
                        "are ignored."
                    ),
                ),
                io.Combo.Input(
                    "file",
                    options=[
                        BESIDE,
                        *list_files(
                            (".json", ".txt", ".tum", ".csv", ".chan", ".npz", ".npy", "images.bin")
                        ),
                    ],
                    default=BESIDE,
                    tooltip=(
                        "Used with source 'file'. Choose the meta.json from the exo video's folder "
                        "(needs 'frames'), or a file in the input folder or the samples: meta.json "
                        "(one take or the released list), trajectory JSON, keyframe JSON, or the "
                        f"path of another program: {PROGRAM_FORMS}."
                    ),
                ),
                io.String.Input(
                    "entry",
                    default="",
                    advanced=True,
                    tooltip=(
                        "Used with source 'file'. The name or number of the take, if the file "
                        "contains several."
                    ),
                ),
                io.Combo.Input(
                    "camera",
                    options=[AUTO, *CAMERA_PRESETS],
                    default=AUTO,
                    advanced=True,
                    tooltip="The ego camera's lens. auto: the file's own, otherwise aria_released. "
                    + " ".join(
                        f"{name}: {preset.purpose}." for name, preset in CAMERA_PRESETS.items()
                    ),
                ),
                io.String.Input(
                    "keyframes",
                    default=KEYFRAMES_EXAMPLE,
                    multiline=True,
                    advanced=True,
                    tooltip=(
                        "Used with source 'keyframes'. A JSON list; each item has time_s or frame, "
                        "then position with look_at, position with yaw_deg, pitch_deg and "
                        "roll_deg, or w2c. A single item applies to the whole clip. If empty, the "
                        "head stays at the exo camera."
                    ),
                ),
                EgoXFrames.Input(
                    "frames",
                    optional=True,
                    tooltip=(
                        "From Load Exo Video. Poses are read for exactly these frames, by number "
                        "or time."
                    ),
                ),
                EgoXTrajectory.Input(
                    "base",
                    optional=True,
                    tooltip=(
                        "A trajectory that replaces 'source', for example to change its lens or to "
                        "read it at other frames."
                    ),
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip=(
                        "From Build Scene. Gives the exo camera's position if the poses don't come "
                        "from a file. The editor displays the scene."
                    ),
                ),
                io.Image.Input(
                    "exo_images",
                    optional=True,
                    tooltip=(
                        "The exo frames. If 'frames' is not connected, they set the number of "
                        "poses and the height of the ego video. The editor displays them."
                    ),
                ),
                EgoXTrajectory.Input(
                    "estimated",
                    optional=True,
                    tooltip=(
                        "Used with source 'estimated'. The path from Estimate Head Pose. The "
                        "editor opens with this path; any correction there turns it into "
                        "keyframes, which are used from then on."
                    ),
                ),
                every_nth_input("file"),
                file_frames_input("'file'"),
                declared_input("the poses of 'file'", "ego.unit=cm, ego.axes=opengl"),
            ],
            outputs=[
                EgoXTrajectory.Output(
                    display_name="trajectory", tooltip="The ego camera over time."
                ),
                io.String.Output(
                    display_name="prompt", tooltip="The take's prompt, if the file contains one."
                ),
                io.Load3DCamera.Output(
                    display_name="camera_info",
                    tooltip=(
                        "The ego camera of the first frame, for ComfyUI's 3-D viewers that show "
                        "the ply from Build Scene."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            # So that the pose editor can run this node alone to see the scene, without the rest of
            # the graph.
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        return check_or_message(cls, check_poses)  # names that are not in the list are judged there

    @classmethod
    def fingerprint_inputs(cls, source, file, **settings) -> str:
        # A page that asked for a scene which was dropped meanwhile has the node run again.
        renewals = RENEWAL_COUNTS[this_node(cls)[1]]
        file_digest = (
            file_fingerprint(file)
            if source == "file" and isinstance(file, str) and file != BESIDE
            else ""
        )
        return f"{file_digest}|{renewals}" if renewals else file_digest

    @classmethod
    def execute(
        cls,
        source,
        file,
        entry,
        camera,
        keyframes,
        frames=None,
        base=None,
        scene=None,
        exo_images=None,
        estimated=None,
        every_nth=0,
        file_frames="auto",
        declared="",
    ) -> io.NodeOutput:
        frame_count = None if scene is None else scene.frame_count
        picture_size = REFERENCE_SIZE
        if exo_images is not None:
            frame_count = len(exo_images)
            picture_size = exo_images.shape[1]
        used_frames = settle_frames(frames, Frames.of_count(0))
        shown = FrameSelection.of_picture(used_frames, (picture_size, picture_size))
        if source == "estimated" and base is None and estimated is None:
            raise missing_estimate_error()
        lens_given = None if camera == AUTO else camera
        ego_size = shown.size[1]
        made_path = estimated if base is None and source == "estimated" else base
        if made_path is not None:
            plain_trajectory, _ = adapt_path(
                made_path, frames=frames, camera=lens_given, ego_size=ego_size, scene=scene
            )
            notes = notes_of(made_path)
        else:
            declared_facts = NOTHING_DECLARED
            if source == "file":
                poses = find_trajectory_file(file, frames)
                declared_facts = Declared.of(declared)
            else:
                poses = parse_json(keyframes, "keyframes") if keyframes.strip() else []
                poses = poses if isinstance(poses, dict) else {"keyframes": poses}
            plain_trajectory, notes = path(
                poses,
                frames=frames,
                count=frame_count,
                camera=lens_given,
                ego_size=ego_size,
                entry=entry,
                scene=scene,
                every_nth=every_nth,
                file_frames=file_frames,
                declared=declared_facts,
            )
        has_untied_camera = scene is None and plain_trajectory.ego.world == "take"
        if has_untied_camera and output_is_used(*this_node(cls), CAMERA_INFO):
            notes = replace(notes, placed=f"{notes.placed}; {UNTIED_CAMERA}".removeprefix("; "))
        trajectory_fields: dict[str, Any] = vars(plain_trajectory) | {"notes": notes}
        trajectory = TrajectoryWithNotes(**trajectory_fields)
        ui = result_views and result_views.path(cls, trajectory, frames, scene, exo_images)
        return io.NodeOutput(trajectory, notes.prompt, viewer_camera(trajectory), ui=ui)


def check_poses(graph: Graph, node: str) -> None:
    """Check the chosen source of ego poses before a run starts.

    Raises:
        EgoXInputError: a file that is not there, without poses or of fewer than the frames in use,
            keyframes that can't be read, the untouched example, poses of another video, nothing
            estimated.
    """
    input_values = inputs_of(graph, node)
    source, file, keyframes = (input_values.get(name) for name in ("source", "file", "keyframes"))
    if linked_node_id(graph, node, "base") is not None:
        return
    if source == "file" and file == BESIDE:
        if sidecar_missing(graph, node, META):
            raise missing_poses_error()
    if source == "file" and isinstance(file, str):
        frames = frames_in_use(graph, node)
        file_entry = input_values.get("entry")
        if (file != BESIDE or Frames.video_of(frames)) and isinstance(file_entry, str):
            text, every_nth = (input_values.get(name) for name in ("declared", "every_nth"))
            declared_facts = NOTHING_DECLARED
            if isinstance(text, str):
                declared_facts = Declared.of(text, own=("ego.", "exo."))
            read_trajectory(
                find_trajectory_file(file, frames),
                preset_camera(DEFAULT_PRESET, REFERENCE_SIZE),
                frames,
                entry=file_entry,
                lens=input_values.get("camera") == AUTO,
                declared=declared_facts.with_arguments(
                    {
                        "ego.frames": input_values.get("file_frames") or "auto",
                        "ego.every_nth": every_nth if isinstance(every_nth, int) else 0,
                    }
                ),
            )
    elif source == "estimated" and linked_node_id(graph, node, "estimated") is None:
        raise missing_estimate_error()
    elif source == "keyframes" and keyframes == KEYFRAMES_EXAMPLE and not is_only_target(node):
        raise EgoXInputError(
            "ego poses",
            got="keyframes, and in them only the node's example",
            expected="a path of this video",
            fix=(
                "press 'Open pose editor' on Ego Pose Input, then 'Load scene', and make a path "
                "there"
            ),
        )
    elif source == "keyframes" and isinstance(keyframes, str) and keyframes.strip():
        keyframe_document = parse_json(keyframes, "keyframes")
        keyframe_track(keyframe_document, preset_camera(DEFAULT_PRESET, REFERENCE_SIZE))
        check_made_on(keyframe_document, video_mark(exo_video(graph, node)))


def missing_estimate_error() -> EgoXInputError:
    """Build the error for source "estimated" without a connected estimate."""
    return EgoXInputError(
        "ego poses",
        got="source estimated, and nothing connected to 'estimated'",
        expected="a trajectory",
        fix="connect Estimate Head Pose to 'estimated'; or set source to keyframes and "
        "press 'Open pose editor', then 'Load scene'",
    )


def missing_poses_error() -> EgoXInputError:
    """Build the error for a take without poses beside its video."""
    return EgoXInputError(
        "ego poses",
        got=f"no {META} next to the exo video",
        expected="a take's meta.json, or poses from a different source",
        fix=(
            "press 'Open pose editor' on Ego Pose Input, then 'Load scene', and make a path there; "
            "or press 'Upload own files' and add its meta.json; or connect 'frames' from Load Exo "
            "Video"
        ),
    )


def find_trajectory_file(file: str, frames: Frames | None) -> Path:
    """Find the trajectory file that the node's widget names.

    Raises:
        EgoXInputError: not there, outside the host's folders, or of another take than the frames.
    """
    if file != BESIDE:
        trajectory_path = resolve(file, "trajectory file")
        check_same_take("poses", trajectory_path, Frames.video_of(frames))
        return trajectory_path
    trajectory_path = beside_video(frames, META)
    if trajectory_path is None:
        raise missing_poses_error()
    return trajectory_path
