"""Run one forward of the patched model on the whole canvas, and return the ego half.

ComfyUI's node for torch.compile drops every guard on transformer_options, so that compiled code
of an earlier run is reused although another wrapper, strength or window is in them. What changes
between calls therefore runs outside compiled code (``torch.compiler.disable``). Whether there is
a canvas, guidance, or positions for tokens shows in the names of keyword arguments, whose guards
stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

try:
    from comfy.model_prefetch import pause_malloc_graph
except ImportError:  # hosts before 0.35
    from contextlib import nullcontext as pause_malloc_graph

from ...egox_core.errors import EgoXInputError
from ...egox_core.finite import check_finite
from ...egox_core.gga import (
    ExoForward,
    GgaOptions,
    KernelsUsed,
    gga_attention,
    or_cudnn,
)
from ...egox_core.types import GgaGeometry
from ...egox_core.wan import widen
from .checks import (
    ATTENTION,
    CACHE,
    FULL,
    KEPT,
    RETAINED,
    WEIGHTS,
    PatchCalls,
)
from .code_origin import is_hosts_own
from .exo_cache import (
    OVERRIDE,
    SLOTS,
    add_block_inputs,
    check_alone,
    forward_by_group,
    group_conditions,
    make_exo_call,
    open_exo_cache,
    shift_rope_options,
)

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

PLACED_BYTES = 64 * 2**20
"""Limit of the bytes of directions kept on the model's devices, beyond which they are selected
again at each call (``benchmarks/results/constants.md``)."""
untraced_widen = torch.compiler.disable(widen)
CANVAS_MARK = "egox_canvas"
GUIDED_MARK = "egox_guided"
KEPT_MARK = "egox_exo_kept"
STORED_MARK = "egox_exo_stored"
ALONE_MARK = "egox_exo_alone"
JOINED_KEYS = "egox_joined_keys"
"""Key in the transformer_options of ComfyUI's hook after self-attention: both halves' keys [B,
tokens, heads * d], where ComfyUI has only those of the ego half."""


def mark_canvas(
    executor: WrapperExecutor,
    x: Tensor,  # [B, 16, t, h, w_ego]
    t: Tensor,  # [B]
    c_concat: Tensor | None = None,
    c_crossattn: Tensor | None = None,
    control: Any = None,
    transformer_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Mark calls of a patched model, so that torch.compile compiles separate code for them.

    It also records the hooks that ComfyUI has just put into the weights (scheduled LoRAs), for
    the exo cache."""
    lora_hooks = executor.class_obj.current_patcher.current_hooks
    options = transformer_options or {}
    if lora_hooks is not None:
        weights = tuple((id(hook.hook_ref), hook.strength) for hook in lora_hooks.hooks)
        options = {**options, WEIGHTS: weights}
    kwargs[CANVAS_MARK] = None
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


class WideningWrapper:
    """Add the exo half to the model's input, and cut the ego half out of its output.

    A sampler that never sees the exo half can't change it, so the result equals a loop at full
    width whose exo velocity is zero. The clean exo latent is in model space, and ComfyUI moves
    it with the model by calling :meth:`to`."""

    def __init__(
        self,
        exo: Tensor,  # [B, 16, t, h, w_exo] clean exo latent, model space
        mask_exo: Tensor,  # [B, 4, t, h, w_exo] 1 = known
        guidance: GeometryGuidance | None,
        # Condition latent of the exo half [B, 16, t, h, w_exo]; None: the exo latent.
        cond_exo: Tensor | None = None,
        # Counts the forwards of a run; None if nobody asks for them.
        calls: PatchCalls | None = None,
        # In latents; None if calls are never cut into tiles.
        w_ego: int | None = None,
    ) -> None:
        self.exo = exo
        self.cond_exo = exo if cond_exo is None else cond_exo
        self.mask_exo = mask_exo
        self.guidance = guidance
        self.calls = calls or PatchCalls()
        self.w_ego = w_ego

    def to(self, target: torch.device | torch.dtype) -> WideningWrapper:
        """Move the cached tensors to a device."""
        if isinstance(target, torch.dtype):
            return self
        self.exo = self.exo.to(target)
        self.cond_exo = self.cond_exo.to(target)
        self.mask_exo = self.mask_exo.to(target)
        if self.guidance is not None:
            self.guidance.model_moved()
        return self

    @torch.compiler.disable(recursive=False)
    def __call__(
        self,
        executor: WrapperExecutor,
        x: Tensor,  # [B, 36, t, h, w_ego], cond and uncond stacked
        timestep: Tensor,  # [B]
        context: Tensor,  # [B, text tokens, text_dim]
        clip_fea: Tensor | None = None,  # [B, picture tokens, image_dim]
        # It is refused beforehand by check_conditioning.
        time_dim_concat: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:  # [B, 16, t, h, w_ego]
        self.calls.widened_count += 1
        options = dict(transformer_options or {})
        kwargs.pop(CANVAS_MARK, None)
        exo_latent, exo_mask, exo_cond_latent = self.exo, self.mask_exo, self.cond_exo
        frames = window_frames(options, exo_latent.shape[2], x.shape[2])
        if frames is not None:
            exo_latent, exo_mask, exo_cond_latent = (
                tensor[:, :, frames] for tensor in (exo_latent, exo_mask, exo_cond_latent)
            )
        w_ego = x.shape[4] if self.w_ego is None else self.w_ego
        check_call(x, (exo_latent.shape[2], exo_latent.shape[3], w_ego))
        if executor.class_obj.img_emb is None:
            # Wan 2.2 I2V takes no picture embedding, whatever the conditioning holds
            clip_fea = None
        geometry = (
            None if self.guidance is None else self.guidance.directions(x.device, frames, x.dtype)
        )
        exo_forward = None
        block_count = len(executor.class_obj.blocks)
        skipped_layers = list_skipped_layers(options)
        cache = self.calls.exo_cache
        cross_lengths = (
            {context.shape[1]} if clip_fea is None else {context.shape[1], clip_fea.shape[-2]}
        )
        exo_call = None
        if cache is not None:
            condition_tensors = [tensor for tensor in (context, clip_fea) if tensor is not None]
            exo_call = make_exo_call(
                cache, executor, x, condition_tensors, options, frames, self.calls.batch
            )
        if cache is not None and exo_call is not None:
            condition_groups = group_conditions(cache, exo_call)
            if len(condition_groups) > 1:

                def forward_rows(x, timestep, context, clip_fea, options):
                    return self(
                        executor, x, timestep, context, clip_fea, time_dim_concat, options, **kwargs
                    )

                stacked_inputs = x, timestep, context, clip_fea
                return forward_by_group(forward_rows, condition_groups, stacked_inputs, options)
            exo_forward = open_exo_cache(cache, exo_call, executor, x, exo_latent.shape[-1])
        if cache is not None and cache.exo_is_alone:
            exo_forward = check_alone(cache, exo_forward)
            if not exo_forward.reuses_exo:
                override = AttentionOverride(
                    None, None, options.get(OVERRIDE), cross_lengths, self.calls, exo_forward
                )
                exo_input = untraced_widen(x, exo_latent, exo_mask, exo_cond_latent)[
                    ..., : exo_latent.shape[-1]
                ]
                with self.calls.seconds.measure(FULL, x.device):
                    executor(
                        exo_input,
                        torch.zeros_like(timestep),
                        context,
                        clip_fea,
                        time_dim_concat,
                        add_block_inputs(
                            {**options, OVERRIDE: override},
                            exo_forward,
                            executor,
                            self.calls.seconds,
                        ),
                        **kwargs,
                        **{ALONE_MARK: None},
                    )
                exo_forward.finish(block_count, skipped_layers)
        if geometry is not None:
            self.calls.guided_count += 1
            guided_layers = block_count - len(skipped_layers)
            kwargs[GUIDED_MARK] = None
        if geometry is not None or exo_forward is not None:
            options[OVERRIDE] = AttentionOverride(
                geometry,
                self.guidance,
                options.get(OVERRIDE),
                cross_lengths,
                self.calls,
                exo_forward,
            )
        uses_cache = exo_forward is not None and exo_forward.reuses_exo
        if exo_forward is not None:
            options = add_block_inputs(options, exo_forward, executor, self.calls.seconds)
            if not uses_cache:
                kwargs[STORED_MARK] = None
        if uses_cache:
            kwargs[KEPT_MARK] = None
            options["rope_options"] = shift_rope_options(
                exo_latent.shape[-1], options.get("rope_options")
            )
            model_input = x
        else:
            model_input = untraced_widen(x, exo_latent, exo_mask, exo_cond_latent)
            self.calls.ego_share = x.shape[-1] / model_input.shape[-1]

        # No function of ours, which compiling hosts would trace.
        forward = partial(
            executor, model_input, timestep, context, clip_fea, time_dim_concat, options, **kwargs
        )
        attended_before = self.calls.attention_count
        with self.calls.seconds.measure(KEPT if uses_cache else FULL, x.device):
            model_output = forward()
        if geometry is not None and (
            self.calls.attention_count > attended_before or not may_skip_forwards(executor)
        ):
            self.calls.expected_attention_count += guided_layers
        ego_output = model_output if uses_cache else model_output[..., exo_latent.shape[-1] :]
        torch.compiler.disable(check_finite)(
            ego_output,
            self.calls.steps + 1,
            {"the latent": model_input, "the text": context, "the picture embedding": clip_fea},
            executor.class_obj.blocks,
            forward,
        )
        if exo_forward is not None and not uses_cache:
            exo_forward.finish(block_count, skipped_layers)
        return ego_output


@torch.compiler.disable
def list_skipped_layers(options: Mapping[str, Any]) -> set[int]:
    """List the numbers of the transformer blocks that ComfyUI's nodes skip in this call."""
    replacements = ((options.get(SLOTS) or {}).get("dit") or {}).items()
    return {
        place[1]
        for place, code in replacements
        if place[0] == "double_block" and is_hosts_own(code)
    }


@torch.compiler.disable
def may_skip_forwards(executor: WrapperExecutor) -> bool:
    """Check whether a later node may skip whole model calls, as EasyCache does."""
    later_wrappers = executor.wrappers[executor.idx + 1 :]
    return any(is_hosts_own(code) for code in later_wrappers)


@torch.compiler.disable
def check_call(
    x: Tensor,  # [B, 36, t, h, w] as a call brings it
    # Sizes t, h, w of the ego half in this call.
    expected: tuple[int, int, int],
) -> None:
    """Refuse an input that covers only a part of the ego half.

    Raises:
        EgoXInputError: other frames than the host's context window says, or a tile of the picture.
    """
    if x.shape[2:] != expected:
        raise EgoXInputError(
            "the latent in a call of the model",
            got="{} frames of {} x {} latents".format(*x.shape[2:]),
            expected="{} frames of {} x {}, the ego half".format(*expected),
            fix="remove a node that cuts the latent into windows or tiles; ComfyUI's own context "
            "windows may stay",
        )


class GeometryGuidance:
    """Store the ray directions and the options that guide the attention of one patched model.

    The clip's directions stay on their device. What a call needs is copied to the call's device
    in float32, which the logarithm needs. The wrapper calls :meth:`model_moved` when the model
    moves."""

    def __init__(self, geometry: GgaGeometry, options: GgaOptions, backend: str) -> None:
        self.geometry = geometry
        self.options = options
        self.backend = backend
        self._placed: dict[tuple, GgaGeometry] = {}

    def model_moved(self) -> None:
        """Delete the copied directions from the device that the model has left."""
        self._placed.clear()

    @torch.compiler.disable
    def directions(
        self, device: torch.device, frames: list[int] | None, dtype: torch.dtype
    ) -> GgaGeometry:
        """Return the ray directions of some frames on a device, prepared for the attention kernel.

        A model spread over several GPUs calls on each of them. The copies that were used last
        are kept, up to PLACED_BYTES.
        """
        if frames is None and device == self.geometry.key_dirs.device:
            return self.geometry
        placement_key = (device, None if frames is None else tuple(frames))
        device_geometry = self._placed.pop(placement_key, None)
        if device_geometry is None:
            # Kept from call to call, so it may not be in memory that a compiling host takes back
            # after the forward.
            with pause_malloc_graph():
                geometry = self.geometry if frames is None else self.geometry.select_frames(frames)
                device_geometry = geometry.to(device)
                KernelsUsed.prepare(device_geometry, self.options, dtype, self.backend)
        while self._placed and self.placed_bytes + geometry_bytes(device_geometry) > PLACED_BYTES:
            del self._placed[
                next(iter(self._placed))
            ]  # a dict is in order of insertion: the one unused for longest
        if geometry_bytes(device_geometry) <= PLACED_BYTES:
            self._placed[placement_key] = device_geometry
        return device_geometry

    @property
    def placed_bytes(self) -> int:
        """Bytes of the ray directions that are kept on the model's devices."""
        return sum(geometry_bytes(device_geometry) for device_geometry in self._placed.values())


def geometry_bytes(geometry: GgaGeometry) -> int:
    """Count the bytes of a geometry's directions and trust."""
    return sum(
        x.numel() * x.element_size()
        for x in (geometry.query_dirs, geometry.key_dirs, geometry.key_trust)
    )


class AttentionOverride:
    """Add the geometric bias to ego queries in self-attention.

    With an exo cache, the exo half's keys and values are stored in a full forward and added to a
    later one."""

    def __init__(
        self,
        # None if nothing is biased.
        geometry: GgaGeometry | None,
        guidance: GeometryGuidance | None,
        previous: Callable | None,
        cross_lengths: set[int],
        calls: PatchCalls,
        exo: ExoForward | None = None,
    ) -> None:
        self.geometry = geometry
        self.guidance = guidance
        self.previous = previous
        self.calls = calls
        self.exo = exo
        token_source = geometry if exo is None else exo
        assert token_source is not None  # or there is nothing to override
        self.tokens = token_source.tokens  # that go through the model
        # Self- and cross-attention differ in the number of keys. Where they don't (a canvas of 512
        # or 257 tokens), the first call of a block is the self-attention.
        self.ambiguous = self.tokens in cross_lengths
        self.last_block: int | None = None

    @torch.compiler.disable
    def __call__(
        self,
        # The host's own attention.
        func: Callable,
        q: Tensor,  # [B, n, heads * d]
        k: Tensor,  # [B, N, heads * d]
        v: Tensor,  # [B, N, heads * d]
        heads: int,
        mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:  # [B, n, heads * d]
        def attend_unbiased(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
            if self.previous is not None:
                return self.previous(func, q, k, v, heads, mask=mask, **kwargs)
            return func(q, k, v, heads, mask=mask, **kwargs)

        call_options = kwargs.get("transformer_options") or {}
        block_number = call_options.get("block_index", 0)
        if not self.is_self_attention(q, k, block_number):
            return attend_unbiased(q, k, v, heads)
        part_seconds = self.calls.seconds
        if self.exo is not None:
            with part_seconds.measure(CACHE, q.device):
                k, v = self.exo.keys_and_values(block_number, k, v)
            if self.exo.reuses_exo and "attn1_patch" in (call_options.get("patches") or {}):
                call_options[JOINED_KEYS] = k
        with part_seconds.measure(ATTENTION, q.device):
            if self.geometry is None or self.guidance is None:
                return attend_unbiased(q, k, v, heads)
            self.calls.attention_count += 1
            uses_torch = self.previous is None and mask is None and lets_torch_choose(func)
            kernels_used = self.calls.kernels
            return gga_attention(
                q,
                k,
                v,
                heads,
                self.geometry,
                self.guidance.options,
                plain=or_cudnn(attend_unbiased, kernels_used) if uses_torch else attend_unbiased,
                backend=self.guidance.backend,
                used=kernels_used,
            )

    def is_self_attention(
        self,
        q: Tensor,  # [B, n, heads * d]
        k: Tensor,  # [B, N, heads * d]
        block: int,
    ) -> bool:
        """Check whether an attention call is self-attention over all tokens."""
        if q.shape[1] != self.tokens or k.shape[1] != self.tokens:
            return False
        if not self.ambiguous:
            return True
        is_first_call = block != self.last_block
        self.last_block = block
        return is_first_call


def lets_torch_choose(func: Callable) -> bool:
    """Check whether ComfyUI's attention function is torch's own."""
    return getattr(func, "__name__", "") == "attention_pytorch"


@torch.compiler.disable
def window_frames(
    transformer_options: Mapping[str, Any],
    # Number of latent frames of the clip.
    clip: int,
    # Number of latent frames of this call.
    call: int,
) -> list[int] | None:
    """List the latent frames of a context window, or return None without a window.

    A looped window with ComfyUI's anchor frame may be as long as the clip and yet begin in its
    middle. In a retained place the whole exo half shows the retained frame, as the ego half's
    condition does.
    """
    context_window = transformer_options.get("context_window")
    if context_window is None:
        return None
    frame_numbers = context_window.get_tensor(torch.arange(clip)[None], dim=1)[0].tolist()
    for place in transformer_options.get(RETAINED, ()):
        frame_numbers[place] = place
    is_stale_window = (
        call == clip != len(frame_numbers)
    )  # of an earlier windowed call; this one is whole
    return None if is_stale_window or frame_numbers == list(range(clip)) else frame_numbers
