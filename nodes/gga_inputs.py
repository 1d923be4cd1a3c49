"""The inputs of geometry-guided attention, the same on the model patch and on the sampler node.

Both nodes take them as ``execute(..., **gga)`` (the host calls by name) and hand them to
:func:`gga_options` as they are, so that each input is declared once."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..egox_core.gga import BACKENDS, GgaOptions
from ..egox_core.types import GGA_MODES, DepthVideo, RayMode
from ..egox_core.wan import resolve_auto
from .host.graph import Graph, check_weights_of, inputs_of, linked
from .io_types import EgoXDepth, EgoXTrajectory
from .patch.patch import no_geometry
from .sliders import Slider

LAMBDA = Slider("λ_g", usual=(0.0, 10.0), step=0.1, wide=(0.0, 100.0))


def wan_model_input() -> io.Input:
    """The transformer that is to be sampled."""
    return io.Model.Input(
        "model", tooltip="A Wan image-to-video transformer (36 input channels), after EgoX LoRA."
    )


def geometry_inputs() -> list[io.Input]:
    """Depth and trajectory, from which the directions are made."""
    return [
        EgoXDepth.Input(
            "depth",
            optional=True,
            tooltip="The exo video's depth. Not needed where λ_g is 0 or the mode is off.",
        ),
        EgoXTrajectory.Input(
            "trajectory",
            optional=True,
            tooltip="The ego camera's poses, the ones that the prior was rendered with.",
        ),
    ]


def gga_inputs() -> list[io.Input]:
    """Inputs of the guidance by geometry."""
    return [
        LAMBDA.input(
            "lambda_g",
            display_name="λ_g",
            default=GgaOptions().lambda_g,
            tooltip="Strength of the geometry. Mode released: 0 none (the plain model, bit for bit), 1 "
            "plain log(1 + cos), 3 the authors' inference. Modes paper and power: start from 1; "
            "choosing a mode on the canvas sets its start value while this one is untouched. For another "
            "model (LEGO, arXiv 2610.12442, on Ego-Exo4D) geometry gained 0.22 dB in unseen scenes and "
            "cost 0.29 in seen ones; the small model on drawn rooms gains in both.",
        ),
        io.Combo.Input(
            "gga_mode",
            options=["auto", *GGA_MODES],
            default="released",
            advanced=True,
            tooltip="released: as the authors' inference scales the cosine. paper: log g + log λ_g (Eq. 4; "
            "λ_g above 0). power: λ_g · log g, a graded strength. off: no geometry. auto: from the "
            "LoRA's metadata, else released.",
        ),
    ]


def backend_input() -> io.Input:
    """The kernel of the biased attention, by name."""
    return io.Combo.Input(
        "backend",
        options=["auto", *BACKENDS, "reference"],
        default="auto",
        advanced=True,
        tooltip="How the biased attention is computed. auto: the fastest that was measured for this "
        "device and gives the right numbers; the note then says which. A kernel chosen by name "
        "that is wrong on this device ends the run. reference: dense, for tests at small sizes "
        "only.",
    )


def recompute_exo_input(advanced: bool = False) -> io.Input:
    """Steps from one full computation of exo to the next."""
    return io.Int.Input(
        "recompute_exo",
        display_name="recompute exo",
        default=1,
        min=0,
        max=100,
        # The host's own default is None, which its annotation lacks.
        advanced=advanced or None,  # ty: ignore[invalid-argument-type]
        tooltip="How often exo is computed anew. 1: at every step, as the authors do. 4: at every fourth step; the "
        "steps between compute the ego half alone, about two fifths of the work, and the picture moves a little. "
        "0: at the first step alone. Takes memory beside the model: 7.5 GB for 49 frames of 784x448 with cfg above 1, "
        "half of that at cfg 1. Without room every step is full, and the node says so before the first one.",
    )


def check_geometry(graph: Graph, node: str) -> None:
    """Check what is known of the geometry and of the weights' files before a run.

    Raises:
        EgoXInputError: a strength or mode that makes no sense, no depth or trajectory to guide by,
            files as :func:`.host.graph.check_weights_of` refuses them.
    """
    check_weights_of(graph, node)
    values = inputs_of(graph, node)
    gga = {entry.id: values.get(entry.id) for entry in gga_inputs()}
    from_wire = any(value is None or isinstance(value, list) for value in gga.values())
    if from_wire or gga["gga_mode"] == "auto":  # then the LoRA says it
        return
    options, _ = gga_options({}, gga, None)
    for name in ("depth", "trajectory") if options.biases else ():
        if linked(graph, node, name) is None:
            raise no_geometry(name)


def gga_options(
    metadata: Mapping[str, str], inputs: Mapping[str, Any], depth: DepthVideo | None
) -> tuple[GgaOptions, RayMode]:
    """Options of the core, from the inputs above, and the kind of rays, from the LoRA.

    Args:
        metadata: the LoRA's.
        depth: with a trust map, which scales the bias.

    Raises:
        EgoXInputError: a strength or mode that makes no sense.
    """
    mode = resolve_auto("gga_mode", inputs["gga_mode"], metadata)
    rays = resolve_auto("rays", "auto", metadata)
    trusted = depth is not None and depth.trust is not None
    return GgaOptions(mode=mode, lambda_g=inputs["lambda_g"], soft_trust=trusted), rays
