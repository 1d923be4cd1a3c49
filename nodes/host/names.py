"""Every name of the host that the pack relies on, and what is lost where one is missing.

ComfyUI promises little of what is listed here, so a release may move any of it. The list is checked when the pack is
loaded, before anything runs: what is missing then stands in the host's log with what won't work, instead of surfacing
in the middle of a sampling, or never. ``tests/nodes/test_host_names.py`` holds the list complete.

How a name is written::

    module                      it imports
    module:attribute            it has that attribute (a function, a class, Class.method, a constant)
    module:function(a, b)       and these are the first of its parameters (places that the pack counts on)
    module:attribute[word]      and its code has that word: attributes that only instances have, keys of dictionaries
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

FLOOR = "0.26.0"


@dataclass(frozen=True)
class Need:
    """Host names, and what can't be done without any of them."""

    loses: str
    names: tuple[str, ...]


PYTHON_NAMES = (
    Need("every EgoX node", (
        "comfy_api.latest:ComfyExtension",
        "comfy_api.latest:io.ComfyNode", "comfy_api.latest:io.Schema", "comfy_api.latest:io.NodeOutput",
        "comfy_api.latest:io.Custom", "comfy_api.latest:io.Input",
        "comfy_api.latest:io.Image.Input", "comfy_api.latest:io.Image.Output",
        "comfy_api.latest:io.Int.Input", "comfy_api.latest:io.Float.Input", "comfy_api.latest:io.Combo.Input",
        "comfy_api.latest:io.Combo.Output",
        "comfy_api.latest:io.Boolean.Input", "comfy_api.latest:io.String.Input", "comfy_api.latest:io.String.Output",
        "comfy_api.latest:ui.PreviewText",
        "comfy.model_management:throw_exception_if_processing_interrupted",
        "comfy.utils:ProgressBar(total)", "comfy.utils:ProgressBar.update_absolute(value, total)",
        "comfy_execution.utils:get_executing_context",
        "folder_paths:get_input_directory", "folder_paths:get_output_directory", "folder_paths:get_temp_directory",
        "folder_paths:folder_names_and_paths", "folder_paths:annotated_filepath",
    )),
    Need("the pack's small models in the loaders' lists (the demo)", (
        "folder_paths:get_folder_paths", "folder_paths:add_model_folder_path",
    )),
    Need("Load Exo Video", (
        "comfy_api.latest:io.Hidden.unique_id",
        "comfy_api.latest:io.Audio.Output", "comfy_api.latest:io.Float.Output", "comfy_api.latest:io.Video.Input",
        "comfy_api.latest:io.UploadType.video", "comfy_api.latest:InputImpl.VideoFromFile.get_stream_source",
        "comfy_api.latest:InputImpl.VideoFromFile.get_components",
        "comfy_api.latest:InputImpl.VideoFromFile.get_active_trim_window",
        "comfy_api.latest:InputImpl.VideoFromFile.get_dimensions",
    )),
    Need("Decode Ego Half, EgoX Sweep, Labelled Video Grid, EgoX Evaluate", (
        "comfy_api.latest:io.Video.Output", "comfy_api.latest:io.Audio.Input",
        "comfy_api.latest:InputImpl.VideoFromComponents", "comfy_api.latest:Types.VideoComponents",
    )),
    Need("Rank Exo Cameras", ("comfy_api.latest:io.Float.Output",)),
    Need("Ego Pose Input", (
        "comfy_api.latest:io.Hidden.unique_id", "comfy_api.latest:io.Hidden.prompt",
    )),
    Need("Depth Align, Estimate Head Pose", (
        "comfy_api.latest:io.Hidden.unique_id", "comfy_api.latest:io.Mask.Input",
    )),
    Need("Build Scene, Fuse Scenes", ("comfy_api.latest:io.Mask.Input",)),
    Need("Render Ego Prior", (
        "comfy_api.latest:io.Hidden.unique_id", "comfy_api.latest:io.Hidden.prompt", "comfy_api.latest:io.Mask.Output",
    )),
    Need("EgoX LoRA", (
        "comfy_api.latest:io.Hidden.unique_id", "comfy_api.latest:io.Model.Input", "comfy_api.latest:io.Model.Output",
        "comfy.lora:load_lora(lora, to_load, log_missing)", "comfy.lora:model_lora_keys_unet(model, key_map)",
        "comfy.utils:load_torch_file", "folder_paths:get_filename_list", "folder_paths:get_full_path",
        "folder_paths:get_full_path_or_raise", "comfy.model_patcher:ModelPatcher.clone",
        "comfy.model_patcher:ModelPatcher.add_patches(patches, strength_patch)",
        "comfy.model_patcher:ModelPatcher.get_attachment", "comfy.model_patcher:ModelPatcher.set_attachments",
    )),
    Need("EgoX Text, EgoX Caption Request", (
        "comfy_api.latest:io.Clip.Input", "comfy_api.latest:io.Conditioning.Output", "comfy_api.latest:ui.PreviewImage",
        "comfy.sd:CLIP.tokenize(text)", "comfy.sd:CLIP.encode_from_tokens_scheduled(tokens)",
    )),
    Need("EgoX Conditioning, EgoX Prompt", (
        "comfy_api.latest:io.ClipVision.Input", "comfy_api.latest:io.Conditioning.Input",
        "comfy_api.latest:io.Conditioning.Output", "comfy_api.latest:io.Latent.Output",
        "comfy_api.latest:io.Model.Input", "comfy_api.latest:io.Vae.Input",
        "comfy.model_management:intermediate_device", "node_helpers:conditioning_set_values(conditioning, values)",
    )),
    Need("EgoX Conditioning, Wan EgoX Sampler, Decode Ego Half", (
        "comfy.sd:VAE.encode", "comfy.sd:VAE.decode",
        "comfy.sd:VAE.encode_tiled(pixel_samples, tile_x, tile_y, overlap)",
        "comfy.sd:VAE.decode_tiled(samples, tile_x, tile_y, overlap)", "comfy.sd:VAE.spacial_compression_decode",
        "comfy.sample:prepare_noise(latent_image, seed)", "comfy.latent_formats:Wan21.process_in",
        "comfy.latent_formats:Wan21.process_out", "comfy.clip_vision:ClipVisionModel.encode_image(image, crop)",
    )),
    Need("EgoX Model Patch, Wan EgoX Sampler, EgoX Released Sampling, EgoX Attention Capture, EgoX Attention View", (
        "comfy_api.latest:io.Model.Input", "comfy_api.latest:io.Model.Output", "comfy_api.latest:io.Hidden.unique_id",
        "comfy.patcher_extension:WrappersMP.APPLY_MODEL", "comfy.patcher_extension:WrappersMP.DIFFUSION_MODEL",
        "comfy.patcher_extension:WrappersMP.OUTER_SAMPLE", "comfy.patcher_extension:WrappersMP.PREPARE_SAMPLING",
        "comfy.patcher_extension:WrapperExecutor[class_obj]", "comfy.model_base:WAN21",
        "comfy.model_patcher:ModelPatcher.add_wrapper_with_key(wrapper_type, key, wrapper)",
        "comfy.model_patcher:ModelPatcher.remove_wrappers_with_key(wrapper_type, key)",
        "comfy.model_patcher:ModelPatcher.get_wrappers(wrapper_type, key)",
        "comfy.model_patcher:ModelPatcher.get_model_object", "comfy.model_patcher:ModelPatcher.set_model_attn1_patch",
        "comfy.samplers:CFGGuider.outer_sample(noise, latent_image, sampler, sigmas, denoise_mask, callback)",
        "comfy.samplers:CFGGuider[conds]", "comfy.samplers:CFGGuider[model_options]",
        "comfy.samplers:CFGGuider[model_patcher]", "comfy.samplers[cond_or_uncond]",
        "comfy.ldm.wan.model:WanModel.forward(x, timestep, context, clip_fea, time_dim_concat, transformer_options)",
        "comfy.ldm.wan.model:WanModel[in_dim]", "comfy.ldm.wan.model:WanModel[ref_conv]",
        "comfy.ldm.wan.model:WanModel[img_emb]", "comfy.ldm.wan.model:WanModel[blocks]",
        "comfy.ldm.wan.model[grid_sizes]", "comfy.ldm.wan.model[total_blocks]", "comfy.ldm.wan.model[block_index]",
        "comfy.model_base[concat_latent_image]", "comfy.model_base[clip_vision_output]",
        "comfy.model_base[time_dim_concat]", "comfy.model_base[reference_latents]",
        "comfy.samplers[sigmas]",
    )),
    Need("EgoX LoRA, EgoX Model Patch, Wan EgoX Sampler", ("comfy_api.latest:io.NumberDisplay.slider",)),
    Need("geometry guidance (λ_g): it would be off without a word", (
        "comfy.ldm.modules.attention[optimized_attention_override]",
    )),
    Need("EgoX Attention View's record of a block", ("comfy.ldm.wan.model[attn1_patch]",)),
    Need("the memory estimate of the whole canvas (out-of-memory errors are likelier)", (
        "comfy.sampler_helpers:prepare_sampling(model, noise_shape)",
        "comfy.model_patcher:ModelPatcher.add_object_patch(name, obj)",
        "comfy.model_base[memory_usage_factor_conds]", "comfy.model_base[memory_usage_shape_process]",
    )),
    Need("context windows", ("comfy.context_windows:IndexListContextWindow.get_tensor",
                             "comfy.context_windows[context_window]", "comfy.samplers[context_handler]",
                             "comfy.context_windows:IndexListContextHandler[context_length]",
                             "comfy.context_windows:IndexListContextHandler[dim]")),
    Need("EgoX Released Sampling, Wan EgoX Sampler", (
        "comfy_api.latest:io.Sampler.Output", "comfy_api.latest:io.Sigmas.Output", "comfy_api.latest:io.Latent.Input",
        "comfy_api.latest:io.Noise.Output",
        "comfy_api.latest:io.Latent.Output", "comfy_api.latest:io.Conditioning.Input",
        "comfy_api.latest:io.Model.Input", "comfy_api.latest:io.Hidden.unique_id",
        "comfy.patcher_extension:WrappersMP.OUTER_SAMPLE",
        "comfy.samplers:KSAMPLER(sampler_function, extra_options)", "comfy.samplers:KSampler.SAMPLERS",
        "comfy.samplers:KSampler.SCHEDULERS", "comfy.samplers:sampler_object(name)",
        "comfy.samplers:KSampler(model, steps, device, sampler, scheduler)", "comfy.samplers:KSampler[sigmas]",
        "comfy.samplers:CFGGuider(model_patcher)", "comfy_extras.nodes_custom_sampler:Noise_RandomNoise(seed)",
        "comfy.model_patcher:ModelPatcher[load_device]",
        "comfy.samplers:CFGGuider.set_conds(positive, negative)",
        "comfy.samplers:CFGGuider.set_cfg", "comfy_extras.nodes_custom_sampler:Noise_EmptyNoise",
        "comfy_extras.nodes_custom_sampler:SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent_image)",
        "comfy_extras.nodes_model_advanced:ModelSamplingSD3.patch(model, shift)",
        "nodes:common_ksampler(model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent)",
        "node_helpers:conditioning_set_values(conditioning, values)",
    )),
    Need("Decode Ego Half, EgoX Sweep, Labelled Video Grid, EgoX Evaluate", (
        "comfy_api.latest:io.Hidden.unique_id", "comfy_api.latest:io.Hidden.prompt",
        "comfy_api.latest:io.Latent.Input", "comfy_api.latest:io.Mask.Output", "comfy_api.latest:io.Vae.Input",
    )),
    Need("EgoX Evaluate, EgoX Sweep, Labelled Video Grid", (
        "comfy_api.latest:io.Float.Output", "comfy_api.latest:io.Int.Output", "comfy_api.latest:io.Mask.Input",
    )),
    Need("the pose editor, sample videos and uploads on the page", (
        "server:PromptServer[instance]", "server:PromptServer[routes]",
    )),
    Need("Save in the players", (
        "server:PromptServer[prompt_queue]", "execution:PromptQueue.get_history(prompt_id)",
        "comfy.cli_args:args", "folder_paths:get_save_image_path(filename_prefix, output_dir)",
    )),
    Need("telling before a run that files are missing", (
        "server:PromptServer[instance]", "server:PromptServer.add_on_prompt_handler(handler)",
    )),
    Need("the live preview and the time left while sampling; the kernel in EgoX Model Patch's note", (
        "server:PromptServer.send_sync(event, data, sid)", "server:PromptServer.send_progress_text(text, node_id)",
        "server:PromptServer[client_id]", "comfy.latent_formats:Wan21[latent_rgb_factors]",
        "comfy.latent_formats:Wan21[latent_rgb_factors_bias]",
    )),
)

OPTIONAL_NAMES = (
    "comfy_api.latest:InputImpl.VideoFromFile.has_pending_frame_edits",
    "comfy.model_prefetch:pause_malloc_graph",
    "comfy.context_windows:IndexListContextHandler[cond_retain_index_list]",
    "comfy.context_windows:IndexListContextHandler[latent_retain_index_list]",
    "comfy.context_windows:IndexListContextHandler[causal_window_fix]",
)
"""Of newer hosts: used where they are there."""

PAGE_NAMES = (
    Need("the pose editor, the previews, everything of EgoX on the page", (
        "app.registerExtension", "app.graph", "app.canvas", "api.fetchApi", "api.apiURL", "api.addEventListener",
        "api.removeEventListener", "node.addDOMWidget", "node.setSize", "node.computeSize", "node.setDirtyCanvas",
        "node.size", "node.id", "node.widgets", "node.inputs", "node.properties", "node.graph", "node.constructor",
    )),
    Need("running a node from the pose editor", ("app.queuePrompt", "app.lastNodeErrors")),
    Need("noticing that the pose editor's scene is of an earlier run", ("app.graphToPrompt",)),
    Need("the previews of nodes inside subgraphs", ("app.rootGraph",)),
    Need("the previews after a reload", ("app.nodeOutputs",)),
    Need("making the strip of λ_g and LoRA strength", ("api.queuePrompt",)),
    Need("texts in the page's language; undo of what the pose editor wrote", ("app.extensionManager",)),
    Need("Ctrl+Z inside the pose editor alone", ("app.constructor",)),  # maskeditor_is_opended, which the page asks for
    Need("rare inputs out of sight on the classic canvas", (
        "node.addWidget", "node.getLayoutWidgets", "node.toggleAdvanced", "node.showAdvanced",
    )),
    Need("the picture of a sample in Load Exo Video", ("app.api",)),  # whose apiURL is replaced
)
"""Names of the page (the frontend package) as the scripts in ``web/js`` reach them; tests/browser looks them up."""

_FORM = re.compile(r"(?P<module>[\w.]+)(?::(?P<attribute>[\w.]+))?(?:\((?P<first>[^)]*)\)|\[(?P<word>\w+)\])?")


def is_there(name: str) -> bool:
    """Whether this host has ``name``, written as the module says.

    Raises:
        ValueError: not written so.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        raise ValueError(f"no host name: {name!r}")
    try:
        thing = importlib.import_module(form["module"])
        for part in (form["attribute"] or "").split("."):
            thing = getattr(thing, part) if part else thing
    except Exception:  # a moved module may fail on import in any way
        return False
    if form["first"] is not None:
        return _takes(thing, [part.strip() for part in form["first"].split(",")])
    return form["word"] is None or form["word"] in code_words(thing)


def _takes(function: Callable, first: list[str]) -> bool:
    try:
        parameters = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    except (TypeError, ValueError):
        return True  # a compiled one doesn't say
    return parameters[:len(first)] == first


_CODE = (type, types.FunctionType, property, staticmethod, classmethod)


@functools.cache
def code_words(thing: Any) -> frozenset[str]:
    """Names and texts in the code of a module, class or function: read from what was compiled, so no file is needed."""
    words: set[str] = set()
    waiting, seen = [thing], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, (types.ModuleType, type)) and id(item) not in seen:
            seen.add(id(item))
            owner = item.__name__ if isinstance(item, types.ModuleType) else item.__module__
            words.update(vars(item))
            waiting += [value for value in vars(item).values() if isinstance(value, _CODE)
                        and getattr(value, "__module__", owner) == owner]
        elif isinstance(item, (property, staticmethod, classmethod)):
            waiting.append(item.fget if isinstance(item, property) else item.__func__)
        elif isinstance(item, types.FunctionType):
            waiting += [inspect.unwrap(item).__code__, item.__code__]
        elif isinstance(item, types.CodeType) and id(item) not in seen:
            seen.add(id(item))
            words.update(item.co_names, item.co_varnames)
            waiting += item.co_consts
        elif isinstance(item, (tuple, frozenset)):
            waiting += item
        elif isinstance(item, str):
            words.add(item)
    return frozenset(words)


def missing(needs: Iterable[Need] = PYTHON_NAMES) -> list[Need]:
    """The needs that this host doesn't meet, each with the names that are missing."""
    lost = ((need, tuple(name for name in need.names if not is_there(name))) for need in needs)
    return [Need(need.loses, names) for need, names in lost if names]


def host_version() -> str:
    """As the host says it."""
    try:
        return str(importlib.import_module("comfyui_version").__version__)
    except (ImportError, AttributeError):
        return "of unknown version"


def say_missing(say: Callable[[str], None] = logging.warning) -> None:
    """Tell what this host lacks and what won't work without it; nothing where all is there."""
    lost = missing()
    if not lost:
        return
    lines = [f"[EgoX] This ComfyUI ({host_version()}) lacks names that EgoX relies on. EgoX knows {FLOOR} and newer: "
             "update the older of the two."]
    for need in lost:
        lines.append(f"[EgoX]   will not work: {need.loses}; missing: {', '.join(need.names)}")
    say("\n".join(lines))
