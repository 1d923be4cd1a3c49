"""Decode Ego Half: the sampled ego latent becomes the ego video; the exo half is never decoded."""

import torch
from comfy_api.latest import io

from ..egox_core.cameras import preset_camera
from ..egox_core.errors import EgoXInputError
from ..egox_core.metrics import PSNR_CAP_DB, PathError, PathViews, path_error, path_views
from ..egox_core.sizes import PIXELS_PER_LATENT
from ..egox_core.types import CameraTrajectory, PointCloud
from ..egox_core.video import lens_circle, pinhole_camera, reproject
from ..egox_core.wan import ego_half
from .host.graph import this_node, upstream_values
from .host.progress import host_progress
from .host.remember import remembered
from .host.vae import decode_video
from .host.video import native_video, truth_beside
from .io_types import MADE_OF, EgoXDepth, EgoXScene, EgoXTrajectory
from .page.editor_data import DEFAULT_PRESET
from .page.geometry import geometry_data
from .page.previews import Stream, clip_fps, preview_ui
from .search_words import node_schema

_last_psnr: dict[str, tuple[torch.Size, float, float]] = {}
"""Node id -> shape and mean of the truth that its last run was compared with, and the PSNR, dB."""


class EgoXDecodeEgoHalf(io.ComfyNode):
    """Latent to ego frames in the stored (upright) orientation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXDecodeEgoHalf",
            display_name="Decode Ego Half",
            category="EgoX/model",
            description="Decodes the ego video. A latent of the whole canvas is cropped to its ego half first.",
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="The sampled ego latent, or one of the whole canvas."
                ),
                io.Vae.Input("vae", tooltip="The Wan VAE that encoded the canvas."),
                EgoXTrajectory.Input(
                    "trajectory",
                    optional=True,
                    tooltip="The ego camera's lens, for the circle and the pinhole view. Without it the "
                    "one that came along with the latent, else aria_released.",
                ),
                io.Float.Input(
                    "pinhole_fov",
                    default=0.0,
                    min=0.0,
                    max=150.0,
                    step=1.0,
                    tooltip="0: the model's own fisheye picture. 20 to 150: redrawn with "
                    "straight lines, so many degrees across.",
                ),
                io.Image.Input(
                    "exo_images",
                    optional=True,
                    tooltip="The exo video's frames, for the comparison shown on this node; without them "
                    "those that the latent was made of. They change nothing in the result.",
                ),
                io.Image.Input(
                    "prior",
                    optional=True,
                    tooltip="The ego prior, for the comparison shown on this node; without it the one that "
                    "the latent was made of.",
                ),
                io.Image.Input(
                    "ground_truth",
                    optional=True,
                    tooltip="The wearer's own video where there is one, for the comparison shown on this "
                    "node; without it ego_ground_truth.mp4 beside the exo video.",
                ),
                EgoXDepth.Input(
                    "depth",
                    optional=True,
                    tooltip="The exo video's depth. With trajectory and exo_images the node also shows "
                    "which exo patches each ego pixel is led to.",
                ),
                io.Audio.Input(
                    "audio", optional=True, tooltip="The exo video's sound, for the output 'video'."
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip="The scene that the prior was rendered from: how far the view is off the "
                    "ordered path is measured against it. Without it the one that came along with "
                    "the latent; only a prior that was changed on its way needs it here.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="ego", tooltip="The ego video's frames."),
                io.Mask.Output(
                    display_name="circle",
                    tooltip="1 inside the lens' circle (all 1 in a pinhole view).",
                ),
                io.Video.Output(
                    display_name="video", tooltip="The same frames as a video, for Save Video."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],  # for what the run was made with
            has_intermediate_output=True,  # a cached run shows its preview again
        )

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
    ) -> io.NodeOutput:
        samples, made_of = ego_half(latent["samples"]), latent.get(MADE_OF, {})
        trajectory, exo_images, prior, depth, scene = (
            made_of.get(name) if linked is None else linked
            for name, linked in (
                ("trajectory", trajectory),
                ("exo_images", exo_images),
                ("prior", prior),
                ("depth", depth),
                ("scene", scene),
            )
        )
        height, width = (PIXELS_PER_LATENT * n for n in samples.shape[-2:])
        lens = preset_camera(DEFAULT_PRESET, height) if trajectory is None else trajectory.camera
        lens = lens.rescale(width, height)
        # Before decoding, since a wrong angle is refused.
        target = pinhole_camera(lens, pinhole_fov) if pinhole_fov else None

        frames = decode_video(vae, samples, made_of.get("tile_size", 0))
        followed = followed_path(frames, scene, trajectory)
        circle = lens_circle(lens)
        if target is not None:
            frames = reproject(frames, lens, target, host_progress(len(frames)))
            circle = torch.ones_like(circle)
        mask = circle.float()[None].expand(len(frames), -1, -1)
        prompt, node = this_node(cls)
        if ground_truth is None and target is None:
            ground_truth = truth_beside(prompt, (frames.shape[1], frames.shape[2]))
        clips = (
            ("exo", "exo", exo_images),
            ("prior", "prior", prior),
            ("ego", "ego", frames),
            ("truth", "ground truth", ground_truth),
        )
        streams = [
            Stream(name=name, label=label, frames=clip[..., :3])
            for name, label, clip in clips
            if clip is not None
        ]
        measure = None
        lines = [f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}"]
        fps = None if trajectory is None else clip_fps(trajectory.times_s)
        curve = None
        if isinstance(followed, str):
            lines.append(followed)
        elif followed is not None:
            lines.append(followed.text())
            if bool(followed.judged.any()):
                measure = f"{followed.median_deg:.1f}°"
                angles = [
                    float(a) if known else None
                    for a, known in zip(followed.angle_deg, followed.judged, strict=True)
                ]
                values = [angles[t // followed.step] for t in range(len(frames))]
                curve = {"label": "off the path", "unit": "°", "values": values}
        if ground_truth is not None and ground_truth.shape[:3] == frames.shape[:3]:
            lines.append(truth_line(frames, ground_truth[..., :3], node))
            measure = f"{_last_psnr[node][2]:.1f} dB"
        text = "\n".join(lines)
        # Redrawn pictures don't show the ego pixels that the model had.
        geometry = None
        if target is None:
            geometry = geometry_data(depth, trajectory, exo_images, width, prompt, node)
        return io.NodeOutput(
            frames,
            mask,
            native_video(frames, fps, audio),
            ui=preview_ui(
                "compare",
                streams,
                text=text,
                fps=fps,
                curve=curve,
                geometry=geometry,
                values=upstream_values(prompt, node),
                measure=measure,
            ),
        )


def followed_path(
    frames: torch.Tensor, scene: PointCloud | None, trajectory: CameraTrajectory | None
) -> PathError | str | None:
    """The angle of decoded frames to the rendered path, or why there is none; None without scene or
    path."""
    if scene is None or trajectory is None:
        return None
    try:  # what doesn't fit here must not cost a sampled video
        return path_error(frames.float().cpu(), ordered_views(scene, trajectory))
    except EgoXInputError as error:
        return f"Whether the view follows the path can't be judged: {error}"


@remembered(slots=1)
def ordered_views(scene: PointCloud, trajectory: CameraTrajectory) -> PathViews:
    """The scene from the ordered path; remembered, as the next λ_g is compared with the same."""
    return path_views(scene, trajectory, progress=host_progress())


def truth_line(frames: torch.Tensor, truth: torch.Tensor, node: str) -> str:
    """PSNR to the truth, beside that of this node's run before where the truth was the same."""
    truth = truth.float().cpu()
    error = (frames.float().cpu() - truth).square().mean((1, 2, 3))
    now = float((-10 * error.log10()).clamp(max=PSNR_CAP_DB).mean())
    key = (truth.shape, float(truth.double().mean()))
    before = _last_psnr.get(node)
    _last_psnr[node] = (*key, now)
    line = f"PSNR to the truth {now:.1f} dB"
    return (
        line
        if before is None or before[:2] != key
        else f"{line}; the run before {before[2]:.1f} dB"
    )
