"""Make the node inputs of geometry-guided attention.

Both nodes take them as ``execute(..., **gga)`` and pass them to :func:`gga_options` unchanged,
so that each input is declared once."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..egox_core.gga import GgaOptions
from ..egox_core.types import GGA_MODES, DepthVideo, RayMode
from ..egox_core.wan import resolve_auto
from .host.graph import Graph, check_weights_of, inputs_of, linked_node_id
from .io_types import EgoXDepth, EgoXTrajectory
from .patch.patch import RETIRED, missing_geometry_error
from .sliders import Slider

LAMBDA = Slider("λ_g", usual=(0.0, 10.0), step=0.1, wide=(0.0, 100.0))


def wan_model_input() -> io.Input:
    """Make the input for the transformer that is sampled."""
    return io.Model.Input(
        "model", tooltip="A Wan image-to-video transformer (36 input channels), from EgoX LoRA."
    )


def geometry_inputs() -> list[io.Input]:
    """Make the node inputs for depth and trajectory, by which the attention is guided."""
    return [
        EgoXDepth.Input(
            "depth",
            optional=True,
            tooltip="The depth of the exo video. Not needed if λ_g is 0 or gga_mode is off.",
        ),
        EgoXTrajectory.Input(
            "trajectory",
            optional=True,
            tooltip="The ego camera that the prior was rendered with.",
        ),
    ]


def gga_inputs() -> list[io.Input]:
    """Make the node inputs for strength and mode of the geometry-guided attention."""
    return [
        LAMBDA.input(
            "lambda_g",
            display_name="λ_g",
            default=GgaOptions().lambda_g,
            tooltip=(
                "How much the model trusts the geometry: for each ego pixel it looks at the exo "
                "pixels in the same direction of the room. In mode released: 0 disables it (bit "
                "for bit the plain model), 1 adds log(1 + cos), and the authors use 3. In modes "
                "paper and power: start from 1 (the canvas sets this when you choose the mode, if "
                "λ_g is unchanged). On a small model and drawn rooms guidance helps in seen and "
                "unseen scenes; for another model (LEGO, arXiv 2610.12442) it gained 0.22 dB in "
                "unseen scenes and lost 0.29 dB in seen ones."
            ),
        ),
        io.Combo.Input(
            "gga_mode",
            options=["auto", *GGA_MODES],
            default="released",
            advanced=True,
            tooltip=(
                "Formula of the guidance. released: scales the cosine, as in the authors' code. "
                "paper: log g + log λ_g (Eq. 4), for λ_g above 0. power: λ_g · log g, a gradual "
                "strength. off: no guidance. auto: the LoRA's metadata decide, otherwise released."
            ),
        ),
    ]


def backend_input() -> io.Input:
    """Make the input that chooses the kernel of the guided attention."""
    return io.Combo.Input(
        "backend",
        options=["auto", "sdpa", *RETIRED, "triton", "reference"],
        default="auto",
        advanced=True,
        tooltip=(
            "Code that computes the guided attention. auto: the pack's own kernel (triton) on "
            "cards where it was measured, otherwise one of torch's; the note names it. sdpa: "
            "torch's own choice. cudnn and efficient now mean auto. Any other choice stops with an "
            "error if its numbers are wrong on this device. reference: needs much memory, for "
            "tests at small sizes only."
        ),
    )


def recompute_exo_input(advanced: bool = False) -> io.Input:
    """Make the node input for how often sampling computes the exo half again."""
    return io.Int.Input(
        "recompute_exo",
        display_name="recompute exo",
        default=1,
        min=0,
        max=100,
        # The host's own default is None, which its annotation lacks.
        advanced=advanced or None,  # ty: ignore[invalid-argument-type]
        tooltip=(
            "Number of steps from one computation of the exo half to the next. 1: every step, as "
            "in the authors' code. 4: every fourth step; the steps between compute only the ego "
            "half, in about half the time, and the image changes a little. 0: only the first step. "
            "Needs memory in addition to the model: 7.5 GB for 49 frames of 784x448 with cfg above "
            "1, half of that at cfg 1. If there isn't enough, every step is computed in full, and "
            "the node reports it before the first one."
        ),
    )


def check_geometry(graph: Graph, node: str) -> None:
    """Check geometry inputs and weight files before a run starts.

    Raises:
        EgoXInputError: a strength or mode that makes no sense, no depth or trajectory to guide by,
            files as :func:`.host.graph.check_weights_of` refuses them.
    """
    check_weights_of(graph, node)
    input_values = inputs_of(graph, node)
    gga_values = {entry.id: input_values.get(entry.id) for entry in gga_inputs()}
    is_unknown = any(value is None or isinstance(value, list) for value in gga_values.values())
    if is_unknown or gga_values["gga_mode"] == "auto":  # then the LoRA says it
        return
    options, _ = gga_options({}, gga_values, None)
    for name in ("depth", "trajectory") if options.biases else ():
        if linked_node_id(graph, node, name) is None:
            raise missing_geometry_error(name)


def gga_options(
    metadata: Mapping[str, str], inputs: Mapping[str, Any], depth: DepthVideo | None
) -> tuple[GgaOptions, RayMode]:
    """Convert a node's input values to the core's options for guided attention.

    Args:
        metadata: the LoRA's.
        depth: with a trust map, which scales the bias.

    Raises:
        EgoXInputError: a strength or mode that makes no sense.
    """
    mode = resolve_auto("gga_mode", inputs["gga_mode"], metadata)
    rays = resolve_auto("rays", "auto", metadata)
    has_trust = depth is not None and depth.trust is not None
    return GgaOptions(mode=mode, lambda_g=inputs["lambda_g"], soft_trust=has_trust), rays
