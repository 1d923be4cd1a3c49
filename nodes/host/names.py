"""List the names in ComfyUI's code that the pack relies on, and what breaks if one is missing.

A missing import or attribute raises where it is used, and needs no entry. Listed are keys that
ComfyUI only looks up, and arguments that the pack passes by position. The list is checked when
the pack is loaded, so that ComfyUI's log says what won't work before anything runs.

Forms of a name::

    module:attribute            that attribute exists (its use would fail too late to be understood)
    module:function(a, b)       these are the first parameters
    module:attribute[word]      its code contains that word (a key, an attribute of instances)
"""

import functools
import inspect
import logging
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

FLOOR = "0.26.0"


def _attention() -> types.ModuleType:
    import comfy.ldm.modules.attention as module

    return module


def _context_windows() -> types.ModuleType:
    import comfy.context_windows as module

    return module


def _model_base() -> types.ModuleType:
    import comfy.model_base as module

    return module


def _sampler_helpers() -> types.ModuleType:
    import comfy.sampler_helpers as module

    return module


def _samplers() -> types.ModuleType:
    import comfy.samplers as module

    return module


def _wan() -> types.ModuleType:
    import comfy.ldm.wan.model as module

    return module


MODULES: dict[str, Callable[[], types.ModuleType]] = {
    "comfy.context_windows": _context_windows,
    "comfy.ldm.modules.attention": _attention,
    "comfy.ldm.wan.model": _wan,
    "comfy.model_base": _model_base,
    "comfy.sampler_helpers": _sampler_helpers,
    "comfy.samplers": _samplers,
}
"""Modules that contain the names. Each import is written out, because the registry flags a computed
one."""
SILENT_NAMES: Mapping[str, tuple[str, ...]] = {
    "geometry guidance (λ_g): it would be off": (
        "comfy.ldm.modules.attention[optimized_attention_override]",
    ),
    "sampling the ego half next to exo": (
        "comfy.ldm.wan.model:WanModel.forward"
        "(x, timestep, context, clip_fea, time_dim_concat, transformer_options)",
    ),
    "the checks before a run and the preview": (
        "comfy.samplers:CFGGuider.outer_sample"
        "(noise, latent_image, sampler, sigmas, denoise_mask, callback)",
    ),
    "the ego prior as the model's condition, and its picture embedding": (
        "comfy.model_base[concat_latent_image]",
        "comfy.model_base[clip_vision_output]",
    ),
    "context windows: exo would be of other frames than ego": (
        "comfy.context_windows[context_window]",
        "comfy.samplers[context_handler]",
    ),
    "the memory estimate of the whole canvas (out-of-memory errors are likelier)": (
        "comfy.sampler_helpers:prepare_sampling(model, noise_shape)",
        "comfy.model_base[memory_usage_factor_conds]",
        "comfy.model_base[memory_usage_shape_process]",
    ),
    "EgoX Attention View's record of a block": (
        "comfy.ldm.wan.model[attn1_patch]",
        "comfy.ldm.wan.model[block_index]",
        "comfy.samplers[cond_or_uncond]",
    ),
}
"""Names by the effect of their loss."""

_FORM = re.compile(
    r"(?P<module>[\w.]+)(?::(?P<attribute>[\w.]+))?"
    r"(?:\((?P<first>[^)]*)\)|\[(?P<word>\w+)\])?"
)


def name_exists(name: str) -> bool:
    """Check whether ComfyUI's code contains a name."""
    name_parts = _FORM.fullmatch(name)
    if name_parts is None:
        return False
    try:
        host_object: Any = MODULES[name_parts["module"]]()
        for attribute in (name_parts["attribute"] or "").split("."):
            host_object = getattr(host_object, attribute) if attribute else host_object
    except Exception:  # a moved module may fail on import in any way
        return False
    if name_parts["first"] is not None:
        expected_parameters = name_parts["first"].split(", ")
        parameters = [name for name in inspect.signature(host_object).parameters if name != "self"]
        return parameters[: len(expected_parameters)] == expected_parameters
    return name_parts["word"] is None or name_parts["word"] in code_words(host_object)


_CODE = (type, types.FunctionType, property, staticmethod, classmethod)


@functools.cache
def code_words(root_object: Any) -> frozenset[str]:
    """List names and strings in the compiled code of a module, class or function."""
    words: set[str] = set()
    pending = [root_object]
    seen_ids = set()
    while pending:
        code_object = pending.pop()
        if isinstance(code_object, (types.ModuleType, type)) and id(code_object) not in seen_ids:
            seen_ids.add(id(code_object))
            owner = (
                code_object.__name__
                if isinstance(code_object, types.ModuleType)
                else code_object.__module__
            )
            words.update(vars(code_object))
            pending += [
                value
                for value in vars(code_object).values()
                if isinstance(value, _CODE) and getattr(value, "__module__", owner) == owner
            ]
        elif isinstance(code_object, (property, staticmethod, classmethod)):
            pending.append(
                code_object.fget if isinstance(code_object, property) else code_object.__func__
            )
        elif isinstance(code_object, types.FunctionType):
            pending += [inspect.unwrap(code_object).__code__, code_object.__code__]
        elif isinstance(code_object, types.CodeType) and id(code_object) not in seen_ids:
            seen_ids.add(id(code_object))
            words.update(code_object.co_names, code_object.co_varnames)
            pending += code_object.co_consts
        elif isinstance(code_object, (tuple, frozenset)):
            pending += code_object
        elif isinstance(code_object, str):
            words.add(code_object)
    return frozenset(words)


def list_missing_names() -> dict[str, list[str]]:
    """List the relied-on names that this version of ComfyUI lacks, with the effects."""
    missing_names = {
        effect: [name for name in names if not name_exists(name)]
        for effect, names in SILENT_NAMES.items()
    }
    return {effect: names for effect, names in missing_names.items() if names}


def host_version() -> str:
    """Return the version of ComfyUI as ComfyUI itself states it."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "of unknown version"
    return str(__version__)


def log_missing_names(log: Callable[[str], None] = logging.warning) -> None:
    """Log the relied-on names that this version of ComfyUI lacks, with the effects."""
    missing_names = list_missing_names()
    if not missing_names:
        return
    lines = [
        f"[EgoX] This ComfyUI ({host_version()}) lacks names that EgoX relies on. EgoX knows "
        f"{FLOOR} and newer: update the older of the two."
    ]
    lines += [
        f"[EgoX]   will not work: {effect}; missing: {', '.join(names)}"
        for effect, names in missing_names.items()
    ]
    log("\n".join(lines))
