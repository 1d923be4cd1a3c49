"""Whether the patch really ran: nodes that replace the model's forward take canvas or geometry away without a word.

TeaCache nodes do: some replace ``forward`` (no wrapper is run, so there is no exo half), some ``forward_orig`` (blocks
get no transformer_options, so the attention override is never asked).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.gga.backends import KernelsUsed
from ..host.steps import running_server

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

HOSTS_OWN = ("comfy", "comfy_api", "comfy_extras", "torch", "functools")
FIX = "remove the node that replaces the model's forward: TeaCache nodes do (ComfyUI's own EasyCache may stay)"


class PatchCalls:
    """Counts of one run, filled by the widening wrapper and the attention override."""

    def __init__(self) -> None:
        self.kernels = KernelsUsed()
        self.reset()

    def reset(self) -> None:
        """A run begins."""
        self.widened = 0  # forwards that saw the whole canvas
        self.guided = 0  # those of them in which geometry was to act
        self.attended = 0  # self-attentions that the override was asked about
        self.slotted = 0  # forwards whose tokens were to have their own positions or rays
        self.placed = 0  # blocks whose slot was asked
        self.kernels.clear()

    @property
    def lost(self) -> str | None:
        """What did not take place though a step was taken; None where all is well."""
        if not self.widened:
            return "the exo half: the model ran without the EgoX canvas"
        if self.guided and not self.attended:
            return "the geometry: its attention override was never asked"
        if self.slotted and not self.placed:
            return "the places of several exo views: the slots of its blocks were never asked"
        return None

    def watch(self, callback: Callable | None, model: ModelPatcher) -> Callable:
        """The sampler's step callback that fails after the first step if that step went past the patch.

        Steps that a cache leaves out later are no failure. The callback raises an EgoXInputError.
        """
        first = True

        def watched(step: int, *args: Any) -> Any:
            nonlocal first
            if first and self.lost is not None:
                raise EgoXInputError("first sampling step", got=f"a step without {self.lost}{suspects(model)}",
                                     expected="the patched model", fix=FIX)
            first = False
            return None if callback is None else callback(step, *args)

        return watched


class NoteAfterRun:
    """An OUTER_SAMPLE wrapper: writes on a node, when a run ends, its note and what computed the attention.

    Which kernel is fastest and right shows only while the model runs, on another node than the one that patched it.
    """

    def __init__(self, node_id: str | None, note: str, calls: PatchCalls) -> None:
        self.node_id, self.note, self.calls = node_id, note, calls

    def __call__(self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = executor(noise, *args, **kwargs)
        server = None if self.node_id is None else running_server()
        if server is not None:
            server.send_progress_text(with_kernels(self.note, self.calls), self.node_id)
        return out


def with_kernels(note: str, calls: PatchCalls) -> str:
    """A node's note, and what computed the guided attention of the run that just ended."""
    return "; ".join(part for part in (note, calls.kernels.words()) if part)


def suspects(model: ModelPatcher) -> str:
    """Code of other packs that stands between sampler and transformer, in words; empty where none shows."""
    functions = [model.model_options.get("model_function_wrapper")]
    functions += [patch for key, patch in model.object_patches.items() if "forward" in key]
    transformer = model.get_model_object("diffusion_model")
    functions += [getattr(transformer, name, None) for name in ("forward", "forward_orig", "_forward")]
    names = {getattr(function, "__module__", None) or type(function).__module__ for function in functions if function}
    foreign = sorted(name for name in names if name.split(".")[0] not in HOSTS_OWN)
    return f" (code in the way: {', '.join(foreign)})" if foreign else ""
