"""Define EgoX Model Patch, which adds the exo half and geometry guidance to a Wan model for any
sampler."""

import logging

from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

from .gga_inputs import (
    LAMBDA,
    backend_input,
    check_geometry,
    geometry_inputs,
    gga_inputs,
    gga_options,
    recompute_exo_input,
    wan_model_input,
)
from .host.graph import check_or_message, this_node
from .io_types import EgoXCanvas
from .patch.checks import NoteAfterRun, has_image_embedding
from .patch.lora_metadata import lora_metadata
from .patch.patch import KEY, patch_calls, patch_model
from .search_words import node_schema
from .show import result_views


class EgoXModelPatch(io.ComfyNode):
    """Patch a model for any of ComfyUI's samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXModelPatch",
            display_name="EgoX Model Patch",
            category="EgoX/model",
            description=(
                "Shows the exo video to a Wan image-to-video model while the ego latent is "
                "sampled, and guides its attention by geometry. Works with all samplers, "
                "schedulers and guiders."
            ),
            inputs=[
                wan_model_input(),
                EgoXCanvas.Input("canvas", tooltip="From EgoX Conditioning."),
                *geometry_inputs(),
                *gga_inputs(),
                backend_input(),
                recompute_exo_input(),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The patched model, for sampling the ego latent.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lambda_g=None, model=None) -> bool | str:
        return check_or_message(cls, check_geometry, LAMBDA.check(lambda_g))

    @classmethod
    def execute(
        cls, model, canvas, backend="auto", recompute_exo=1, depth=None, trajectory=None, **gga
    ) -> io.NodeOutput:
        options, rays = gga_options(lora_metadata(model), gga, depth)
        patched, note = patch_model(
            model, canvas, depth, trajectory, options, rays, backend, recompute_exo
        )
        if (
            canvas.image_embedding == "released"
            and canvas.noise_seed is None
            and has_image_embedding(model)
        ):
            logging.warning(
                "[EgoX] the picture embedding shows the noise of seed 0, because noise_seed of "
                "EgoX Conditioning isn't set; set it to your sampler's seed"
            )
            note += "; set noise_seed of EgoX Conditioning to your sampler's seed"
        node_id = this_node(cls)[1] or None
        patched.add_wrapper_with_key(
            WrappersMP.OUTER_SAMPLE, KEY, NoteAfterRun(node_id, note, patch_calls(patched))
        )
        return io.NodeOutput(patched, ui=result_views and result_views.note(note))
