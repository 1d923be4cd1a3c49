"""EgoX Released Sampling: the authors' solver and schedule as a native SAMPLER and SIGMAS."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..egox_core.wan.schedule import (
    RELEASED_FLOW_SHIFT,
    RELEASED_STEPS,
    make_scheduler,
    released_schedule,
    sample_released,
)

SHIFT_TOOLTIP = (
    "Flow shift of the schedule. 3.0 is assumed for the released model (its configuration could not be read; a "
    "sibling model's shows 3.0), higher values spend more steps on the coarse picture."
)


def released_sampler(steps: int, flow_shift: float) -> tuple[comfy.samplers.KSAMPLER, object]:
    """The host's sampler object and the sigmas [steps + 1] of the released inference.

    Raises:
        EgoXInputError: steps or shift out of range.
        ImportError: diffusers is missing.
    """
    schedule = released_schedule(steps, flow_shift)
    make_scheduler(schedule[0], schedule)  # a missing or unfit diffusers is found here, not at the first step
    return comfy.samplers.KSAMPLER(sample_released, extra_options={"schedule": schedule}), schedule[0]


class EgoXReleasedSampling(io.ComfyNode):
    """diffusers' UniPC with the golden sigma table, truncated timesteps and unscaled initial noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXReleasedSampling",
            display_name="EgoX Released Sampling",
            category="EgoX/model",
            description="The authors' scheduler for SamplerCustomAdvanced. (The host's uni_pc is another solver.)",
            inputs=[
                io.Int.Input("steps", default=RELEASED_STEPS, min=1, max=999, tooltip="Sampling steps; the authors use "
                                                                                      "50."),
                io.Float.Input("shift", default=RELEASED_FLOW_SHIFT, min=0.01, max=1000.0, step=0.01,
                               tooltip=SHIFT_TOOLTIP),
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced."),
                io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced; may be split."),
            ],
        )

    @classmethod
    def execute(cls, steps, shift) -> io.NodeOutput:
        return io.NodeOutput(*released_sampler(steps, shift))
