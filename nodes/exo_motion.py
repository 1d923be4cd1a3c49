"""Define the node Exo Camera Motion, which estimates the poses of a handheld exo camera."""

from dataclasses import replace
from typing import get_args

from comfy_api.latest import io

from ..egox_core.arrays import as_frames
from ..egox_core.depth import with_host_masks
from ..egox_core.exchange import CameraFile
from ..egox_core.facts import Declared
from ..egox_core.scene import estimate_exo_motion
from ..egox_core.types import Motion
from .host.paths import file_fingerprint, resolve
from .host.progress import host_progress
from .io_types import EgoXDepth
from .pose_inputs import PROGRAM_FORMS, declared_input, every_nth_input, file_frames_input
from .search_words import node_schema
from .show import result_views

CameraTrack = io.Custom("CAMERA_TRACK")
OmniCamScene = io.Custom("OMNICAM_MOTION_SCENE")


class EgoXExoMotion(io.ComfyNode):
    """Add a camera pose per frame to the depth of an exo video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXExoMotion",
            display_name="Exo Camera Motion",
            category="EgoX/geometry",
            description=(
                "Estimates how a handheld exo camera moved, in metres, and corrects the depth maps "
                "so that they agree over time. Place it after Depth Align. The depth of a static "
                "camera passes through unchanged."
            ),
            inputs=[
                io.Image.Input(
                    "exo_images", tooltip="The frames of the exo video, from Load Exo Video."
                ),
                EgoXDepth.Input(
                    "depth", tooltip=("The depth of the exo video in metres, from Depth Align.")
                ),
                io.Combo.Input(
                    "motion",
                    options=list(get_args(Motion)),
                    default="auto",
                    tooltip=(
                        "Motion of the exo camera. auto: detected from the video. stands: static, "
                        "on a tripod. turns: rotates in place, as in a pan. moves: carried around."
                    ),
                ),
                io.Mask.Input(
                    "dynamic_mask",
                    optional=True,
                    tooltip=(
                        "Mask of everything that moves, for example a SAM3 track. Masked points "
                        "are ignored. Useful if people fill the frame. Replaces the depth's own "
                        "mask."
                    ),
                ),
                io.String.Input(
                    "poses_file",
                    default="",
                    advanced=True,
                    tooltip=(
                        "File with the camera path from another program, used instead of an "
                        f"estimate: meta.json, trajectory JSON, {PROGRAM_FORMS}. The path is "
                        "checked against the frames and the depth. If it isn't in metres, the "
                        "depth sets its scale."
                    ),
                ),
                CameraTrack.Input(
                    "camera_track",
                    optional=True,
                    tooltip="Camera path from a MotionCapture node, used instead of an estimate.",
                ),
                OmniCamScene.Input(
                    "motion_scene",
                    optional=True,
                    tooltip="Camera path from OmniCam's Extractor, used instead of an estimate.",
                ),
                every_nth_input("poses_file"),
                file_frames_input("'poses_file'"),
                declared_input("the poses of 'poses_file'", "exo.axes=opengl, exo.unit=cm"),
            ],
            outputs=[
                EgoXDepth.Output(
                    display_name="depth",
                    tooltip=(
                        "The depth with the exo camera's pose for each frame. Use it wherever a "
                        "depth is needed."
                    ),
                ),
                io.String.Output(
                    display_name="report",
                    tooltip=(
                        "Text that describes the camera's motion, how reliable the estimate is, "
                        "and what to do next."
                    ),
                ),
            ],
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def fingerprint_inputs(cls, poses_file="", **others) -> str:
        """Compute a digest of the camera pose file, so that ComfyUI runs the node again after it
        changed."""
        return file_fingerprint(poses_file) if isinstance(poses_file, str) and poses_file else ""

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
        file_frames="auto",
        declared="",
    ) -> io.NodeOutput:
        frames = as_frames(exo_images, "exo frames").cpu()
        progress = host_progress()
        depth, mask_notes = with_host_masks(depth, dynamic=dynamic_mask)
        camera_file = None
        if poses_file.strip():
            camera_file = CameraFile.read(resolve(poses_file, "poses file"))
        for name, value in (("camera_track", camera_track), ("motion_scene", motion_scene)):
            if value is not None:
                camera_file = CameraFile.parse(value, name)
        given_path, placement_note = None, ""
        declared_facts = Declared.of(declared, own=("exo.",)).with_arguments(
            {"exo.every_nth": every_nth, "exo.frames": file_frames}
        )
        if camera_file is not None:
            camera_file = camera_file.settled(declared_facts, "exo")
            depth = replace(depth, facts=(*depth.facts, *camera_file.rows))
            given_path, placement_note = camera_file.for_depth(depth)
        declared_facts.argument.check_applied(depth.facts, "these poses")
        depth, motion_found = estimate_exo_motion(
            frames, depth, motion, given_path, progress=progress
        )
        report_text = "\n".join(
            filter(None, (motion_found.text(), placement_note, *map(str, mask_notes)))
        )
        ui = result_views and result_views.motion(
            frames, depth, motion_found.sightings, report_text, progress
        )
        return io.NodeOutput(depth, report_text, ui=ui)
