"""Check before and during sampling that model, conditioning and patch fit together.

Only ComfyUI's plain Wan class with 36 input channels is accepted, before anything is changed.
Nodes that replace the model's forward (as TeaCache nodes do) bypass canvas or geometry without
an error, so the run counts what passed through the patch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.model_base
import torch
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.gga import ExoCache, KernelsUsed, kept_size
from ...egox_core.sizes import MODEL_CHANNELS, PATCH
from ...egox_core.types import Canvas
from ...egox_core.wan import MODEL_FIX
from ..host.memory import ComfyMemory
from ..host.steps import CALLBACK, PartSeconds, show_on_node
from .code_origin import is_hosts_own, name_code

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

REFUSED_CONDITIONING = {
    "time_dim_concat": "frames appended in time",
    "context_latents": "in-context reference latents",
    "reference_latents": "reference latents",
}
REFUSED_PATCHES = {
    "WanUni3CCnetPatch": "Uni3C's control, which lays its video over exo and ego half alike",
    "MultiTalkCrossAttnPatch": "InfiniteTalk's audio, which takes exo and ego half for one picture",
}
"""Classes of ComfyUI's model patches that treat the whole canvas as one picture."""
BYPASSED_FIX = (
    "remove the node that replaces the model's forward: TeaCache nodes do (ComfyUI's own EasyCache "
    "may stay)"
)
COMPILED_FORMS = 64
WEIGHTS = "egox_weights"
"""Key in transformer_options for the hooks that change the model's weights in this forward, with
their strengths."""
RETAINED = "egox_retained_places"
"""Key in transformer_options for the places of a window that show the first frame's condition
(``retain_first_frame``: place 0)."""
TIME = 2  # dimension of the latent
FULL, KEPT, ATTENTION, CACHE = "full", "kept", "attention", "cache"
"""Timed parts of a run: forwards of the whole canvas, forwards of the ego half, self-attention in
them, and access to the cached exo half."""
OFFERED = 4
"""Setting of *recompute exo* that the note suggests."""


def check_model(model: ModelPatcher) -> None:
    """Refuse a model that doesn't take EgoX's canvas as input.

    ``isinstance`` would let the host's subclasses pass (camera, dance, VACE, ...), some of which
    also have 36 channels but read them otherwise, so the class must be the plain one.

    Raises:
        EgoXInputError: another class, another channel count, or a model that takes a reference
            picture as tokens.
    """
    model_class = type(model.model)
    if model_class is not comfy.model_base.WAN21:
        raise EgoXInputError(
            "model",
            got=f"a {model_class.__name__} model",
            expected="a plain Wan image-to-video model",
            fix=MODEL_FIX,
        )
    transformer = model.get_model_object("diffusion_model")
    if transformer.in_dim != MODEL_CHANNELS:
        raise EgoXInputError(
            "model",
            got=f"a Wan model with {transformer.in_dim} input channels",
            expected=f"{MODEL_CHANNELS} input channels (16 noisy, 4 mask, 16 condition)",
            fix=MODEL_FIX,
        )
    if transformer.ref_conv is not None:
        raise EgoXInputError(
            "model",
            got="a Wan model with a reference-image input (ref_conv)",
            expected="a plain Wan image-to-video model",
            fix=MODEL_FIX,
        )


def has_image_embedding(model: ModelPatcher) -> bool:
    """Check whether a transformer takes an image embedding."""
    return getattr(model.get_model_object("diffusion_model"), "img_emb", None) is not None


RUN: ContextVar[PatchCalls | None] = ContextVar("egox_run", default=None)
"""Counts of the current run, while its positive model is a patched one."""


@contextmanager
def running(calls: PatchCalls) -> Generator[None]:
    """Provide the call counts of the current run, as a context manager."""
    context_token = RUN.set(calls)
    try:
        yield
    finally:
        RUN.reset(context_token)


def check_in_run(model: ModelPatcher, patch_calls_of_run: PatchCalls) -> None:
    """Refuse a sampler that uses two models of which only one is patched.

    Raises:
        EgoXInputError: a guider of two models, of which the negative alone is patched.
    """
    active_calls = RUN.get()
    if active_calls is None:
        raise EgoXInputError(
            "models of the guider",
            got="the EgoX patch on the negative's model alone",
            expected="the EgoX patch on the positive's model, whose canvas both then take",
            fix="connect EgoX Model Patch to 'model' of the guider, and the unpatched model to "
            "'model_negative'",
        )
    if active_calls is not patch_calls_of_run:
        logging.warning(
            "[EgoX] the negative's own EgoX patch isn't asked: the positive's acts on both models"
        )


class SamplingCheck:
    """Refuse inputs that don't fit the canvas when sampling starts, as an OUTER_SAMPLE wrapper."""

    def __init__(self, canvas: Canvas, calls: PatchCalls) -> None:
        self.canvas = canvas
        self.calls = calls

    def __call__(
        self,
        executor: WrapperExecutor,
        noise: Tensor,  # [B, 16, t, h, w_ego]
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # [B, 16, t, h, w_ego]
        guider = executor.class_obj
        model = guider.model_patcher
        self.canvas.check_sampled(noise)
        check_conditioning(model, guider.conds, noise.shape[2:])
        check_patches(guider.model_options)
        transformer_options = guider.model_options.setdefault(
            "transformer_options", {}
        )  # this run's own copy
        transformer_options[RETAINED] = retained_places(
            guider.model_options.get("context_handler"), noise
        )
        self.calls.reset()
        self.calls.batch = len(noise)
        if len(args) > CALLBACK:
            args = (
                *args[:CALLBACK],
                self.calls.watch(args[CALLBACK], model),
                *args[CALLBACK + 1 :],
            )
        exo_cache = self.calls.exo_cache
        if exo_cache is None:
            with running(self.calls), allow_compiled_forms(model):
                return executor(noise, *args, **kwargs)
        t, h, w_exo, w_ego = self.canvas.latent_grid
        exo_cache.begin_run(ComfyMemory(model, [2 * noise.shape[0], 1, t, h, w_exo + w_ego]))
        # A guider without a cfg of its own asks for all of its conditions.
        condition_count = 1 if getattr(guider, "cfg", None) == 1.0 else len(guider.conds)
        self.calls.warning = describe_missing_room(
            exo_cache, model, condition_count * noise.shape[0], self.canvas
        )
        try:
            with running(self.calls), allow_compiled_forms(model):
                return executor(noise, *args, **kwargs)
        finally:
            exo_cache.clear()


def allow_compiled_forms(model: ModelPatcher) -> AbstractContextManager[None]:
    """Raise torch.compile's limit on variants of one function to what a run needs."""
    if "torch_compile_kwargs" not in model.model_options:
        return nullcontext()
    import torch._dynamo  # noqa: PLC0415  (takes a second)

    return torch._dynamo.config.patch(cache_size_limit=COMPILED_FORMS)


def describe_missing_room(cache: ExoCache, model: ModelPatcher, batch: int, canvas: Canvas) -> str:
    """Describe how much memory is missing to cache the exo half, or return ""."""
    t, h, w_exo, w_ego = canvas.latent_grid
    transformer: Any = model.get_model_object("diffusion_model")
    token_grid = t, h // PATCH, w_exo // PATCH, w_ego // PATCH
    needed_bytes = kept_size(len(transformer.blocks), batch, token_grid, transformer.dim, None)
    if any(
        cache.memory.available_bytes(device) >= needed_bytes
        for device in (model.load_device, torch.device("cpu"))
    ):
        return ""
    warning = (
        f"no room to keep exo, which takes {needed_bytes / 1e9:.3g} GB: every step computes all of "
        "it"
    )
    logging.warning("[EgoX] %s", warning)
    return warning


class WholeCanvasMemory:
    """Reserve memory for the whole canvas before sampling, as a PREPARE_SAMPLING wrapper."""

    def __init__(self, w_exo: int) -> None:
        self.w_exo = w_exo  # latents

    def __call__(
        self,
        executor: WrapperExecutor,
        model: ModelPatcher,
        noise_shape: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        return executor(model, [*noise_shape[:-1], noise_shape[-1] + self.w_exo], *args, **kwargs)

    def batching_patches(self) -> dict[str, Any]:
        """Make patches by which ComfyUI counts the exo half in its memory estimate.

        ComfyUI adds up the sizes of the input and of the named conditions, so the condition
        latent stands for the exo half."""
        return {
            "memory_usage_factor_conds": ("c_concat",),
            "memory_usage_shape_process": {"c_concat": lambda shape: [*shape[:-1], self.w_exo]},
        }


def check_conditioning(
    model: ModelPatcher,
    conds: dict[str, list[dict]],
    # t, h, w of the ego half in latents.
    size: Sequence[int],
) -> None:
    """Refuse conditioning that the canvas can't be sampled with.

    Raises:
        EgoXInputError: not from EgoX Conditioning, no picture embedding on a model that has one,
            extra latents, a part of the ego half alone, a mask of another length.
    """
    for name, entries in conds.items():
        for cond in entries or ():
            if "concat_latent_image" not in cond:
                raise EgoXInputError(
                    f"{name} conditioning",
                    got="no condition latent",
                    expected="the ego prior's",
                    fix="connect positive and negative of EgoX Conditioning to the sampler",
                )
            if has_image_embedding(model) and cond.get("clip_vision_output") is None:
                raise EgoXInputError(
                    "image embedding",
                    got="none",
                    expected="one, as this model (Wan 2.1 I2V) reads it",
                    fix="connect CLIP vision (clip_vision_h) to EgoX Conditioning",
                )
            for key, words in REFUSED_CONDITIONING.items():
                if cond.get(key) is not None:
                    raise EgoXInputError(
                        f"{name} conditioning",
                        got=words,
                        expected="only what EgoX Conditioning sets",
                        fix="take the node that adds them out of the conditioning's path",
                    )
            if cond.get("set_area_to_bounds") or covers_part(cond.get("area"), size):
                raise EgoXInputError(
                    f"{name} conditioning",
                    got="an area, a part of the picture or of the time",
                    expected="the whole ego half, which is computed next to exo",
                    fix="give the prompt a mask in place of the area: Conditioning (Set Mask) with "
                    "set_cond_area default",
                )
            condition_mask = cond.get("mask")
            if (
                condition_mask is not None
                and condition_mask.ndim == 3
                and len(condition_mask) not in (1, size[0])
            ):
                raise EgoXInputError(
                    f"mask of the {name} conditioning",
                    got=f"{len(condition_mask)} frames",
                    expected=f"1, or one for each of the {size[0]} latent frames",
                    fix="give it one picture of the mask",
                )


def covers_part(
    # A condition's ``area``: sizes, then starts, along the last dimensions. They are latents, or
    # after the word "percentage" shares. None means the whole latent.
    area: tuple | None,
    # t, h, w in latents.
    size: Sequence[int],
) -> bool:
    """Check whether a condition applies only to a part of the latent."""
    if area is None:
        return False
    is_percentage = area[0] == "percentage"
    area_numbers = area[1:] if is_percentage else area
    dimension_count = len(area_numbers) // 2
    if is_percentage and dimension_count < len(size):
        return True
    canvas_sizes = size[len(size) - dimension_count :]
    covered_sizes = [
        round(extent * n) if is_percentage else extent
        for extent, n in zip(area_numbers, canvas_sizes, strict=False)
    ]
    return any(area_numbers[dimension_count:]) or any(
        extent < n for extent, n in zip(covered_sizes, canvas_sizes, strict=True)
    )


def check_patches(model_options: Mapping[str, Any]) -> None:
    """Refuse patches of other nodes that treat both halves of the canvas as one picture.

    Raises:
        EgoXInputError: a patch of :data:`REFUSED_PATCHES`.
    """
    patches = model_options.get("transformer_options", {}).get("patches", {})
    for patch in (patch for patch_list in patches.values() for patch in patch_list):
        if words := REFUSED_PATCHES.get(type(patch).__name__):
            raise EgoXInputError(
                "model with a different node's patch",
                got=words,
                expected="patches that work on each token or know the canvas",
                fix="take that node out of the model's path; it works on a Wan model without EgoX",
            )


def retained_places(
    # The host's context handler; None without windows.
    handler: Any,
    noise: Tensor,  # [B, 16, t, h, w]
) -> tuple[int, ...]:
    """Find where a context window repeats the first frame's condition.

    The first place of a window is ComfyUI's anchor frame, whose result is dropped, so it may
    show frame 0. In a place whose result is used, a retained condition would draw frame 0 at
    another time, and a retained latent would differ in time from its condition.

    Raises:
        EgoXInputError: windows over another dimension than time; other frames retained than the
            first, or without the anchor frame before each window.
    """
    # A handler of another pack may know no length: each call's frames are looked at.
    window_length = getattr(handler, "context_length", None)
    if window_length is None or noise.shape[handler.dim] <= window_length:
        return ()
    if handler.dim != TIME:
        raise EgoXInputError(
            "dim of the context windows",
            got=handler.dim,
            expected=f"{TIME}, time",
            fix="use Wan Context Windows, which sets it",
        )
    condition_places = tuple(getattr(handler, "cond_retain_index_list", ()))
    latent_places = tuple(getattr(handler, "latent_retain_index_list", ()))
    frame_before = bool(getattr(handler, "causal_window_fix", False))
    if not condition_places and not latent_places:
        return ()
    if condition_places != (0,) or latent_places not in ((), (0,)) or not frame_before:
        raise EgoXInputError(
            "frames retained in every context window",
            got=f"condition {list(condition_places)}, latent {list(latent_places)}, "
            f"{'with' if frame_before else 'without'} a frame before each window",
            expected=(
                "the first frame's condition, in the place of the frame before (a result that is "
                "dropped)"
            ),
            fix="use Wan Context Windows with retain_first_frame, or retain none",
        )
    return condition_places


class PatchCalls:
    """Count how often a run called the patch's wrapper and attention override."""

    def __init__(self, exo_cache: ExoCache | None = None) -> None:
        self.kernels = KernelsUsed()
        self.exo_cache = exo_cache  # None: exo is recomputed in every forward
        self.seconds = PartSeconds()  # of FULL, KEPT, ATTENTION and CACHE
        self.reset()

    def reset(self) -> None:
        """Set the counts of calls and times to zero before a run."""
        self.batch = 0  # latents that are sampled together; 0: not known
        self.widened_count = 0  # forwards that saw the whole canvas
        self.guided_count = 0  # those of them in which geometry was to act
        self.attention_count = 0  # self-attentions in which geometry acted
        self.expected_attention_count = 0  # those in which it was to act
        self.bypassed_by = ""  # code of others that stood in the model where it didn't, in words
        self.steps = 0
        self.warning = ""  # before the first step, for people
        self.ego_share = 1.0  # of the tokens
        self.seconds.clear()
        self.kernels.clear()

    @property
    def lost(self) -> str | None:
        """Name of the part of the patch that a sampling step bypassed, or None."""
        if not self.widened_count:
            return "the exo half: the model ran without the EgoX canvas"
        if self.guided_count and not self.attention_count:
            return "the geometry: its attention override was never asked"
        return None

    def missed(self) -> str:
        """Describe how many attention calls ran without geometry, or return ""."""
        if self.attention_count >= self.expected_attention_count:
            return ""
        return (
            f"geometry acted in {self.attention_count} of {self.expected_attention_count} "
            f"self-attentions{self.bypassed_by}: {BYPASSED_FIX}"
        )

    def watch(self, callback: Callable | None, model: ModelPatcher) -> Callable:
        """Wrap the sampler's step callback so that a bypassed patch raises an error.

        Steps that a cache leaves out later are no failure. The callback raises an
        EgoXInputError.
        """
        is_first_step = True

        def check_and_call(step: int, *args: Any) -> Any:
            nonlocal is_first_step
            if is_first_step and self.lost is not None:
                raise EgoXInputError(
                    "first sampling step",
                    got=f"a step without {self.lost}{name_foreign_code(model)}",
                    expected="the patched model",
                    fix=BYPASSED_FIX,
                )
            is_first_step = False
            self.steps += 1
            if self.missed():
                self.bypassed_by = self.bypassed_by or name_foreign_code(model)
            return None if callback is None else callback(step, *args)

        return check_and_call


class NoteAfterRun:
    """Show on a node how a run was computed, as an OUTER_SAMPLE wrapper.

    The kernel is chosen while the model runs, on another node than the one that patched the
    model."""

    def __init__(self, node_id: str | None, note: str, calls: PatchCalls) -> None:
        self.node_id, self.note, self.calls = node_id, note, calls

    def __call__(
        self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.node_id is not None:
            show_text = self.calls.kernels.report_line = partial(show_on_node, node_id=self.node_id)
            if self.calls.warning:
                show_text(self.calls.warning)
        latent = executor(noise, *args, **kwargs)
        if self.node_id is not None:
            show_on_node(add_run_notes(self.note, self.calls), self.node_id)
        return latent


def add_run_notes(note: str, calls: PatchCalls) -> str:
    """Add to a node's note how the run that just ended was computed."""
    missed_note = calls.missed()
    if missed_note:
        logging.warning("[EgoX] %s", missed_note)
    note_parts = (
        note,
        missed_note,
        calls.kernels.words(),
        describe_exo_use(calls.exo_cache),
        describe_times(calls),
    )
    return "; ".join(part for part in note_parts if part)


def describe_exo_use(cache: ExoCache | None) -> str:
    """Describe how often the last run computed the exo half, or return ""."""
    if cache is None:
        return ""
    exo_note = (
        f"exo computed in {cache.full_count} of {cache.full_count + cache.reused_count} forwards"
    )
    if cache.refused_bytes:
        exo_note += f"; no room to keep it: it takes {cache.refused_bytes / 1e9:.3g} GB"
    if cache.whole_canvas_code:
        exo_note += (
            f"; {', '.join(sorted(cache.whole_canvas_code))} needs the whole canvas at every step: "
            f"{whole_canvas_fix(cache.whole_canvas_code)}"
        )
    return exo_note


def whole_canvas_fix(
    # Names of code that needs whole canvases, and whether it may stand before the patch.
    whole_canvas_code: Mapping[str, bool],
) -> str:
    """Write what to do with nodes whose code needs the whole canvas at every step."""
    early_names = [name for name, may_be_early in whole_canvas_code.items() if may_be_early]
    other_names = sorted(whole_canvas_code.keys() - early_names)
    parts = []
    if early_names:
        names = ", ".join(sorted(early_names))
        parts.append(f"add the node of {names} before the EgoX patch, or take it out")
    if other_names:
        parts.append(f"take the node of {', '.join(other_names)} out of the model's path")
    return "; ".join(parts)


def describe_times(calls: PatchCalls) -> str:
    """Describe how long each part of the last run took."""
    total_seconds = calls.seconds.total(FULL, KEPT)
    if not calls.steps or total_seconds == 0:
        return ""
    time_note = f"{total_seconds / calls.steps:.3g} s per step in the model"
    if kept_seconds := calls.seconds.mean(KEPT):
        time_note += (
            f" (a forward {calls.seconds.mean(FULL):.3g} s, with exo kept {kept_seconds:.3g} s)"
        )
    if attention_seconds := calls.seconds.total(ATTENTION):
        time_note += f", {100 * attention_seconds / total_seconds:.0f} % of it in self-attention"
    if cache_seconds := calls.seconds.total(CACHE):
        time_note += f", {100 * cache_seconds / total_seconds:.0f} % in keeping exo"
    if calls.exo_cache is None and calls.steps >= 2 * OFFERED:
        full_share = -(-calls.steps // OFFERED) / calls.steps
        computed_share = full_share + (1 - full_share) * calls.ego_share
        time_note += (
            f"; recompute exo {OFFERED} would take about {100 * computed_share:.0f} % of it"
        )
    return time_note


def name_foreign_code(model: ModelPatcher) -> str:
    """Name the code of other node packs that changes the model, or return ""."""
    called_functions = [model.model_options.get("model_function_wrapper")]
    called_functions += [patch for key, patch in model.object_patches.items() if "forward" in key]
    transformer = model.get_model_object("diffusion_model")
    called_functions += [
        getattr(transformer, name, None) for name in ("forward", "forward_orig", "_forward")
    ]
    foreign_names = {
        name_code(function)
        for function in called_functions
        if function and not is_hosts_own(function)
    }
    return f" (overridden by: {', '.join(sorted(foreign_names))})" if foreign_names else ""
