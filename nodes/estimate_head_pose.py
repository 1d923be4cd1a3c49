"""Define the node Estimate Head Pose, which estimates the ego camera's path from detections of the
wearer."""

import json
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..egox_core.cameras import CameraPath, preset_camera
from ..egox_core.depth import (
    GUESSED_FOV_DEG,
    fit_depth_size,
    fit_host_mask,
    guessed_camera,
)
from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import META
from ..egox_core.frames import Frames, settle_frames
from ..egox_core.hands import judged_hands
from ..egox_core.takes import exo_poses, meta_lens, read_meta, shown_take
from ..egox_core.trajectory import estimate_head, joined_points, keyframes_of_path
from ..egox_core.types import DepthVideo, FrameSelection
from .host.graph import Graph, check_or_message, frames_in_use, inputs_of, linked_node_id
from .host.paths import beside_video
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXFrames, EgoXHands, EgoXTrajectory
from .pose_inputs import DEFAULT_PRESET
from .search_words import node_schema
from .show import draw_head_path, result_views

PoseKeypoint = io.Custom("POSE_KEYPOINT")
MhrPoseData = io.Custom("MHR_POSE_DATA")  # of newer hosts
DETECTORS = {"pose_keypoints", "mhr_pose_data"}
LENS_GUESSED = (
    f"warning: nothing says what the exo camera is; {GUESSED_FOV_DEG:.0f} degrees across are "
    "assumed. Connect depth"
)


class EgoXEstimateHeadPose(io.ComfyNode):
    """Estimate the wearer's head path and hands from key points, depth and a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXEstimateHeadPose",
            display_name="Estimate Head Pose",
            category="EgoX/input",
            description=(
                "Estimates the wearer's camera for each frame from a detector's output. A rigid "
                "head of average size is fitted to all frames at once, which fills gaps and "
                "removes noise. One detector is enough. Depth sets the distance."
            ),
            inputs=[
                io.Image.Input(
                    "exo_images",
                    tooltip=(
                        "The frames of the exo video, from Load Exo Video. Must be the same frames "
                        "that the detectors were run on."
                    ),
                ),
                PoseKeypoint.Input(
                    "pose_keypoints",
                    optional=True,
                    tooltip=(
                        "From SDPose Keypoint Extractor, or any OpenPose keypoints. Eyes, ears, "
                        "nose, neck and shoulders are used."
                    ),
                ),
                MhrPoseData.Input(
                    "mhr_pose_data",
                    optional=True,
                    tooltip=(
                        "From SAM 3D Body (needs a recent ComfyUI). Gives points in metres, "
                        "including hidden ones. Set that node's field of view to the exo camera's. "
                        "Takes precedence over pose_keypoints."
                    ),
                ),
                EgoXDepth.Input(
                    "depth",
                    optional=True,
                    tooltip=(
                        "From Depth Align. Gives the distance to the head and the exo camera's "
                        "lens and pose. Without it, the distance is computed from the head's size."
                    ),
                ),
                io.Mask.Input(
                    "person_mask",
                    optional=True,
                    tooltip=(
                        "Mask of the wearer, for example a SAM3 track. Selects one person if "
                        "several are visible, and prevents the wall behind the head from being "
                        "measured as the head."
                    ),
                ),
                EgoXFrames.Input(
                    "frames",
                    optional=True,
                    tooltip=(
                        "From Load Exo Video. Gives the frames' times and numbers. Without depth, "
                        "it also gives the exo camera from the meta.json next to the video."
                    ),
                ),
                io.Int.Input(
                    "person",
                    default=-1,
                    min=-1,
                    max=100,
                    tooltip=(
                        "Number of the person who wears the camera, if several people are visible "
                        "and no mask is connected. Numbers start at 0 in the first frame that "
                        "shows enough people, as detected by the topmost connected detector. -1: "
                        "there is only one person."
                    ),
                ),
            ],
            outputs=[
                EgoXTrajectory.Output(
                    display_name="trajectory",
                    tooltip=(
                        "The ego camera for each frame, with guessed frames marked. Connect it to "
                        "'estimated' of Ego Pose Input, or use it as a trajectory."
                    ),
                ),
                io.String.Output(
                    display_name="keyframes",
                    tooltip="The same path reduced to a few keyframes, as JSON for Ego Pose Input.",
                ),
                io.Image.Output(
                    display_name="preview",
                    tooltip=(
                        "The exo frames with the head's axes and viewing direction drawn in. "
                        "Orange marks frames with a guessed direction."
                    ),
                ),
                io.String.Output(
                    display_name="report",
                    tooltip=(
                        "Text that lists which evidence was used for which frames, and where the "
                        "estimate is a guess."
                    ),
                ),
                EgoXHands.Output(
                    display_name="hands",
                    tooltip=(
                        "Both hands in metres, from mhr_pose_data, for Draw Hands. Hands that are "
                        "hidden, out of the picture or doubtful are marked as not valid."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def validate_inputs(cls, exo_images=None) -> bool | str:
        return check_or_message(cls, check_head_inputs)

    @classmethod
    def execute(
        cls,
        exo_images,
        person,
        pose_keypoints=None,
        mhr_pose_data=None,
        depth=None,
        person_mask=None,
        frames=None,
    ) -> io.NodeOutput:
        pictures = exo_images[..., :3].cpu()
        count, height, width = pictures.shape[:3]
        used_frames = check_frames(pictures, depth, frames)
        detections = {"POSE_KEYPOINT": pose_keypoints, "MHR_POSE_DATA": mhr_pose_data}
        points, mask, notes = find_wearer_points(
            detections, used_frames, (height, width), person, person_mask
        )
        if depth is None:
            exo_path, note = exo_without_depth(used_frames, (width, height))
            notes += (note,)
        else:
            depth, note = fit_depth_size(depth, width, height)
            notes += (note,) if note else ()
            exo_path = depth.exo
            mask = depth.dynamic if mask is None else mask
        depth_m = None if depth is None else depth.depth_m
        progress = host_progress(count)
        scene_evidence: dict[str, Any] = {"depth_m": depth_m, "mask": mask, "frames": used_frames}
        head_path = estimate_head(points, exo_path, **scene_evidence)
        hands, hands_note = judged_hands(points.hands, exo_path.camera, **scene_evidence)
        hands = replace(hands, frames=used_frames.without_sizes)
        ego_lens = preset_camera(DEFAULT_PRESET, height)
        report = head_path.report
        trajectory = head_path.trajectory(ego_lens, used_frames, exo=exo_path)
        trajectory = replace(trajectory, ego=replace(trajectory.ego, lens_guessed=True))
        keyframes, keyframes_note = keyframes_of_path(
            trajectory.ego.upright_w2c,
            used_frames,
            head_path.up.tolist(),
        )
        report_parts = (report.text(), *notes, *report.notes, keyframes_note, hands_note)
        report_text = "\n".join(str(part) for part in report_parts if part)
        head_poses, guessed_frames = head_path.world_from_head, report.guessed
        head_pictures, legend = draw_head_path(
            pictures, exo_path, head_poses, guessed_frames, progress
        )
        ui = result_views and result_views.head(
            trajectory, head_pictures, legend, report_text, exo_path.lens_guessed, progress
        )
        return io.NodeOutput(
            trajectory, json.dumps(keyframes), head_pictures, report_text, hands, ui=ui
        )


def find_wearer_points(
    # Points by the detector's payload.
    detections: dict[str, Any],
    # Of the pictures.
    frames: Frames,
    # Height and width.
    size: tuple[int, int],
    # -1 if there is only one.
    person: int,
    person_mask: torch.Tensor | None,
):
    """Find the wearer's key points in the detectors' outputs.

    Returns the points of the wearer's head, the mask in that size or None if it is empty, and
    notes.

    Returns:
        Points of the wearer's head, the mask in that size or None where it is empty, notes.

    Raises:
        EgoXInputError: points or masks that may be of other frames.
    """
    wearer_mask = None
    mask_notes = ()
    if person_mask is not None:
        wearer_mask, mask_notes = fit_host_mask(person_mask, frames, *size, "mask of the wearer")
    person_number = None if person < 0 else person
    points, notes = joined_points(detections, frames, person=person_number, mask=wearer_mask)
    notes += tuple(map(str, mask_notes))
    if person_mask is not None and wearer_mask is None:
        notes += ("the mask of the wearer is empty: not used",)
    return points, wearer_mask, notes


def check_head_inputs(graph: Graph, node: str) -> None:
    """Check the detectors' outputs and the exo camera before a run starts.

    Raises:
        EgoXInputError: no detector, a bad meta.json beside the video.
    """
    input_values = inputs_of(graph, node)
    if not input_values.keys() & DETECTORS:  # linked, or a value: the API allows it
        joined_points({}, Frames.of_count(0))  # refuses it
    if linked_node_id(graph, node, "depth") is None:
        frames = settle_frames(frames_in_use(graph, node), Frames.of_count(1))
        exo_without_depth(frames, (1, 1))


def exo_without_depth(frames: Frames, size: tuple[int, int]) -> tuple[CameraPath, str]:
    """Settle the exo camera when no depth gives one, with a note on its source."""
    meta_path = beside_video(frames, META)
    meta = None if meta_path is None else read_meta(meta_path)
    clip = FrameSelection.of_picture(frames, size)
    meta = meta and shown_take(meta, clip, meta.declared)
    if meta is None or meta.exo_camera is None:
        guess = guessed_camera(*size)
        return exo_poses(meta, frames, lens=guess, lens_guessed=True), LENS_GUESSED
    lens = clip.camera(meta_lens(meta, clip.source_size, clip).lens)
    return exo_poses(meta, frames, lens=lens), f"exo camera: {META} next to the video"


def check_frames(pictures: torch.Tensor, depth: DepthVideo | None, frames: Frames | None) -> Frames:
    """Check that depth, mask and key points belong to the same frames, and return those frames.

    Raises:
        EgoXInputError: another number of frames, other moments; depth that is not in metres.
    """
    picture_count = len(pictures)
    depth_frames = Frames.of_count(picture_count) if depth is None else depth.frames
    used_frames = settle_frames(frames, depth_frames)
    depth_maps = depth_frames if depth is None else depth.depth_m
    for name, entries in {"depth": depth_maps, "frames": used_frames}.items():
        if len(entries) != picture_count:
            raise EgoXInputError(
                name,
                got=f"{len(entries)} frames",
                expected=f"{picture_count}, as exo_images",
                fix="make all of the frames that one Load Exo Video gives",
            )
    if depth is not None:
        depth.check_metric("depth for the head")
        depth_frames.check_same(used_frames, "depth and frames")
    return used_frames
