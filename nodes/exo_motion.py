"""Exo Camera Motion: the poses of an exo camera in the hand, from its frames and their depth."""

from pathlib import Path
from typing import get_args

from comfy_api.latest import io

from ..egox_core.depth import with_host_masks
from ..egox_core.exchange import parse_exo_path, read_exo_path
from ..egox_core.scene import Motion, estimate_exo_motion
from .host.paths import fingerprint, resolve
from .host.progress import host_progress
from .io_types import EgoXDepth
from .pose_inputs import every_nth_input
from .search_words import node_schema
from .show import shown

CameraTrack = io.Custom("CAMERA_TRACK")
OmniCamScene = io.Custom("OMNICAM_MOTION_SCENE")


class EgoXExoMotion(io.ComfyNode):
    """Frames and depth in, depth with a pose per frame out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXExoMotion",
            display_name="Exo Camera Motion",
            category="EgoX/geometry",
            description="For an exo video from the hand: finds where the camera was in each frame, in metres, and "
            "mends the depth maps so that they agree. Goes between Depth Align and what uses the depth. Depth of "
            "a camera that stands passes unchanged.",
            inputs=[
                io.Image.Input(
                    "exo_images", tooltip="The exo video's frames, from Load Exo Video."
                ),
                EgoXDepth.Input("depth", tooltip="Their depth in metres, from Depth Align."),
                io.Combo.Input(
                    "motion",
                    options=list(get_args(Motion)),
                    default="auto",
                    tooltip="How the exo camera moves. auto: found out. stands: on a tripod. turns: on "
                    "the spot, as in a pan. moves: carried about.",
                ),
                io.Mask.Input(
                    "dynamic_mask",
                    optional=True,
                    tooltip="Mask of all that moves, for example a SAM3 track: points on it don't count. Helps where "
                    "people fill the picture. Overrides the depth's own mask.",
                ),
                io.String.Input(
                    "poses_file",
                    default="",
                    advanced=True,
                    tooltip="The path from another program, in place of an estimate: COLMAP's images.txt "
                    "(cameras.txt beside it), an npz of ViPE or GVHMR, meta.json, transforms.json, TUM "
                    "text, Nuke .chan. It is checked against pictures and depth, and scaled by the "
                    "depth where it isn't in metres.",
                ),
                CameraTrack.Input(
                    "camera_track",
                    optional=True,
                    tooltip="The path from a MotionCapture node, in place of an estimate.",
                ),
                OmniCamScene.Input(
                    "motion_scene",
                    optional=True,
                    tooltip="The path from OmniCam's Extractor, in place of an estimate.",
                ),
                every_nth_input("poses_file"),
            ],
            outputs=[
                EgoXDepth.Output(
                    display_name="depth",
                    tooltip="The depth with the exo camera's pose in each frame, for all that "
                    "takes a depth.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="How the camera moves, how well that is known, and what to do.",
                ),
            ],
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def fingerprint_inputs(cls, poses_file="", **others) -> str:
        """A file that changed on disk makes the node run again."""
        return fingerprint(poses_file) if isinstance(poses_file, str) and poses_file else ""

    @classmethod
    def execute(
        cls,
        exo_images,
        depth,
        motion,
        poses_file="",
        dynamic_mask=None,
        camera_track=None,
        motion_scene=None,
        every_nth=0,
    ) -> io.NodeOutput:
        frames, progress = exo_images[..., :3].cpu(), host_progress()
        if dynamic_mask is not None:
            depth = with_host_masks(depth, dynamic=dynamic_mask, sky=None)
        path = None
        if poses_file.strip():
            path = read_exo_path(resolve(poses_file, "poses file"))
        for name, value in (("camera_track", camera_track), ("motion_scene", motion_scene)):
            if value is not None:
                path = parse_exo_path(value, Path(name))
        given, placed = (None, "") if path is None else path.of(depth, every_nth)
        metric = path is None or path.metric
        depth, found = estimate_exo_motion(frames, depth, motion, given, metric, progress=progress)
        text = "\n".join(filter(None, (found.text(), placed)))
        ui = shown and shown.motion(frames, depth, found.sightings, text, progress)
        return io.NodeOutput(depth, text, ui=ui)
