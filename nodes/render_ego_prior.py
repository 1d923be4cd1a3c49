"""Render Ego Prior: the scene as the ego camera sees it."""

from dataclasses import replace

from comfy_api.latest import io

from ..egox_core import stages
from ..egox_core.errors import EgoXInputError
from ..egox_core.prior import DYNAMIC_CHOICES, PRIOR_PRESETS, prior_preset
from .host.graph import Graph, check_or_message, inputs_of, linked
from .host.memory import drawing_device
from .host.progress import host_progress
from .host.remember import DRAWN_FROM
from .io_types import EgoXDepth, EgoXScene, EgoXTrajectory
from .search_words import node_schema
from .show import depth_preview, shown

PRESET = "preset"


class EgoXRenderEgoPrior(io.ComfyNode):
    """Splats the points into the ego camera, frame by frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXRenderEgoPrior",
            display_name="Render Ego Prior",
            category="EgoX/geometry",
            description="Draws the scene from the ego camera: the prior that the model completes. Upright, black where "
            "the exo camera saw nothing.",
            inputs=[
                EgoXTrajectory.Input(
                    "trajectory", tooltip="The ego camera over time, from Ego Pose Input."
                ),
                EgoXScene.Input(
                    "scene",
                    optional=True,
                    tooltip="The points, from Build Scene. Instead of it, connect images and depth.",
                ),
                io.Image.Input(
                    "exo_images",
                    optional=True,
                    tooltip="The exo video's frames. Needed without a scene; beside one, with depth, the "
                    "node also shows which exo patches each ego pixel is led to.",
                ),
                EgoXDepth.Input("depth", optional=True, tooltip="Their depth, from Depth Align."),
                io.Combo.Input(
                    "preset",
                    options=list(PRIOR_PRESETS),
                    default="released",
                    tooltip="released: as the authors' renderer draws takes of their data set, without "
                    "what moves; their LoRA was trained on it. released_wild: with the moving "
                    "person, as they draw videos from elsewhere. clean: patches that follow depth "
                    "and sampling, sharper and without gaps. exact: clean without the wearer's own "
                    "head; its lens and scale are Depth Align's. Linked to Depth Align's output "
                    "preset, it is set there.",
                ),
                io.Combo.Input(
                    "dynamic",
                    options=[PRESET, *DYNAMIC_CHOICES],
                    default=PRESET,
                    tooltip="Moving points: the preset's choice, keep all, leave out all (the paper's way), "
                    "or leave out the wearer's body or head, in which the camera sits.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="prior", tooltip="The ego prior, upright."),
                io.Mask.Output(display_name="coverage", tooltip="1 where a point landed."),
                io.Image.Output(
                    display_name="depth_preview", tooltip="Its depth in colour, near is warm."
                ),
                EgoXDepth.Output(
                    display_name="depth", tooltip="Its z depth in metres, with the ego camera."
                ),
            ],
            # For check_or_message, and for the node whose λ_g the geometry has
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            # The prior is seen also where the weights behind it are missing. Not an intermediate output as
            # well: the host would give a cached one after the ego video, and its form shows the last.
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, preset=None) -> bool | str:
        return check_or_message(cls, check_prior_inputs)

    @classmethod
    def execute(
        cls, trajectory, preset, dynamic, scene=None, exo_images=None, depth=None
    ) -> io.NodeOutput:
        progress = host_progress()
        if scene is None:
            if exo_images is None or depth is None:
                raise nothing_to_render()
            scene, _ = stages.scene(exo_images, depth, progress=progress)
        size = trajectory.camera.height
        square = replace(trajectory, camera=trajectory.camera.rescale(size, size))
        drawn = None if dynamic == PRESET else dynamic
        prior, _ = stages.prior(
            scene, square, preset, dynamic=drawn, device=drawing_device(), progress=progress
        )
        DRAWN_FROM[prior.rgb] = {"scene": scene, "trajectory": trajectory}
        depth_picture, legend = depth_preview(prior.depth_m)
        ui = shown and shown.prior(
            cls, prior, depth_picture, legend, scene, trajectory, exo_images, depth, progress
        )
        covered = prior.coverage.float()
        return io.NodeOutput(prior.rgb, covered, depth_picture, prior.depth(), ui=ui)


def check_prior_inputs(graph: Graph, node: str) -> None:
    """Check what is known before a run.

    Raises:
        EgoXInputError: nothing to render, no such preset.
    """
    preset = inputs_of(graph, node).get("preset")
    if isinstance(preset, str):
        prior_preset(preset)
    sources = {
        name for name in ("scene", "exo_images", "depth") if linked(graph, node, name) is not None
    }
    if "scene" not in sources and not {"exo_images", "depth"} <= sources:
        raise nothing_to_render()


def nothing_to_render() -> EgoXInputError:
    """Advice for a node without points."""
    return EgoXInputError(
        "what to render",
        got="neither a scene nor images with depth",
        expected="one",
        fix="connect 'scene' from Build Scene, or 'exo_images' and 'depth'",
    )
