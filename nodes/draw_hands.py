"""Define the node Draw Hands, which draws the wearer's hands into the ego view."""

from dataclasses import replace

import torch
from comfy_api.latest import io

from ..egox_core.errors import EgoXInputError
from ..egox_core.facts import Declared
from ..egox_core.file_names import HANDS, META
from ..egox_core.frames import Frames, settle_frames
from ..egox_core.hands import HandTrack, draw_hands, hands_in_use
from ..egox_core.remarks import facts_text
from ..egox_core.takes import read_meta
from ..egox_core.types import CameraTrajectory, DepthVideo
from .host.paths import beside_video
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXFrames, EgoXHands, EgoXTrajectory
from .pose_inputs import declared_input, file_frames_input
from .search_words import node_schema
from .show import result_views


class EgoXDrawHands(io.ComfyNode):
    """Draw the wearer's hands as the ego camera sees them, hidden behind nearer surfaces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXDrawHands",
            display_name="Draw Hands",
            category="EgoX/geometry",
            description=(
                "Draws both hands into the ego view, as shaded capsules along their bones. Hands "
                "that are not valid are left out."
            ),
            inputs=[
                EgoXTrajectory.Input(
                    "trajectory", tooltip="The ego camera over time, from Ego Pose Input."
                ),
                EgoXDepth.Input(
                    "depth",
                    optional=True,
                    tooltip=(
                        "The prior's depth, from Render Ego Prior. It hides hands that are behind "
                        "something, and sets the size of the picture."
                    ),
                ),
                EgoXHands.Input(
                    "hands",
                    optional=True,
                    tooltip=(
                        "The hands, from Estimate Head Pose. If nothing is connected, hands.json "
                        "in the folder of the exo video is used."
                    ),
                ),
                EgoXFrames.Input(
                    "frames",
                    optional=True,
                    tooltip=(
                        "The selected frames, from Load Exo Video. Required if no hands are "
                        "connected."
                    ),
                ),
                file_frames_input(HANDS),
                declared_input(HANDS, "hands.axes=opengl, hands.unit=cm"),
            ],
            outputs=[
                io.Image.Output(
                    display_name="picture",
                    tooltip="The hands on black, upright: the left one orange, the right one blue.",
                ),
                io.Mask.Output(display_name="mask", tooltip="1 for each pixel of a hand."),
                EgoXHands.Output(
                    display_name="hands",
                    tooltip="The hands that were drawn, also those read from hands.json.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, trajectory, depth=None, hands=None, frames=None, file_frames="auto", declared=""
    ) -> io.NodeOutput:
        declared_facts = Declared.of(declared, own=("hands.",))
        declared_facts = declared_facts.with_arguments({"hands.frames": file_frames})
        hand_track = read_hands_in_use(frames, declared_facts) if hands is None else hands
        ego_trajectory = trajectory if depth is None else use_depth_camera(trajectory, depth)
        depth_m = None if depth is None else depth.depth_m
        hand_report = "\n".join(
            [
                hand_track.text(),
                *map(str, ego_trajectory.other_hands(hand_track.frames)),
                facts_text(hand_track.facts),
            ]
        )
        hand_pictures, hand_mask = draw_hands(
            hand_track, ego_trajectory, depth_m, progress=host_progress(len(hand_track))
        )
        return io.NodeOutput(
            hand_pictures, hand_mask, hand_track, ui=result_views and result_views.note(hand_report)
        )


def read_hands_in_use(frames: Frames | None, declared: Declared) -> HandTrack:
    """Read the wearer's hands from hands.json beside the exo video, for the frames in use.

    Raises:
        EgoXInputError: no such file, a bad one, fewer frames.
    """
    used_frames = settle_frames(frames, Frames.of_count(0))
    hands_file = beside_video(used_frames, HANDS)
    if hands_file is None:
        raise EgoXInputError(
            "hands",
            got=f"neither hands nor {HANDS} next to the exo video",
            expected="one of them",
            fix="connect 'hands' from Estimate Head Pose, or 'frames' from Load Exo Video with "
            f"{HANDS} in the video's folder",
        )
    meta_file = beside_video(used_frames, META)
    if meta_file is not None:
        meta = read_meta(meta_file, video=used_frames.source)
        declared = declared.over(meta.declared)
    return hands_in_use(hands_file, used_frames, declared)


def use_depth_camera(trajectory: CameraTrajectory, depth: DepthVideo) -> CameraTrajectory:
    """Replace the path's ego camera by the camera of the prior's depth.

    Raises:
        EgoXInputError: depth of another camera, such as exo's.
    """
    ego_path = trajectory.ego
    depth_poses = depth.exo.w2c
    ego_poses = (
        [ego_path.w2c]
        if trajectory.exo is None
        else [ego_path.w2c, ego_path.seen_from(trajectory.exo)]
    )
    if not any(
        depth_poses.shape == w2c.shape and torch.allclose(depth_poses, w2c) for w2c in ego_poses
    ):
        raise EgoXInputError(
            "depth of the ego view",
            got="depth of another camera",
            expected="the prior's, drawn from this trajectory",
            fix="connect 'depth' of Render Ego Prior",
        )
    return replace(trajectory, ego=replace(ego_path, lens=depth.exo.camera))
