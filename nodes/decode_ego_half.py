"""Decode Ego Half: the sampled ego latent becomes the ego video; the exo half is never decoded."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..egox_core.cameras.model import rescale
from ..egox_core.cameras.presets import preset_camera
from ..egox_core.sizes import PIXELS_PER_LATENT
from ..egox_core.video.reproject import lens_circle, pinhole_camera, reproject
from ..egox_core.wan.canvas import ego_half
from .host.graph import values_behind
from .host.progress import host_progress
from .host.vae import decode_video
from .host.video import native_video
from .io_types import MADE_OF, EgoXDepth, EgoXTrajectory
from .page.editor_data import DEFAULT_PRESET
from .page.geometry import geometry_data
from .page.previews import Stream, clip_fps, preview_ui
from .search_words import searched


class EgoXDecodeEgoHalf(io.ComfyNode):
    """Latent to ego frames in the stored (upright) orientation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXDecodeEgoHalf",
            display_name="Decode Ego Half",
            category="EgoX/model",
            **searched("EgoXDecodeEgoHalf"),
            description="Decodes the ego video. A latent of the whole canvas is cropped to its ego half first.",
            inputs=[
                io.Latent.Input("latent", tooltip="The sampled ego latent, or one of the whole canvas."),
                io.Vae.Input("vae", tooltip="The Wan VAE that encoded the canvas."),
                EgoXTrajectory.Input("trajectory", optional=True,
                                     tooltip="The ego camera's lens, for the circle and the pinhole view. Wan EgoX "
                                             "Sampler sends it along with the latent; without either it is "
                                             "aria_released."),
                io.Float.Input("pinhole_fov", default=0.0, min=0.0, max=150.0, step=1.0,
                               tooltip="0: the model's own fisheye picture. 20 to 150: redrawn with "
                                       "straight lines, so many degrees across."),
                io.Image.Input("exo_images", optional=True,
                               tooltip="The exo video's frames, for the comparison shown on this node; without them "
                                       "those that the latent was made of. They change nothing in the result."),
                io.Image.Input("prior", optional=True,
                               tooltip="The ego prior, for the comparison shown on this node; without it the one that "
                                       "the latent was made of."),
                io.Image.Input("ground_truth", optional=True,
                               tooltip="The wearer's own video where there is one, for the comparison shown on this "
                                       "node."),
                EgoXDepth.Input("depth", optional=True,
                                tooltip="The exo video's depth. With trajectory and exo_images the node also shows "
                                        "which exo patches each ego pixel is led to."),
                io.Audio.Input("audio", optional=True, tooltip="The exo video's sound, for the output 'video'."),
            ],
            outputs=[
                io.Image.Output(display_name="ego", tooltip="The ego video's frames."),
                io.Mask.Output(display_name="circle", tooltip="1 inside the lens' circle (all 1 in a pinhole view)."),
                io.Video.Output(display_name="video", tooltip="The same frames as a video, for Save Video."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],  # for what the run was made with
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def execute(cls, latent, vae, pinhole_fov, trajectory=None, exo_images=None, prior=None,
                ground_truth=None, depth=None, audio=None) -> io.NodeOutput:
        samples, made_of = ego_half(latent["samples"]), latent.get(MADE_OF, {})
        trajectory, exo_images, prior, depth = (
            made_of.get(name) if linked is None else linked for name, linked in
            (("trajectory", trajectory), ("exo_images", exo_images), ("prior", prior), ("depth", depth)))
        height, width = (PIXELS_PER_LATENT * n for n in samples.shape[-2:])
        lens = preset_camera(DEFAULT_PRESET, height) if trajectory is None else trajectory.camera
        lens = rescale(lens, width, height)
        # Before decoding, since a wrong angle is refused.
        target = pinhole_camera(lens, pinhole_fov) if pinhole_fov else None

        frames = decode_video(vae, samples, made_of.get("tile_size", 0))
        circle = lens_circle(lens)
        if target is not None:
            frames = reproject(frames, lens, target, host_progress(len(frames)))
            circle = torch.ones_like(circle)
        mask = circle.float()[None].expand(len(frames), -1, -1)
        clips = (("exo", "exo", exo_images), ("prior", "prior", prior), ("ego", "ego", frames),
                 ("truth", "ground truth", ground_truth))
        streams = [Stream(name=name, label=label, frames=clip[..., :3]) for name, label, clip in clips
                   if clip is not None]
        text = f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}"
        fps = None if trajectory is None else clip_fps(trajectory.times_s)
        prompt, node = (cls.hidden.prompt, str(cls.hidden.unique_id)) if cls.hidden else ({}, "")
        # Redrawn pictures don't show the ego pixels that the model had.
        geometry = None
        if target is None:
            geometry = geometry_data(depth, trajectory, exo_images, width, prompt, node)
        return io.NodeOutput(frames, mask, native_video(frames, fps, audio),
                             ui=preview_ui("compare", streams, text=text, fps=fps, geometry=geometry,
                                           values=values_behind(prompt, node)))
