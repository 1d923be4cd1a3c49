"""The inputs of geometry-guided attention, the same on the model patch and on the sampler node.

Both nodes take them as ``execute(..., **gga)`` (the host calls by name) and hand them to :func:`gga_options` as they
are, so that each input stands once: here, under the name of the core's option wherever there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..egox_core.gga.backends import BACKENDS
from ..egox_core.gga.geometry import POOLINGS, GgaGeometryOptions
from ..egox_core.gga.options import DEFAULT_LAMBDA, GGA_MODES, GgaOptions
from ..egox_core.gga.rays import RAY_MODES
from ..egox_core.wan.lora_settings import AUTO, resolve_auto
from .host.graph import Graph, inputs_of, linked
from .io_types import EgoXDepth, EgoXTrajectory
from .patch.patch import RETIRED_BACKENDS, no_geometry
from .sliders import Slider

TO_THE_LAST = -1
BACKEND_CHOICES = ("auto", *BACKENDS, "reference")
LAMBDA = Slider("λ_g", usual=(0.0, 10.0), step=0.1, wide=(0.0, 100.0))


def geometry_inputs() -> list[io.Input]:
    """Depth and trajectory, from which the directions are made."""
    return [
        EgoXDepth.Input("depth", optional=True,
                        tooltip="The exo video's depth. Not needed where λ_g is 0 or the mode is off."),
        EgoXTrajectory.Input("trajectory", optional=True,
                             tooltip="The ego camera's poses, the ones that the prior was rendered with."),
    ]


def gga_inputs() -> list[io.Input]:
    """How the geometry guides the attention."""
    return [
        LAMBDA.input("lambda_g", display_name="λ_g", default=DEFAULT_LAMBDA["released"],
                     tooltip="Strength of the geometry. Mode released: 0 none (the plain model, bit for bit), 1 "
                             "plain log(1 + cos), 3 the authors' inference. Modes paper and power: start from 1; "
                             "choosing a mode on the canvas sets its start value while this one is untouched."),
        io.Combo.Input("gga_mode", options=[AUTO, *GGA_MODES], default="released", advanced=True,
                       tooltip="released: as the authors' inference scales the cosine. paper: log g + log λ_g (Eq. 4; "
                               "λ_g above 0). power: λ_g · log g, a graded strength. off: no geometry. auto: from the "
                               "LoRA's metadata, else released."),
        io.Combo.Input("rays", options=[AUTO, *RAY_MODES], default="released", advanced=True,
                       tooltip="Viewing rays of the ego pixels. released: as the authors' inference makes them, about "
                               "15 degrees off the lens, for their LoRA. exact: the camera that drew the prior. "
                               "pinhole: without distortion. auto: from the LoRA's metadata, else released."),
        io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="Share of the schedule at which the geometry starts to guide."),
        io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="Share of the schedule at which the geometry stops guiding."),
        io.Int.Input("first_block", default=0, min=0, max=999, advanced=True,
                     tooltip="First transformer block that is guided."),
        io.Int.Input("end_block", default=TO_THE_LAST, min=TO_THE_LAST, max=999, advanced=True,
                     tooltip="Block before which guiding ends; -1: to the last."),
        io.Int.Input("first_head", default=0, min=0, max=999, advanced=True,
                     tooltip="First attention head that is guided."),
        io.Int.Input("end_head", default=TO_THE_LAST, min=TO_THE_LAST, max=999, advanced=True,
                     tooltip="Head before which guiding ends; -1: to the last."),
        io.Boolean.Input("soft_trust", default=False, advanced=True,
                         tooltip="Turn the geometry down where depth is not to be trusted (edges, flicker), by Depth "
                                 "Align's trust map. Off: as the authors' inference. Where depth is missing nothing "
                                 "is guided in either case."),
        io.Combo.Input("pooling", options=list(POOLINGS), default="released", advanced=True,
                       tooltip="How four latents' directions become a token's. released: averaged. unit: averaged and "
                               "made unit length again."),
        io.Combo.Input("backend", options=list(BACKEND_CHOICES), default="auto", advanced=True,
                       tooltip="How the biased attention is computed. auto: the fastest that was measured for this "
                               "device and gives the right numbers; the note then says which. A kernel chosen by "
                               "name that is wrong on this device ends the run. reference: dense, for tests at small "
                               "sizes only."),
    ]


def check_gga(backend: str | None, lambda_g: float | None) -> bool | str:
    """For the nodes' ``validate_inputs``: graphs of earlier releases still run, with a backend that is retired or a λ_g
    beyond the slider. None: connected, not known yet."""
    if backend is None or backend in (*BACKEND_CHOICES, *RETIRED_BACKENDS):
        return LAMBDA.check(lambda_g)
    return f"{backend!r} is none of {', '.join(BACKEND_CHOICES)}"


def check_geometry(graph: Graph, node: str) -> None:
    """What is known of the geometry before a run.

    Raises:
        EgoXInputError: a strength, mode or range that makes no sense, no depth or trajectory to guide by.
    """
    values = inputs_of(graph, node)
    gga = {entry.id: values.get(entry.id) for entry in gga_inputs()}
    from_wire = any(value is None or isinstance(value, list) for value in gga.values())
    if from_wire or gga["gga_mode"] == AUTO:  # then the LoRA says it
        return
    options, _, _ = gga_options({}, gga)
    for name in ("depth", "trajectory") if options.biases else ():
        if linked(graph, node, name) is None:
            raise no_geometry(name)


def gga_options(metadata: Mapping[str, str], inputs: Mapping[str, Any]) -> tuple[GgaOptions, GgaGeometryOptions, str]:
    """The core's options and the backend, from all inputs above; ``metadata`` is the LoRA's, for ``auto``.

    Raises:
        EgoXInputError: a strength, mode or range that makes no sense.
    """
    options = dict(inputs)
    backend = options.pop("backend")
    geometry = GgaGeometryOptions(rays=resolve_auto("rays", options.pop("rays"), metadata),
                                  pooling=options.pop("pooling"))
    options["mode"] = resolve_auto("gga_mode", options.pop("gga_mode"), metadata)
    for end in ("end_block", "end_head"):
        options[end] = None if options[end] == TO_THE_LAST else options[end]
    return GgaOptions(**options), geometry, backend
