"""Define the node Decode Ego Half, which decodes the sampled ego latent to the ego video."""

import torch
from comfy_api.latest import io

from ..egox_core.cameras import preset_camera
from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import TRUTH
from ..egox_core.sizes import PIXELS_PER_LATENT
from ..egox_core.video import reproject
from ..egox_core.wan import ego_half
from .host.film import Film
from .host.graph import this_node
from .host.progress import host_progress
from .host.remember import RENEWAL_COUNTS
from .host.truth import read_truth_beside
from .host.vae import decode_video
from .host.video import clip_fps, native_video
from .io_types import LATENT_SOURCES, EgoXDepth, EgoXScene, EgoXTrajectory
from .observed import compare_with_prior
from .pose_inputs import DEFAULT_PRESET
from .search_words import node_schema
from .show import result_views
from .view import (
    Colours,
    StraightView,
    apply_turn,
    colour_input,
    measure_turn,
    shown_path_output,
    straighten_input,
)


def one_video(samples: torch.Tensor) -> torch.Tensor:  # [1, 16, t, h, w]
    """Refuse a batch of latents, whose videos would be joined and compared as if they were one.

    Raises:
        EgoXInputError: more than one.
    """
    if len(samples) != 1:
        raise EgoXInputError(
            "latent to decode",
            got=f"a batch of {len(samples)} latents",
            expected="one, of one ego video",
            fix="put Latent From Batch before this node, with batch_index 0, 1 and so on",
        )
    return samples


class EgoXDecodeEgoHalf(io.ComfyNode):
    """Decode a latent to ego frames in their stored (upright) orientation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXDecodeEgoHalf",
            display_name="Decode Ego Half",
            category="EgoX/model",
            description=(
                "Decodes the ego video. A latent of the whole canvas is first cropped to its ego "
                "half."
            ),
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="The sampled latent: the ego half or the whole canvas."
                ),
                io.Vae.Input("vae", tooltip="The Wan VAE that the canvas was encoded with."),
                EgoXTrajectory.Input(
                    "trajectory",
                    optional=True,
                    tooltip=(
                        "The ego camera, whose lens is needed for the circle and the pinhole view. "
                        "If unconnected, the one that came with the latent is used, otherwise "
                        "aria_released."
                    ),
                ),
                io.Float.Input(
                    "pinhole_fov",
                    default=0.0,
                    min=0.0,
                    max=150.0,
                    step=1.0,
                    tooltip=(
                        "0 keeps the model's fisheye image. 20 to 150 converts it to a view with "
                        "straight lines and this field of view in degrees."
                    ),
                ),
                io.Image.Input(
                    "exo_images",
                    optional=True,
                    tooltip=(
                        "The frames of the exo video, for the comparison on this node. If "
                        "unconnected, those that the latent was made from are shown. The ego video "
                        "doesn't depend on them."
                    ),
                ),
                io.Image.Input(
                    "prior",
                    optional=True,
                    tooltip=(
                        "The ego prior, for the comparison on this node. If unconnected, the one "
                        "that the latent was made from is shown."
                    ),
                ),
                io.Image.Input(
                    "ground_truth",
                    optional=True,
                    tooltip=(
                        "The real ego video, if there is one, for the comparison on this node. If "
                        "unconnected, ego_ground_truth.mp4 next to the exo video is used."
                    ),
                ),
                EgoXDepth.Input(
                    "depth",
                    optional=True,
                    tooltip=(
                        "The depth of the exo video. With trajectory and exo_images, the node also "
                        "shows which exo patches each ego pixel attends to."
                    ),
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The sound of the exo video, for the output 'video'.",
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip=(
                        "The scene that the prior was rendered from. Used to measure how far the "
                        "generated view deviates from the requested camera path. Connect it only "
                        "if the prior was edited after rendering; otherwise it comes with the "
                        "latent."
                    ),
                ),
                io.Float.Input(
                    "keep_observed",
                    display_name="keep observed",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip=(
                        "Puts the prior's own pixels back where exo observed them and the model "
                        "shows the same thing. 0: the model's picture alone. 1: all of them, which "
                        "makes outlines sharp. Colours of large areas stay the model's."
                    ),
                ),
                straighten_input(),
                colour_input(),
            ],
            outputs=[
                io.Image.Output(display_name="ego", tooltip="The frames of the ego video."),
                io.Mask.Output(
                    display_name="circle",
                    tooltip="1 inside the lens circle; 1 everywhere in a pinhole view.",
                ),
                io.Video.Output(
                    display_name="video", tooltip="The ego video with sound, for Save Video."
                ),
                io.Video.Output(
                    display_name="film",
                    tooltip=(
                        "Exo video, prior, ego video and, if known, the true ego video side by "
                        "side, for Save Video."
                    ),
                ),
                shown_path_output(),
            ],
            # For what the run was made with, and the graph of the run before.
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> str:
        """Compute a value that changes when a true ego video is added, so that ComfyUI runs the
        node again.

        Which video is compared is unknown here, since ComfyUI passes no graph.
        """
        return str(RENEWAL_COUNTS[TRUTH] or "")

    @classmethod
    def execute(
        cls,
        latent,
        vae,
        pinhole_fov,
        trajectory=None,
        exo_images=None,
        prior=None,
        ground_truth=None,
        depth=None,
        audio=None,
        scene=None,
        keep_observed=0.0,
        straighten="off",
        colour="as drawn",
    ) -> io.NodeOutput:
        latent_sources = latent.get(LATENT_SOURCES, {})
        connected_inputs = {
            "trajectory": trajectory,
            "exo_images": exo_images,
            "prior": prior,
            "depth": depth,
            "scene": scene,
        }
        sources = latent_sources | {
            name: value for name, value in connected_inputs.items() if value is not None
        }
        samples = one_video(ego_half(latent["samples"]))
        trajectory = sources.get("trajectory")
        height, width = (PIXELS_PER_LATENT * latent_side for latent_side in samples.shape[-2:])
        lens = (
            preset_camera(DEFAULT_PRESET, height) if trajectory is None else trajectory.ego.camera
        )
        lens = lens.rescale(width, height)
        # Before decoding, since a wrong angle is refused.
        pinhole_camera = lens.as_pinhole(pinhole_fov) if pinhole_fov else None
        colours = Colours(colour, sources)
        decoded_frames = decode_video(vae, samples, sources.get("tile_size", 0))
        view = StraightView(frames=decoded_frames, path=trajectory)
        if straighten != "off":
            known = (sources.get(name) for name in ("depth", "exo_images", "scene"))
            turn = measure_turn(decoded_frames, trajectory, *known)
            view = apply_turn(decoded_frames, straighten, lens, trajectory, turn)

        frames = shown_frames = colours(view.frames)
        lens_circle = lens.circle()
        observed_video = None
        if bool(result_views) or keep_observed:
            observed_video = compare_with_prior(
                latent_sources.get("prior"),
                latent_sources.get("seen"),
                shown_frames,
                keep_observed,
                view.filled,
            )
            frames = shown_frames if observed_video is None else observed_video.frames
        if pinhole_camera is not None:
            if straighten == "picture":
                put_back = frames - shown_frames if keep_observed else None
                view = view.seen_by(pinhole_camera, lens, decoded_frames, colours, put_back)
                frames = view.frames
            else:
                frames = reproject(frames, lens, pinhole_camera, host_progress(len(frames)))
            lens_circle = torch.ones_like(lens_circle)
        view.note_on(frames)
        graph, _ = this_node(cls)
        depth = sources.get("depth")

        def find_truth() -> torch.Tensor | None:
            if ground_truth is not None or pinhole_camera is not None:
                return ground_truth
            return read_truth_beside(graph, (frames.shape[1], frames.shape[2]))

        film = Film(
            lambda: {
                "exo": sources.get("exo_images"),
                "prior": sources.get("prior"),
                "ego": frames,
                "truth": find_truth(),
            },
            clip_fps(trajectory),
            audio,
            lens_guessed=depth is not None and depth.exo.lens_guessed,
        )
        return io.NodeOutput(
            frames,
            lens_circle.float()[None].expand(len(frames), -1, -1),
            native_video(frames, clip_fps(trajectory), audio),
            film,
            view.path,
            ui=result_views
            and result_views.ego(
                cls,
                film,
                shown_frames,
                sources,
                observed_video,
                lens,
                pinhole_camera,
                [words for words in (view.words, colours.words) if words],
            ),
        )
