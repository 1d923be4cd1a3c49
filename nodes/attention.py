"""Define two nodes that show the model's attention.

EgoX Attention Capture records the queries and keys of one block in one sampling step. EgoX
Attention View shows which exo parts an ego pixel attends to, with geometry and without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io
from torch import Tensor

from ..egox_core.errors import EgoXInputError
from ..egox_core.gga import AttentionRecord
from ..egox_core.sizes import PATCH
from .host.progress import host_progress
from .io_types import EgoXAttention
from .patch.checks import check_model
from .patch.exo_cache import OVERRIDE
from .patch.forward import JOINED_KEYS, AttentionOverride, WideningWrapper, window_frames
from .patch.patch import KEY
from .search_words import node_schema
from .show import attention_view, result_views

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

CAPTURE_KEY = "egox_attention"
CAPTURE_MARK = "egox_capture"
SIGMAS = 2  # index of the sigmas among outer_sample's arguments after the noise
COND = 0  # the host's number of the positive prompt among what it stacks


class AttentionCapture:
    """Store the attention that the patched model computed in its last sampling run.

    It patches the model by ComfyUI's own hook after self-attention, which gets the q and k of
    the attention. It changes no result, and works beside any override of attention."""

    def __init__(self, step: int, block: int) -> None:
        self.step, self.block = step, block  # negative: from the end
        self.record: AttentionRecord | None = None
        self._sigmas: Tensor | None = None  # of the running sampling, on the CPU
        self._widening: WideningWrapper | None = None

    def patch(self, model: ModelPatcher) -> ModelPatcher:
        """Clone a model so that sampling the clone records its attention.

        Raises:
            EgoXInputError: no plain Wan model, no such block.
        """
        check_model(model)
        transformer: Any = model.get_model_object("diffusion_model")
        block_count = len(transformer.blocks)
        self.block = index_from_start("block", self.block, block_count, "the transformer's blocks")
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, CAPTURE_KEY, mark_capture)
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, CAPTURE_KEY, self.watch)
        patched.set_model_attn1_patch(self.after_attention)
        return patched

    def watch(self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Store a run's sampling schedule and geometry, and refuse a run whose attention can't be
        recorded.

        Raises:
            EgoXInputError: no such step, or a model without the EgoX canvas.
        """
        patcher = executor.class_obj.model_patcher
        widening = patcher.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY)
        if not widening:
            raise EgoXInputError(
                "model of EgoX Attention Capture",
                got="one without the EgoX canvas",
                expected="a model that EgoX Model Patch or Wan EgoX Sampler patched",
                fix="connect EgoX Attention Capture before or after EgoX Model Patch",
            )
        sigmas = args[SIGMAS].detach().cpu().float()
        index_from_start("sampling step", self.step, len(sigmas) - 1, "the steps of this run")
        self.record = None
        self._sigmas = sigmas
        self._widening = widening[0]
        try:
            return executor(noise, *args, **kwargs)
        finally:
            self._sigmas = self._widening = None

    @torch.compiler.disable
    def after_attention(self, call: dict[str, Any]) -> Tensor:
        """Record queries and keys of an attention call, and return its result ``x`` unchanged.

        ``q`` and ``k`` are [B, N, heads, d]. With cached exo keys, ``q`` has ego's queries only.
        """
        options = call["transformer_options"]
        joined_keys = options.pop(JOINED_KEYS, None)
        override = options.get(OVERRIDE)  # ours, or a stranger's where nothing is guided or kept
        exo_forward = override.exo if isinstance(override, AttentionOverride) else None
        is_exo_call = (
            exo_forward is not None
            and exo_forward.cache.exo_is_alone
            and not exo_forward.reuses_exo
        )
        if self.record is None and options.get("block_index") == self.block and not is_exo_call:
            self._record(call["q"], call["k"] if joined_keys is None else joined_keys, options)
        return call["x"]

    def _record(
        self,
        q: Tensor,  # [B, tokens, heads, d] of the whole canvas, or of the ego half
        k: Tensor,  # [B, tokens, ...] of the whole canvas
        options: dict[str, Any],
    ) -> None:
        sigmas, widening = self._sigmas, self._widening
        if sigmas is None or widening is None:
            return
        stacked_sides = list(options.get("cond_or_uncond", [COND]))
        steps = len(sigmas) - 1
        sigma = float(options["sigmas"].flatten()[0])
        nearest_step = int((sigmas[:-1] - sigma).abs().argmin())
        if COND not in stacked_sides or nearest_step != self.step % steps:
            return
        clip = stacked_sides.index(COND) * (
            q.shape[0] // len(stacked_sides)
        )  # the first one of the batch, its positive prompt
        t, h, _ = options["grid_sizes"]
        w_exo = widening.exo.shape[-1] // PATCH
        w = k.shape[1] // (t * h)
        frames = tuple(window_frames(options, widening.exo.shape[2], t) or range(t))
        guidance = widening.guidance
        geometry = (
            None if guidance is None else guidance.geometry.select_frames(list(frames)).to("cpu")
        )
        self.record = AttentionRecord.of_call(
            q[clip],
            k[clip],
            (t, h, w_exo, w - w_exo),
            block=self.block,
            blocks=int(options["total_blocks"]),
            step=nearest_step,
            steps=steps,
            sigma=sigma,
            geometry=geometry,
            options=None if guidance is None else guidance.options,
            latent_frames=frames,
        )


def mark_capture(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
    """Mark a model call, so that torch.compile compiles separate code for recorded calls.

    An APPLY_MODEL wrapper (see :class:`WideningWrapper`).
    """
    return executor(*args, **kwargs, **{CAPTURE_MARK: None})


class EgoXAttentionCapture(io.ComfyNode):
    """Record attention in a model between its patch and the sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXAttentionCapture",
            display_name="EgoX Attention Capture",
            category="EgoX/attention",
            description=(
                "Records the attention of one transformer block at one sampling step, for EgoX "
                "Attention View. The result of sampling doesn't change. One recording serves all "
                "ego pixels."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The model, before or after EgoX Model Patch, or before Wan EgoX Sampler."
                    ),
                ),
                io.Int.Input(
                    "step",
                    default=-1,
                    min=-10000,
                    max=10000,
                    tooltip=(
                        "Sampling step to record: 0 is the first, -1 the last. Early steps define "
                        "the layout, late steps the details."
                    ),
                ),
                io.Int.Input(
                    "block",
                    default=-1,
                    min=-1000,
                    max=1000,
                    tooltip=(
                        "Transformer block to record: 0 is the first, -1 the last (the 14B model "
                        "has 40). Blocks differ a lot; start with one in the middle."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model, for the sampler."),
                EgoXAttention.Output(
                    display_name="attention",
                    tooltip=(
                        "The recording, for EgoX Attention View. Needs about 0.4 GB of memory with "
                        "the 14B model at the released size."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(cls, model, step, block) -> io.NodeOutput:
        capture = AttentionCapture(step, block)
        return io.NodeOutput(capture.patch(model), capture)


class EgoXAttentionView(io.ComfyNode):
    """Draw the attention recorded by EgoX Attention Capture for one pixel of the ego picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXAttentionView",
            display_name="EgoX Attention View",
            category="EgoX/attention",
            description=(
                "Shows for one ego pixel which parts of the exo frame it attends to: the "
                "geometry's weight g, and the model's real attention with and without guidance "
                "(the paper's Figure 7). Choosing a different pixel needs no new sampling."
            ),
            inputs=[
                EgoXAttention.Input(
                    "attention",
                    tooltip="From EgoX Attention Capture, after its model was sampled.",
                ),
                io.Image.Input(
                    "exo_images", tooltip="The frames of the exo video, from Load Exo Video."
                ),
                io.Image.Input(
                    "ego_images",
                    tooltip=(
                        "The generated ego video, upright, from Decode Ego Half. The pixel is "
                        "chosen in it."
                    ),
                ),
                io.Int.Input(
                    "ego_x",
                    default=224,
                    min=0,
                    max=4095,
                    tooltip=(
                        "Column of the ego pixel. To set column and row, click into the ego image "
                        "on this node."
                    ),
                ),
                io.Int.Input(
                    "ego_y",
                    default=224,
                    min=0,
                    max=4095,
                    tooltip="Row of the ego pixel. Set by a click as well.",
                ),
                io.Int.Input(
                    "frame", default=0, min=0, max=100000, tooltip="Frame number of the ego pixel."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="view", tooltip="The images with their legends."),
                io.String.Output(
                    display_name="report",
                    tooltip="Text with step, block, and the exo half's share of the attention.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, attention, exo_images, ego_images, ego_x, ego_y, frame) -> io.NodeOutput:
        record = attention.record
        if record is None:
            raise EgoXInputError(
                "captured attention",
                got="nothing",
                expected="a block of a sampled step",
                fix="connect the model of EgoX Attention Capture to the sampler whose video is "
                "connected to ego_images; if it is, ComfyUI dropped the capture to save memory: "
                "change the seed and run again",
            )
        pixel = ego_x, ego_y
        view, maps, text = attention_view(
            record, exo_images, ego_images, pixel, frame, host_progress()
        )
        ui = result_views and result_views.attention(
            exo_images, ego_images, pixel, frame, maps, text
        )
        return io.NodeOutput(view[None], text, ui=ui)


def index_from_start(label: str, number: int, count: int, range_name: str) -> int:
    """Convert a negative index, which counts from the end, to a positive one.

    Raises:
        EgoXInputError: outside.
    """
    if not -count <= number < count:
        raise EgoXInputError(
            label,
            got=number,
            expected=f"0 to {count - 1} ({range_name}), or -1 for the last",
            fix=f"capture a different {label}",
        )
    return number % count
