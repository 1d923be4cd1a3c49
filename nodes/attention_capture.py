"""EgoX Attention Capture: keeps the queries and keys of one block in one sampling step, for EgoX Attention View."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io
from torch import Tensor

from ..egox_core.errors import EgoXInputError
from ..egox_core.gga.record import AttentionRecord
from .io_types import EgoXAttention
from .model_patch import KEY
from .wan_guard import check_model
from .widening_wrapper import WideningWrapper

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

CAPTURE_KEY = "egox_attention"
CAPTURE_MARK = "egox_capture"
SIGMAS = 2  # place of the sigmas among outer_sample's arguments after the noise
COND = 0  # the host's number of the positive prompt among what it stacks


class AttentionCapture:
    """What travels on the socket: empty until the patched model was sampled, then the last run's record.

    Patches the model by the host's own hook after self-attention, which gets the very q and k that attention got. It
    changes nothing and stands beside whatever overrides attention.
    """

    def __init__(self, step: int, block: int) -> None:
        self.step, self.block = step, block  # negative: from the end
        self.record: AttentionRecord | None = None
        self._sigmas: Tensor | None = None  # of the running sampling, on the CPU
        self._widening: WideningWrapper | None = None

    def patch(self, model: ModelPatcher) -> ModelPatcher:
        """A clone that fills this capture while it is sampled.

        Raises:
            EgoXInputError: no plain Wan model, no such block.
        """
        check_model(model)
        blocks = len(model.get_model_object("diffusion_model").blocks)
        self.block = _counted("block", self.block, blocks, "the transformer's blocks")
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, CAPTURE_KEY, mark_capture)
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, CAPTURE_KEY, self.watch)
        patched.set_model_attn1_patch(self.after_attention)
        return patched

    def watch(self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """An OUTER_SAMPLE wrapper: learns the schedule and the geometry of this run, refuses what can't be captured.

        Raises:
            EgoXInputError: no such step, or a model without the EgoX canvas.
        """
        patcher = executor.class_obj.model_patcher
        widening = patcher.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY)
        if not widening:
            raise EgoXInputError("model of EgoX Attention Capture", got="one without the EgoX canvas",
                                 expected="a model that EgoX Model Patch or Wan EgoX Sampler patched",
                                 fix="connect EgoX Attention Capture before or after EgoX Model Patch")
        sigmas = args[SIGMAS].detach().cpu().float()
        _counted("sampling step", self.step, len(sigmas) - 1, "the steps of this run")
        self.record, self._sigmas, self._widening = None, sigmas, widening[0]
        try:
            return executor(noise, *args, **kwargs)
        finally:
            self._sigmas = self._widening = None

    @torch.compiler.disable
    def after_attention(self, call: dict[str, Any]) -> Tensor:
        """The host's hook: ``x`` [B, N, heads * d] is handed back as it is; ``q`` and ``k`` are [B, N, heads, d]."""
        options = call["transformer_options"]
        if self._sigmas is not None and self.record is None and options.get("block_index") == self.block:
            self._take(call["q"], call["k"], options)
        return call["x"]

    def _take(self, q: Tensor, k: Tensor, options: dict[str, Any]) -> None:
        stacked = list(options.get("cond_or_uncond", [COND]))
        steps = len(self._sigmas) - 1
        sigma = float(options["sigmas"].flatten()[0])
        nearest = int((self._sigmas[:-1] - sigma).abs().argmin())
        if COND not in stacked or nearest != self.step % steps:
            return
        clip = stacked.index(COND) * (q.shape[0] // len(stacked))  # the first one of the batch, its positive prompt
        t, h, w = options["grid_sizes"]
        w_exo = self._widening.exo.shape[-1] // 2
        frames = tuple(range(t))
        window = options.get("context_window")
        if window is not None and len(self._widening.exo[0, 0]) != t:
            frames = tuple(window.get_tensor(torch.arange(len(self._widening.exo[0, 0]))[None], dim=1)[0].tolist())
        guidance = self._widening.guidance
        geometry = None if guidance is None else guidance.geometry.select_frames(list(frames)).to("cpu")
        ego = q[clip].unflatten(0, (t * h, w))[:, w_exo:].flatten(0, 1)
        self.record = AttentionRecord(
            q_ego=_kept(ego.flatten(1)), k=_kept(k[clip].flatten(1)), heads=q.shape[2], grid=(t, h, w_exo, w - w_exo),
            block=self.block, blocks=int(options["total_blocks"]), step=nearest, steps=steps, sigma=sigma,
            geometry=geometry, options=None if guidance is None else guidance.options,
            guided=guidance is not None and guidance.acts(options, self.block), latent_frames=frames)


def mark_capture(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
    """An APPLY_MODEL wrapper: makes compiled code of a capturing model another one than that of the same model without
    (see widening_wrapper.py)."""
    return executor(*args, **kwargs, **{CAPTURE_MARK: None})


def _kept(x: Tensor) -> Tensor:
    """A copy on the CPU that shares nothing with the model's tensors, which it may overwrite."""
    return x.detach().to("cpu", copy=True).contiguous()


def _counted(what: str, number: int, count: int, of: str) -> int:
    """``number`` counted from the start; negative ones count from the end.

    Raises:
        EgoXInputError: outside.
    """
    if not -count <= number < count:
        raise EgoXInputError(what, got=number, expected=f"0 to {count - 1} ({of}), or -1 for the last",
                             fix=f"choose another {what} in EgoX Attention Capture")
    return number % count


class EgoXAttentionCapture(io.ComfyNode):
    """MODEL to MODEL, between model patch and sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EgoXAttentionCapture",
            display_name="EgoX Attention Capture",
            category="EgoX/attention",
            description="Keeps what one transformer block compares in one sampling step, so that EgoX Attention View "
                        "can show where any ego pixel looks. Changes nothing in the result; one capture serves all "
                        "pixels.",
            inputs=[
                io.Model.Input("model", tooltip="Before or after EgoX Model Patch, or before Wan EgoX Sampler."),
                io.Int.Input("step", default=-1, min=-10000, max=10000,
                             tooltip="Which sampling step: 0 is the first, -1 the last. Early steps lay out the "
                                     "picture, late ones fill in detail."),
                io.Int.Input("block", default=-1, min=-1000, max=1000,
                             tooltip="Which transformer block: 0 is the first, -1 the last (the 14B model has 40). "
                                     "Blocks differ much; try one in the middle."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler."),
                EgoXAttention.Output(display_name="attention",
                                     tooltip="For EgoX Attention View. About 0.4 GB of memory with the 14B model at "
                                             "the released size."),
            ],
        )

    @classmethod
    def execute(cls, model, step, block) -> io.NodeOutput:
        capture = AttentionCapture(step, block)
        return io.NodeOutput(capture.patch(model), capture)
