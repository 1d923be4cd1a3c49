"""Define the node EgoX LoRA, which loads LoRAs that ComfyUI's own loader would skip silently."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..egox_core.errors import EgoXInputError
from ..egox_core.safe_files import refuse_pickled
from ..egox_core.wan import (
    MERGED,
    check_lora,
    check_weights,
    convert_lora,
    file_digest,
)
from .host.graph import SAFETENSORS, Graph, check_or_message, inputs_of, weights_file
from .host.paths import file_fingerprint
from .patch.lora_metadata import (
    attach_lora_metadata,
    attach_lora_name,
    merged_metadata,
    position_scale,
    set_positions,
)
from .search_words import node_schema
from .show import result_views
from .sliders import Slider

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

FLOAT8 = re.compile(r"(fp8|float8|e4m3|e5m2).*\.(safetensors|sft)$", re.IGNORECASE)
"""Pattern of names of files with float8 weights."""
STRENGTH = Slider("strength", usual=(0.0, 2.0), step=0.05, wide=(-100.0, 100.0))


class EgoXLoadLora(io.ComfyNode):
    """Apply a LoRA to a Wan transformer, and report how many tensors matched."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXLoadLora",
            display_name="EgoX LoRA",
            category="EgoX/model",
            description=(
                "Loads the EgoX LoRA (or any Wan LoRA) into the transformer and reports how many "
                "tensors were matched. Stops with an error if none was."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The Wan transformer."),
                io.Combo.Input(
                    "lora_name",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A .safetensors file in ComfyUI's loras folder.",
                ),
                STRENGTH.input(
                    "strength",
                    default=1.0,
                    tooltip=(
                        "Strength of the LoRA. The file's own alpha / rank is applied in addition. "
                        "The authors use 1."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip=("The transformer with the LoRA applied.")
                )
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
        )

    @classmethod
    def validate_inputs(cls, strength=None) -> bool | str:
        return check_or_message(cls, check_files, STRENGTH.check(strength))

    @classmethod
    def fingerprint_inputs(cls, lora_name, **_) -> str:
        lora_path = folder_paths.get_full_path("loras", lora_name)
        if lora_path is None:
            return ""
        config_file = Path(lora_path).with_name("adapter_config.json")
        return f"{file_fingerprint(Path(lora_path))}/{file_fingerprint(config_file)}"

    @classmethod
    def execute(cls, model, lora_name, strength) -> io.NodeOutput:
        refuse_pickled(Path(lora_name), "LoRA file")
        lora_path = Path(folder_paths.get_full_path_or_raise("loras", lora_name))
        patched, report = load_lora(model, lora_path, strength)
        return io.NodeOutput(patched, ui=result_views and result_views.note(report))


def check_files(graph: Graph, node: str) -> None:
    """Check the weight files before a run starts.

    Raises:
        EgoXInputError: a LoRA in a format that runs code when it is read, cut off, or of another
            model than the one before it; float8 files on a Mac.
    """
    name = inputs_of(graph, node).get("lora_name")
    if isinstance(name, str):
        refuse_pickled(Path(name), "LoRA file")
        lora_path = folder_paths.get_full_path("loras", name)
        if lora_path and lora_path.endswith(SAFETENSORS):
            base_file = weights_file(graph, node, "model")
            try:
                if base_file:
                    check_weights(base_file, "model")
            except EgoXInputError:
                base_file = None  # the node that samples tells of it
            check_lora(Path(lora_path), base_file)
    if comfy.model_management.get_torch_device().type != "mps":
        return
    input_values = [value for node_id in graph for value in inputs_of(graph, node_id).values()]
    if float8_files := sorted(
        {
            value_text
            for value_text in input_values
            if isinstance(value_text, str) and FLOAT8.search(value_text)
        }
    ):
        raise EgoXInputError(
            "weights on a Mac",
            got=", ".join(float8_files),
            expected="files without float8, which Apple's GPUs can't compute",
            fix="take wan2.1_i2v_480p_14B_fp16 or a GGUF file (Q4 to Q8) and "
            "umt5_xxl_fp16 instead; don't download these",
        )


def weight_shapes(model: ModelPatcher) -> dict[str, tuple[int, ...]]:
    """Map a transformer's native weight names to shapes, also if it is compiled."""
    transformer = model.get_model_object("diffusion_model")
    return {
        name.replace("_orig_mod.", ""): tuple(weight.shape)
        for name, weight in transformer.named_parameters()
    }


def load_lora(model: ModelPatcher, path: Path, strength: float) -> tuple[ModelPatcher, str]:
    """Clone a model with a LoRA applied, and report which tensors matched."""
    if path.name.endswith(SAFETENSORS):
        check_lora(path)  # a name that was not known before the run
    file_tensors, metadata = comfy.utils.load_torch_file(
        str(path), safe_load=True, return_metadata=True
    )
    lora = convert_lora(file_tensors, metadata, file=path)
    if merged_metadata(model).get(MERGED) == file_digest(path):
        raise EgoXInputError(
            "LoRA",
            got=f"{path.name}, which is in the model's file already",
            expected="a different LoRA, or none",
            fix="remove this EgoX LoRA: the model acts as with it",
        )
    lora_report = f"{path.name}: {lora.report_on(weight_shapes(model), path.name)}"

    patched = model.clone()
    comfyui_keys = comfy.lora.model_lora_keys_unet(model.model, {})

    def add_tensors(tensors: dict[str, Tensor]) -> list[str]:
        return patched.add_patches(
            comfy.lora.load_lora(tensors, comfyui_keys, log_missing=False), strength
        )

    changed_weights = add_tensors(lora.tensors)
    # Step-distilled LoRAs also hold whole differences of norms and biases, under names that only
    # the host knows.
    added_differences = add_tensors(lora.others)
    if not changed_weights:
        raise EgoXInputError(
            "LoRA",
            got=f"{path.name}, of which ComfyUI used nothing",
            expected="parts of this model",
            fix="load the Wan model that this LoRA was made for",
        )
    lora_report += f"; {len(changed_weights)} weights changed"
    if added_differences:
        lora_report += f"; {len(added_differences)} more by names of the host (norms, biases)"
    attach_lora_name(patched, path.name, strength)
    for name in attach_lora_metadata(patched, lora.with_form(metadata or {})):
        lora_report += f"; {name} contradicts the LoRA loaded before"
        logging.warning(
            "[EgoX] %s: %s contradicts the LoRA loaded before it; the later one is used",
            path.name,
            name,
        )
    position_factor = position_scale(patched)
    if position_factor != 1 or position_scale(model) != 1:
        set_positions(patched)
        lora_report += f"; positions times {position_factor:g}"
    logging.info("[EgoX] LoRA %s", lora_report)
    return patched, lora_report
