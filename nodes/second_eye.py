"""Define the node Second Eye, which makes a stereo video from an ego video."""

import logging
from pathlib import Path

from comfy_api.latest import InputImpl, io

from ..egox_core.arrays import as_floats, as_frames
from ..egox_core.frame_store import store_frames
from ..egox_core.stereo import StereoForm, mark_stereo, second_eye, stereo_pictures
from .host.progress import host_progress
from .host.video import clip_fps, native_video
from .io_types import EgoXScene, EgoXTrajectory
from .search_words import node_schema
from .show import result_views

HALF_SPHERE_NAME = "_180_LR"
"""Part of a file's name by which players know half a sphere."""


class StereoVideo(InputImpl.VideoFromComponents):
    """Save a video that is marked as stereo, with both eyes side by side."""

    def __init__(self, video: InputImpl.VideoFromComponents, half_sphere: bool) -> None:
        super().__init__(video.get_components())
        self._half_sphere = half_sphere

    def save_to(self, path, *args, **options) -> None:
        """Save the video as ComfyUI does, and mark the file as stereo."""
        super().save_to(path, *args, **options)
        if not isinstance(path, (str, Path)):
            return
        mark_stereo(Path(path), half_sphere=self._half_sphere)
        if not self._half_sphere and HALF_SPHERE_NAME in Path(path).name:
            # The page renames it with the layout. A prompt from elsewhere may have left it.
            logging.warning(
                "[EgoX] %s is a flat film, but players take %s for half a sphere: give Save Video "
                "a name with _LR alone.",
                Path(path).name,
                HALF_SPHERE_NAME,
            )


class EgoXSecondEye(io.ComfyNode):
    """Make the right eye's view from the left one, and put both side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXSecondEye",
            display_name="Second Eye",
            category="EgoX/geometry",
            description=(
                "Makes the right eye of an ego video from the depth of its scene, and puts both "
                "eyes side by side for a headset."
            ),
            inputs=[
                io.Image.Input("ego", tooltip="The frames of the ego video: the left eye."),
                EgoXScene.Input("scene", tooltip="The scene that the prior was rendered from."),
                EgoXTrajectory.Input(
                    "trajectory",
                    tooltip="The path and lens of the ego camera that the prior was rendered with.",
                ),
                io.Combo.Input(
                    "layout",
                    options=["VR180", "flat"],
                    default="VR180",
                    tooltip=(
                        "VR180: a half sphere around the viewer, at the true size of the world. "
                        "flat: a 3D screen, 90 degrees wide."
                    ),
                ),
                io.Combo.Input(
                    "stabilise",
                    options=["full", "horizon", "off", "upright"],
                    default="full",
                    tooltip=(
                        "Only for VR180. upright: keeps the world still and level; looking "
                        "straight ahead in the headset shows the horizon. full: keeps the world "
                        "still, tilted as the wearer's head was on average. horizon: only keeps "
                        "the horizon from rolling. off: keeps all motion of the wearer's head."
                    ),
                ),
                io.Int.Input(
                    "eye_px",
                    default=1024,
                    min=64,
                    max=2048,
                    step=2,
                    tooltip=(
                        "Side of each eye's picture in pixels. The video of the model itself has "
                        "about 700 px for 180 degrees."
                    ),
                ),
                io.Float.Input(
                    "eye_distance_mm",
                    default=63.0,
                    min=1.0,
                    max=200.0,
                    step=0.5,
                    tooltip=(
                        "Distance between the viewer's eyes in millimetres. A larger distance "
                        "makes the world look smaller."
                    ),
                ),
                io.Float.Input(
                    "screen_m",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip=(
                        "Only for flat: things at this distance in metres appear on the screen, "
                        "nearer things in front of it. 0: everything is in front of the screen."
                    ),
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound for the output 'video'."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="both", tooltip="Both eyes side by side, the left eye first."
                ),
                io.Video.Output(
                    display_name="video",
                    tooltip=(
                        "The same as a video, for Save Video. The file then tells a headset how to "
                        "show it. Its name should contain _180_LR, or _LR for flat: the page "
                        "changes that of Save Video with the layout."
                    ),
                ),
                io.Image.Output(
                    display_name="right",
                    tooltip="The right eye alone, in the lens and size of the ego video.",
                ),
            ],
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def execute(
        cls,
        ego,
        scene,
        trajectory,
        layout,
        stabilise,
        eye_px,
        eye_distance_mm,
        screen_m,
        audio=None,
    ) -> io.NodeOutput:
        ego, progress = as_floats(as_frames(ego, "ego frames")), host_progress(len(ego))
        form = StereoForm(
            layout=layout,
            stabilise=stabilise,
            eye_px=eye_px,
            eyes_m=eye_distance_mm / 1000,
            screen_m=screen_m,
        )
        right_eye = second_eye(ego, scene, trajectory, form, progress=progress)
        eye_pairs = stereo_pictures(
            ego, right_eye.rgb, trajectory, form, up=right_eye.up, progress=progress
        )
        stereo_frames = store_frames(eye_pairs, len(ego))
        video = native_video(stereo_frames, clip_fps(trajectory), audio)
        return io.NodeOutput(
            stereo_frames,
            StereoVideo(video, half_sphere=layout == "VR180"),
            right_eye.rgb,
            ui=result_views
            and result_views.eyes(
                ego,
                right_eye.rgb,
                "\n".join(filter(None, (right_eye.text(), form.word(right_eye.up)))),
                trajectory,
                progress,
            ),
        )
