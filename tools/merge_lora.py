"""Merge a LoRA into a Wan model and store the result in 8 bits.

    python tools/merge_lora.py wan2.1_i2v_480p_14B_fp16.safetensors egox.safetensors OUT.safetensors
    python tools/merge_lora.py BASE LORA OUT.safetensors --to float8_e4m3fn

``int8_tensorwise`` (the default; ComfyUI 0.27 or newer) is for NVIDIA cards from Turing on,
``float8_e4m3fn`` for those from Ada on: both then compute in 8 bits. Run it with ComfyUI's Python,
whose package comfy-kitchen writes the weights. One weight is in memory at a time; a run that was
stopped goes on with the same command. Before the file gets its name, ComfyUI's own code reads it
back. Load OUT by *Load Diffusion Model*, without the LoRA: the file says what that was trained
with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from egox_core.errors import EgoXInputError, needs_package
from egox_core.wan import (
    MATRICES,
    MERGED,
    StreamedWeights,
    check_new_file,
    check_run_files,
    egox_entries,
    file_digest,
    read_header,
    read_tensor,
    weight_file,
    write_streamed,
)

DOWN, UP = MATRICES
WIDE_TYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Types of unmerged weights that stay as they are, by their names in headers."""
Entries = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Full name of a tensor -> its shape and type."""
GROUP_SIZES = (256, 64, 16)
"""Numbers of columns that are rotated together before rounding. The largest that divides a matrix
is used."""
FORMS = ("int8_tensorwise", "float8_e4m3fn")
COMFYUI_DIR = Path(__file__).absolute().parents[3]
"""ComfyUI's folder, if the pack is in its custom_nodes."""
REPORT_EVERY = 50
"""Number of weights between two lines of progress."""
COMPARED_MATRICES = 8
"""Number of matrices whose values are compared when the file is read back. The form of all of them
is checked."""
MAX_ROUNDING_ERROR = 0.1
"""Largest error of a matrix in 8 bits, as a share of its norm (int8 1 %, float8 3 %)."""


def layer_config(form: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Describe a matrix in 8 bits in the form that ComfyUI reads."""
    group_size = next((size for size in GROUP_SIZES if shape[1] % size == 0), 0)
    if form == "int8_tensorwise" and group_size:
        return {"format": form, "convrot": True, "convrot_groupsize": group_size}
    return {"format": form}


def quantise(
    weight: Tensor,  # [rows, columns]
    # The result of layer_config.
    config: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Quantise a weight matrix to 8 bits in ComfyUI's format.

    They are whole numbers with a scale for each row, or 8-bit floats with one scale.
    """
    from comfy_kitchen import tensor as layouts

    quantise_options = {key: value for key, value in config.items() if key != "format"}
    if config["format"] == "int8_tensorwise":  # of a newer host than the oldest that is supported
        quantised_data, scale_params = layouts.TensorWiseINT8Layout.quantize(
            weight, per_channel=True, **quantise_options
        )
    else:
        quantised_data, scale_params = layouts.TensorCoreFP8Layout.quantize(
            weight, scale="recalculate"
        )
    config_bytes = torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)
    return {
        "weight": quantised_data,
        "weight_scale": scale_params.scale.float(),
        "comfy_quant": config_bytes,
    }


class Merge:
    """Merge a LoRA into a base model, weight by weight.

    Raises:
        EgoXInputError: files of other kinds, a LoRA of another model, or with parts that are no
            product of two matrices; a base that is merged already.
    """

    def __init__(self, base: Path, lora: Path, strength: float, form: str) -> None:
        check_run_files(base, lora)
        self.base, self.form = weight_file(base, "base model"), form
        left_out_note = self.base.check_one_transformer()
        self.names = self.base.names
        self.weights = StreamedWeights([base], "base model")
        lora_file = weight_file(lora, "LoRA")
        self.lora = lora_file.lora()
        magnitudes = (name for name in self.lora.tensors if name.endswith(".dora_scale"))
        unmergeable_names = [*self.lora.others, *magnitudes, *self.lora.unmatched]
        if unmergeable_names:
            raise EgoXInputError(
                "LoRA to merge",
                got=f"{lora.name} with parts such as {unmergeable_names[0]}",
                expected="products of two matrices alone, as EgoX's",
                fix="load it by EgoX LoRA on top of a model instead",
            )
        lora_report = f"{lora.name}: {self.lora.report_on(self.base.shapes, lora.name)}"
        self.report = "; ".join(filter(None, (lora_report, left_out_note)))
        self.strength = strength
        source_states = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in (base, lora)
        ]
        state_text = json.dumps([source_states, strength, form])
        self.metadata = {
            "format": "pt",
            **self.base.metadata,
            **egox_entries(lora_file.lora_metadata()),
            MERGED: file_digest(lora),
            f"{MERGED}_from": f"{base.name} + {strength:g} x {lora.name}",
            # A stopped run of other files or settings isn't continued.
            f"{MERGED}_state": hashlib.sha256(state_text.encode()).hexdigest()[:16],
        }

    def config(self, name: str) -> dict[str, Any] | None:
        """Choose the 8-bit form of a weight, or None to leave it unchanged."""
        shape = self.base.shapes[name]
        is_matrix = name.startswith("blocks.") and name.endswith(".weight") and len(shape) == 2
        return layer_config(self.form, shape) if is_matrix else None

    def entries(self, name: str) -> Entries:
        """List shape and type of one weight's tensors by their full names."""
        config = self.config(name)
        shape = self.base.shapes[name]
        if config is None:
            stored_type = WIDE_TYPES.get(self.base.entries[self.names[name]]["dtype"])
            is_changed = self.lora_part(name) + DOWN in self.lora.tensors
            return {name: (shape, torch.bfloat16 if is_changed else stored_type or torch.bfloat16)}
        eight_bit_type, scale_shape = (
            (torch.int8, (shape[0], 1)) if "int8" in self.form else (torch.float8_e4m3fn, ())
        )
        return {
            name: (shape, eight_bit_type),
            f"{name}_scale": (scale_shape, torch.float32),
            f"{name.removesuffix('weight')}comfy_quant": (
                (len(json.dumps(config)),),
                torch.uint8,
            ),
        }

    def lora_part(self, name: str) -> str:
        """Name the LoRA's part that changes a weight."""
        return f"diffusion_model.{name.removesuffix('.weight')}"

    def weight(self, name: str) -> Tensor:
        """Compute one weight of the result, before it is rounded."""
        source = self.names[name]
        weight = self.weights[source]
        if not weight.is_floating_point():
            raise EgoXInputError(
                "base model",
                got=f"{source} quantised to {weight.dtype}",
                expected="bf16, fp16, or fp8_scaled, whose error then stays",
                fix="give the file that ends in _bf16 or _fp16",
            )
        if not weight.float().isfinite().all():
            raise EgoXInputError(
                "base model",
                got=f"NaN or infinity in {source}",
                expected="finite numbers",
                fix="download it again",
            )
        part = self.lora_part(name)
        lora_down = self.lora.tensors.get(part + DOWN)
        if lora_down is not None:
            lora_up = self.lora.tensors[part + UP]
            weight_change = lora_up.flatten(1).float() @ lora_down.flatten(1).float()
            lora_factor = self.strength * self.lora.scale_of(part)
            weight = weight.float() + lora_factor * weight_change.reshape(weight.shape)
        return weight

    def compute_tensors(self, name: str) -> dict[str, Tensor]:
        """Compute the tensors of one weight of the result, by their full names."""
        weight, config = self.weight(name), self.config(name)
        if config is None:
            return {name: weight}
        # bfloat16 first, as the host would hold it before it rounds.
        tensors = quantise(weight.to(torch.bfloat16), config)
        return {name.removesuffix("weight") + end: tensor for end, tensor in tensors.items()}

    def write(self, file: Path, report: Callable[[str], None]) -> None:
        """Write the merged file, continuing what a stopped run has left of it.

        Raises:
            EgoXInputError: too little space.
        """
        weight_of = {part: name for name in self.names for part in self.entries(name)}
        entries: Entries = {}
        for name in self.names:
            entries |= self.entries(name)
        written_bytes = file.stat().st_size if file.is_file() else 0
        all_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in entries.values())
        missing_bytes = all_bytes - written_bytes
        free_bytes = shutil.disk_usage(file.resolve().parent).free
        if free_bytes < missing_bytes:
            raise EgoXInputError(
                "target",
                got=f"{free_bytes / 1e9:.1f} GB of free disk",
                expected=f"{missing_bytes / 1e9:.1f} GB",
                fix="make room, or write to another disk",
            )
        numbers = {name: number for number, name in enumerate(self.names)}
        tensors: dict[str, Tensor] = {}  # of the weight that is being written

        def tensor_of(full_name: str) -> Tensor:
            name = weight_of[full_name]
            if full_name not in tensors:
                tensors.clear()
                tensors.update(self.compute_tensors(name))
                if numbers[name] % REPORT_EVERY == 0:
                    report(f"{numbers[name]} of {len(numbers)} weights")
            return tensors.pop(full_name)

        write_streamed(file, entries, tensor_of, self.metadata, resume=True)


def merge(
    base: Path,
    lora: Path,
    target: Path,
    *,
    strength: float = 1.0,
    form: str = "int8_tensorwise",
    report: Callable[[str], None] = lambda words: None,
    comfyui: Path = COMFYUI_DIR,
) -> None:
    """Merge a LoRA into a base model's file, continuing an interrupted run.

    Raises:
        EgoXInputError: see :class:`Merge`; comfy-kitchen missing or too old, a full disk, a target
            that is none.
    """
    for file, kind in ((base, "model"), (lora, "LoRA")):
        if file.suffix != ".safetensors":
            raise EgoXInputError(
                kind,
                got=file.name,
                expected="a .safetensors file",
                fix="GGUF and pickled files can't be merged: give the bf16 or fp16 file"
                if kind == "model"
                else "use a name ending in .safetensors",
            )
    check_new_file(target, (lora,), strength, base)
    with needs_package("comfy_kitchen", "8-bit files", expected="ComfyUI's own Python"):
        import comfy_kitchen.tensor
    if form == "int8_tensorwise" and not hasattr(comfy_kitchen.tensor, "TensorWiseINT8Layout"):
        raise EgoXInputError(
            "form",
            got="int8_tensorwise, which this ComfyUI doesn't know",
            expected="ComfyUI 0.27 or newer",
            fix="update it, or add --to float8_e4m3fn",
        )
    merge_job = Merge(base, lora, strength, form)
    report(merge_job.report)
    partial_file = target.with_name(f"{target.name}.part")
    merge_job.write(partial_file, report)
    report(read_back(partial_file, merge_job, comfyui))
    os.replace(partial_file, target)
    file_bytes = target.stat().st_size
    report(f"{target}: {file_bytes / 1e9:.2f} GB, {form}, {merge_job.metadata[f'{MERGED}_from']}")


def read_back(file: Path, merge_job: Merge, comfyui: Path = COMFYUI_DIR) -> str:
    """Read a merged file as ComfyUI does, to check that it is valid.

    Raises:
        EgoXInputError: ComfyUI reads other numbers than were written.
    """
    comfyui_code = import_comfyui_code(comfyui)
    if comfyui_code is None:
        return "not read back, since ComfyUI isn't here: add --comfyui FOLDER"
    ops, utils = comfyui_code
    header = read_header(file, "merged file")
    read_merged = partial(read_tensor, file, header, what="merged file")
    quant_configs = {name: read_merged(name) for name in header if name.endswith(".comfy_quant")}
    metadata = header["__metadata__"]
    quant_configs, _ = utils.convert_old_quants(quant_configs, "", metadata=metadata)
    matrix_names = [name for name in merge_job.names if merge_job.config(name) is not None]
    compared_names = matrix_names[:: max(1, len(matrix_names) // COMPARED_MATRICES)]
    layer_classes = ops.mixed_precision_ops({}, compute_dtype=torch.bfloat16)
    for name in matrix_names:
        layer_prefix = name.removesuffix("weight")
        rows, columns = header[name]["shape"]
        layer = layer_classes.Linear(columns, rows, bias=False, device="cpu")
        quant_config = quant_configs.pop(f"{layer_prefix}comfy_quant", None)
        is_as_written = quant_config is not None and json.loads(
            bytes(quant_config.tolist())
        ) == merge_job.config(name)
        if is_as_written and name in compared_names:
            layer_tensors = {
                end: read_merged(layer_prefix + end) for end in ("weight", "weight_scale")
            }
            layer.load_state_dict({**layer_tensors, "comfy_quant": quant_config})
            expected = merge_job.weight(name).float()
            rounding_error = layer.weight.dequantize().float() - expected
            is_as_written = bool(rounding_error.norm() <= MAX_ROUNDING_ERROR * expected.norm())
        if not is_as_written:
            raise EgoXInputError(
                "merged file",
                got=f"{name}, which ComfyUI reads otherwise than it was written",
                expected="the base's weights with the LoRA in them",
                fix="update ComfyUI, or take the other of both forms (--to)",
            )
    return f"read back by ComfyUI: {len(matrix_names)} matrices as written"


def import_comfyui_code(comfyui: Path) -> tuple[Any, Any] | None:
    """Import ComfyUI's layer and reader code, or return None.

    None where they aren't there.
    """
    if (comfyui / "comfy" / "ops.py").is_file() and str(comfyui) not in sys.path:
        sys.path.append(str(comfyui))
    try:
        import comfy.cli_args

        comfy.cli_args.args.cpu = True  # before anything asks for a GPU
        import comfy.ops
        import comfy.utils
    except ImportError:
        return None
    return comfy.ops, comfy.utils


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="a bf16, fp16 or fp8_scaled file")
    parser.add_argument("lora", type=Path)
    parser.add_argument("target", type=Path, help="a .safetensors file")
    parser.add_argument("--to", choices=FORMS, default="int8_tensorwise")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument(
        "--comfyui",
        type=Path,
        default=COMFYUI_DIR,
        help="ComfyUI's folder, whose reader checks the file",
    )
    options = parser.parse_args(arguments)
    try:
        merge(
            options.base,
            options.lora,
            options.target,
            strength=options.strength,
            form=options.to,
            report=lambda words: print(words, flush=True),
            comfyui=options.comfyui.expanduser().absolute(),
        )
    except EgoXInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
