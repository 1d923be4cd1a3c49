"""Define the node EgoX Released Sampling, which provides the authors' solver and noise schedule."""

import comfy.samplers
import torch
from comfy_api.latest import io

from ..egox_core.wan import (
    make_scheduler,
    released_schedule,
    sample_released,
)
from .search_words import node_schema

SHIFT_TOOLTIP = (
    "Flow shift of the schedule. The released model uses 3.0, as its diffusers configuration "
    "states. Higher values spend more steps on the coarse layout."
)


def steps_input() -> io.Input:
    """Make the input for the sampling steps that every node that samples has."""
    return io.Int.Input(
        "steps",
        default=50,
        min=1,
        max=999,
        tooltip="Number of sampling steps. The authors use 50.",
    )


def shift_input(*, advanced: bool = False) -> io.Input:
    """Make the input for the flow shift that every node that samples has."""
    return io.Float.Input(
        "shift",
        default=3.0,
        min=0.01,
        max=1000.0,
        step=0.01,
        advanced=advanced,
        tooltip=SHIFT_TOOLTIP,
    )


def released_sampler(steps: int, flow_shift: float) -> tuple[comfy.samplers.KSAMPLER, torch.Tensor]:
    """Make ComfyUI's sampler object and the sigmas [steps + 1] of the released inference.

    Raises:
        EgoXInputError: steps or shift out of range.
        ImportError: diffusers is missing.
    """
    schedule = released_schedule(steps, flow_shift)
    make_scheduler(
        schedule[0], schedule
    )  # a missing or unfit diffusers is found here, not at the first step
    return comfy.samplers.KSAMPLER(sample_released, extra_options={"schedule": schedule}), schedule[
        0
    ]


class EgoXReleasedSampling(io.ComfyNode):
    """Provide diffusers' UniPC with the released sigma table, truncated timesteps and unscaled
    initial noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXReleasedSampling",
            display_name="EgoX Released Sampling",
            category="EgoX/model",
            description=(
                "Outputs the authors' solver and schedule for SamplerCustomAdvanced. ComfyUI's own "
                "uni_pc is a different solver."
            ),
            inputs=[
                steps_input(),
                shift_input(),
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced."),
                io.Sigmas.Output(
                    display_name="sigmas",
                    tooltip="For SamplerCustomAdvanced. Can be split by ComfyUI's sigma nodes.",
                ),
            ],
        )

    @classmethod
    def execute(cls, steps, shift) -> io.NodeOutput:
        return io.NodeOutput(*released_sampler(steps, shift))
