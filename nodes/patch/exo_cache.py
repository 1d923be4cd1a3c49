"""Connect the exo cache to ComfyUI's model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy.samplers import get_area_and_mult
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.frozen import content_digest, frozen
from ...egox_core.gga import ExoCache, ExoForward, kept_size
from ...egox_core.sizes import PATCH
from ..host.names import MODULES, code_words
from .checks import CACHE, WEIGHTS, whole_canvas_fix
from .code_origin import is_hosts_own, module_of, name_code

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

    from ..host.steps import PartSeconds

REQUESTED_CONDITIONS = "egox_asked"
"""Key in transformer_options for the conditions that the guider requests at this noise level."""
NAMES = "cond_or_uncond", "uuids"
"""Keys in transformer_options for the side and id of each stacked condition."""
OVERRIDE = "optimized_attention_override"
SLOTS = "patches_replace"
OF_OURS = __name__.removesuffix("patch.exo_cache")  # prefix of the modules of this pack's nodes


@frozen
class ExoCall:
    """Describe one model call to the exo cache: its conditions, noise level and other inputs."""

    # All that makes exo's keys and values others but condition, noise level and weights.
    key: Hashable
    conditions: tuple  # names of the stacked ones, in their order
    sigma: float
    sigmas: list[float]  # of the run
    weights: Hashable
    asked: Collection  # conditions that are asked for together; empty: not known


@torch.compiler.disable
def make_exo_call(
    cache: ExoCache,
    # The executor of the host's Wan model.
    executor: WrapperExecutor,
    x: Tensor,  # [B, 36, t, h, w_ego]
    # What the model is told of each condition, [B, ...] each.
    condition_tensors: Sequence[Tensor],
    # The transformer_options of this call.
    options: Mapping[str, Any],
    # Latent frames of the context window; None: all of them.
    frames: list[int] | None,
    # Latents that are sampled together; 0: not known.
    batch: int,
) -> ExoCall | None:
    """Describe a model call to the exo cache, or return None if the cache can't be used.

    Code of other nodes between the patch and the model (later wrappers, patches, replaced
    blocks, positions) may need the whole canvas, so that exo is computed again. Layers that
    ComfyUI's own nodes skip need not. The key contains all that changes exo's keys and values.
    """
    sigmas, sigma = options.get("sample_sigmas"), options.get("sigmas")
    later_wrappers = executor.wrappers[executor.idx + 1 :]
    mixing_code = list_mixing_code(executor, options)
    for code in later_wrappers:
        cache.note_whole_canvas_code(name_code(code), may_be_early=True)
    for code in mixing_code:
        cache.note_whole_canvas_code(name_code(code), may_be_early=False)
    if sigmas is None or sigma is None or later_wrappers or mixing_code:
        cache.full_count += 1
        return None
    uuid_names = condition_names(options, len(x), batch)
    condition_keys = uuid_names or digest_conditions(condition_tensors, len(x), batch)
    replaced_blocks = frozenset((options.get(SLOTS) or {}).get("dit") or ())
    window_key = None if frames is None else tuple(frames)
    return ExoCall(
        key=(
            x.shape[1:],
            len(x) // len(condition_keys),
            x.dtype,
            x.device,
            window_key,
            replaced_blocks,
        ),
        conditions=condition_keys,
        sigma=float(sigma.flatten()[0]),
        sigmas=sigmas.tolist(),
        weights=options.get(WEIGHTS),
        asked=options.get(REQUESTED_CONDITIONS, ()) if uuid_names else (),
    )


def condition_names(options: Mapping[str, Any], rows: int, batch: int) -> tuple:
    """List ComfyUI's names of the stacked conditions.

    Names may belong to other rows where a wrapper calls the model for one condition of a stack
    at a time. Without names the batch is one condition. A negative that ComfyUI makes for a
    positive's area has the positive's name.
    """
    uuids = options.get("uuids") or (None,)
    condition_sides = options.get("cond_or_uncond") or (0,) * len(uuids)
    rows_match = len(uuids) == len(condition_sides) and rows % len(condition_sides) == 0
    if not rows_match or batch not in (0, rows // len(condition_sides)):
        return ()
    return tuple(zip(condition_sides, uuids, strict=True))


def digest_conditions(condition_tensors: Sequence[Tensor], rows: int, batch: int) -> tuple:
    """Name the conditions of a batch by digests of their tensors."""
    condition_count = rows // batch if batch and rows % batch == 0 else 1
    condition_parts = [tensor.chunk(condition_count) for tensor in condition_tensors]
    return tuple(
        content_digest(*part_tensors) for part_tensors in zip(*condition_parts, strict=True)
    )


@torch.compiler.disable
def open_exo_cache(
    cache: ExoCache,
    call: ExoCall,
    executor: WrapperExecutor,
    x: Tensor,  # [B, 36, t, h, w_ego]
    w_exo: int,  # latents
) -> ExoForward | None:
    """Open the exo cache for a model call, or return None if memory is short."""
    transformer = executor.class_obj
    batch, _, t, h, w_ego = x.shape
    token_grid = t, h // PATCH, w_exo // PATCH, w_ego // PATCH
    cache_sizes = len(transformer.blocks), batch, token_grid, transformer.dim
    return cache.forward(
        call.key,
        call.conditions,
        call.sigma,
        call.sigmas,
        token_grid,
        kept_size(*cache_sizes, x.element_size()),
        x.device,
        packed_bytes=kept_size(*cache_sizes, None),
        weights=call.weights,
        asked=call.asked,
    )


@torch.compiler.disable
def group_conditions(cache: ExoCache, call: ExoCall) -> list[list[int]]:
    """Group the conditions that one forward can compute together."""
    return cache.alike(call.key, call.conditions, call.sigma, call.sigmas, call.weights)


@torch.compiler.disable
def forward_by_group(
    forward: Callable[..., Tensor],
    groups: list[list[int]],
    batched: Sequence[Tensor | None],  # [B, ...] each
    options: Mapping[str, Any],
) -> Tensor:  # [B, ...]
    """Run one forward for each group of conditions, and restore the original order."""
    condition_count = sum(map(len, groups))
    output_by_place: dict[int, Tensor] = {}
    for group_places in groups:
        condition_chunks = [None if x is None else x.chunk(condition_count) for x in batched]
        group_rows = [
            None if x is None else torch.cat([x[place] for place in group_places])
            for x in condition_chunks
        ]
        tensors_by_name = {
            name: [options[name][place] for place in group_places]
            for name in NAMES
            if len(options.get(name) or ()) == condition_count
        }
        group_output = forward(*group_rows, {**options, **tensors_by_name})
        output_by_place |= dict(
            zip(group_places, group_output.chunk(len(group_places)), strict=True)
        )
    return torch.cat([output_by_place[place] for place in range(condition_count)])


def list_requested_conditions(
    executor: WrapperExecutor,
    model: Any,
    conds: list[list[dict] | None],
    x: Tensor,
    timestep: Tensor,  # [B] sigmas
    model_options: dict[str, Any],
) -> Any:
    """Record which conditions ComfyUI requests in a step, as a CALC_COND_BATCH wrapper."""
    condition_ids = frozenset(
        (side, cond["uuid"])
        for side, entries in enumerate(conds)
        for cond in entries or ()
        if get_area_and_mult(cond, x, timestep) is not None
    )
    transformer_options = {
        **model_options.get("transformer_options", {}),
        REQUESTED_CONDITIONS: condition_ids,
    }
    return executor(
        model, conds, x, timestep, {**model_options, "transformer_options": transformer_options}
    )


@torch.compiler.disable
def add_block_inputs(
    options: dict[str, Any], exo: ExoForward, executor: WrapperExecutor, seconds: PartSeconds
) -> dict[str, Any]:
    """Add block replacements that cache each block's input in 8 bits.

    Without 8 bits the options stay unchanged, because keys and values are cached themselves.
    """
    if not exo.packed:
        return options
    replacement_slots = options.get(SLOTS) or {}
    block_replacements = dict(replacement_slots.get("dit") or {})
    for number in range(len(executor.class_obj.blocks)):
        block_slot = ("double_block", number)
        block_replacements[block_slot] = BlockInput(
            exo, number, block_replacements.get(block_slot), seconds
        )
    return {**options, SLOTS: {**replacement_slots, "dit": block_replacements}}


class BlockInput:
    """Replace a transformer block to cache its input, or to reuse the cached one.

    A replacement that was there before (as ComfyUI uses to skip layers) decides whether the
    block runs."""

    def __init__(
        self, exo: ExoForward, number: int, previous: Callable | None, seconds: PartSeconds
    ) -> None:
        self.exo, self.number, self.previous, self.seconds = exo, number, previous, seconds

    @torch.compiler.disable(recursive=False)
    def __call__(self, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        original = extra["original_block"]

        def run_block(args: dict[str, Any]) -> dict[str, Any]:
            with self.seconds.measure(CACHE, args["img"].device):
                if self.exo.reuses_exo:
                    self.project(args, original)
                else:
                    self.exo.keep_input(self.number, args["img"], args["vec"], args["pe"])
            return original(args)

        if self.previous is not None:
            return self.previous(args, {**extra, "original_block": run_block})
        return run_block(args)

    def project(self, args: dict[str, Any], original: Callable) -> None:
        """Compute the exo keys and values of a block from its cached input."""
        block_input, modulation, rotations = self.exo.kept_input(self.number, args["img"].dtype)
        options = {**args["transformer_options"], OVERRIDE: catch_keys}
        exo_arguments = {
            "img": block_input,
            "vec": modulation,
            "pe": rotations,
            "transformer_options": options,
        }
        try:
            original({**args, **exo_arguments})
        except _KeysCaught as caught:
            self.exo.put_projected(self.number, *caught.keys_and_values)


class _KeysCaught(Exception):
    """Exception that carries a block's keys and values to the caller."""

    def __init__(self, *pair: Tensor) -> None:  # [B, tokens, heads * d] each
        super().__init__()
        self.keys_and_values = pair


@torch.compiler.disable
def catch_keys(func: Callable, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> None:
    """Raise :class:`_KeysCaught` with the keys and values of an attention call."""
    raise _KeysCaught(k, v)


def list_mixing_code(executor: WrapperExecutor, options: Mapping[str, Any]) -> list[Any]:
    """List the code of other nodes in the model that may mix tokens of both halves.

    The hook of Attention Capture works with both halves, and a patch that this transformer never
    asks does nothing. ComfyUI's own code may stay where it replaces blocks (to skip layers) and
    as methods of transformer, blocks and self-attentions.
    """
    transformer = executor.class_obj
    asked_words = code_words(MODULES["comfy.ldm.wan.model"]())
    patch_functions = (
        code
        for kind, codes in (options.get("patches") or {}).items()
        for code in codes
        if kind in asked_words
    )
    replacements = ((options.get(SLOTS) or {}).get("dit") or {}).values()
    # Not of cross-attention (NAG) or the rest of a block, where each token is on its own.
    mixing_modules = [
        getattr(module, "_orig_mod", module)  # as it is behind torch.compile
        for block in transformer.blocks
        for module in (block, block.self_attn)
    ]
    called_methods = [transformer.rope_encode, transformer.forward_orig]
    for module in mixing_modules:
        torch_hooks = *module._forward_hooks.values(), *module._forward_pre_hooks.values()
        called_methods += [module.forward, *torch_hooks]
    return [
        *(code for code in patch_functions if not module_of(code).startswith(OF_OURS)),
        *(code for code in (*replacements, *called_methods) if not is_hosts_own(code)),
    ]


def check_alone(cache: ExoCache, forward: ExoForward | None) -> ExoForward:
    """Refuse a LoRA that needs the exo cache if the cache can't be used.

    Raises:
        EgoXInputError: code of another node that needs whole canvases, no memory.
    """
    if forward is not None:
        return forward
    if cache.whole_canvas_code:
        raise EgoXInputError(
            "a LoRA that was trained with exo alone",
            got=", ".join(sorted(cache.whole_canvas_code)),
            expected="no node between the EgoX patch and the model that needs whole canvases",
            fix=whole_canvas_fix(cache.whole_canvas_code),
        )
    raise EgoXInputError(
        "memory for the exo half, which a run with this LoRA keeps",
        got=f"no room for {cache.refused_bytes / 1e9:.3g} GB",
        expected="that much on the GPU or in main memory",
        fix="close other programs, or take a LoRA that was trained with exo sees_ego",
    )


def shift_rope_options(w_exo: int, options: Mapping[str, float] | None) -> dict[str, float]:
    """Compute the rotary position options that place the ego half right of the exo half."""
    options = dict(options or {})
    options["shift_x"] = options.get("shift_x", 0.0) + w_exo // PATCH * options.get("scale_x", 1.0)
    return options
