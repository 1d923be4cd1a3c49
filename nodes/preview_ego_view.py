"""Define the node Preview Ego View, which completes an ego prior without a model."""

from collections.abc import Iterable, Iterator

from comfy_api.latest import io
from torch import Tensor

from ..egox_core.errors import EgoXInputError
from ..egox_core.frame_store import store_frames
from ..egox_core.prior import (
    FILL_CHOICES,
    MAX_GAIN,
    SHADING_CHOICES,
    RoomGuess,
    iter_ego_preview,
    preview_note,
)
from .host.film import Film
from .host.graph import this_node
from .host.progress import host_progress
from .host.remember import PRIOR_SOURCES
from .host.truth import read_truth_beside
from .host.video import clip_fps, native_video
from .io_types import EgoXDepth, EgoXScene
from .search_words import node_schema
from .show import result_views


class EgoXPreviewEgoView(io.ComfyNode):
    """Fill the holes of an ego prior and shade it like the glasses' lens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXPreviewEgoView",
            display_name="Preview Ego View",
            category="EgoX/geometry",
            description=(
                "Makes a first-person video from the ego prior alone: fills its holes from what "
                "is around them and from a guess of the room, and shades it like the glasses' "
                "lens. It needs no model and no GPU."
            ),
            inputs=[
                io.Image.Input("prior", tooltip="The ego prior, from Render Ego Prior."),
                EgoXDepth.Input(
                    "depth",
                    tooltip=(
                        "The prior's depth with the ego camera, from Render Ego Prior. Pixels "
                        "without depth are filled."
                    ),
                ),
                io.Mask.Input(
                    "unobserved",
                    tooltip=(
                        "1 for each further pixel to fill: 'unobserved' of Render Ego Prior. They "
                        "stay marked as unobserved."
                    ),
                ),
                io.Combo.Input(
                    "shading",
                    options=list(SHADING_CHOICES),
                    default="auto",
                    tooltip=(
                        "on: darkens the rim and makes the round border black, as Aria glasses "
                        "do. off: leaves the brightness as it is. auto: on if a file or a choice "
                        "says that the lens is that of Aria glasses, otherwise off."
                    ),
                ),
                io.Float.Input(
                    "gain",
                    default=1.0,
                    min=0.1,
                    max=MAX_GAIN,
                    step=0.05,
                    tooltip="Brightness of the preview. 1 keeps that of the exo video.",
                ),
                io.Image.Input(
                    "exo_images",
                    optional=True,
                    tooltip="The frames of the exo video, for the player and the output 'film'.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The sound of the exo video, for the outputs 'video' and 'film'.",
                ),
                io.Combo.Input(
                    "fill",
                    options=list(FILL_CHOICES),
                    default=FILL_CHOICES[0],
                    optional=True,
                    tooltip=(
                        "What wide holes show. room: walls, floor and ceiling of an upright room "
                        "guessed from the scene. haze: the colours around the hole. Small holes "
                        "always take what is around them, and farther away first."
                    ),
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip=(
                        "The point cloud that the prior was rendered from, for fill 'room'. Only "
                        "needed if another node changed the prior's pictures in between."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="preview", tooltip="The frames of the preview."),
                io.Video.Output(
                    display_name="video", tooltip="The preview as a video, for Save Video."
                ),
                io.Video.Output(
                    display_name="film",
                    tooltip=(
                        "Exo video, prior, preview and, if known, the true ego video side by side, "
                        "for Save Video."
                    ),
                ),
            ],
            # For the true ego video beside the exo video.
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def execute(
        cls,
        prior,
        depth,
        unobserved,
        shading,
        gain,
        exo_images=None,
        audio=None,
        fill=FILL_CHOICES[0],
        scene=None,
    ) -> io.NodeOutput:
        if depth.depth_m.shape != unobserved.shape:
            raise EgoXInputError(
                "unobserved",
                got=f"shape {list(unobserved.shape)}",
                expected=f"{list(depth.depth_m.shape)}, as the prior's depth",
                fix="take prior, depth and unobserved from one Render Ego Prior",
            )
        ego, progress = depth.exo, host_progress(len(prior))
        sources = PRIOR_SOURCES.get(prior, {})
        scene = sources.get("scene", scene)
        room = RoomGuess(scene, ego) if fill == "room" else None
        depth_and_mask = zip(depth.depth_m, unobserved, strict=True)
        holes = store_frames(
            (~frame.isfinite() | (mask > 0.5).cpu() for frame, mask in depth_and_mask),
            len(unobserved),
        )
        drawn_frames = iter_ego_preview(
            prior,
            holes,
            ego.camera,
            depth_m=depth.depth_m,
            room=room,
            shading=shading,
            lens_guessed=ego.lens_guessed,
            gain=gain,
            progress=progress,
        )
        frames = store_frames(cls.shown_first(drawn_frames), len(prior))
        note_text = preview_note(
            holes, ego.camera, shading, gain, room=room, lens_guessed=ego.lens_guessed
        )
        fps = clip_fps(depth)
        graph, _ = this_node(cls)
        film = Film(
            lambda: {
                "exo": exo_images,
                "prior": prior,
                "preview": frames,
                "truth": read_truth_beside(graph, (frames.shape[1], frames.shape[2])),
            },
            fps,
            audio,
            lens_guessed=scene is not None and scene.exo.lens_guessed,
        )
        return io.NodeOutput(
            frames,
            native_video(frames, fps, audio),
            film,
            ui=result_views
            and result_views.preview(cls, film, note_text, depth, sources, progress),
        )

    @classmethod
    def shown_first(cls, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass frames on, and show the first at once."""
        for index, frame in enumerate(frames):
            _ = index == 0 and result_views and result_views.first_frame(cls, frame)
            yield frame
