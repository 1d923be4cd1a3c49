"""Renames a Wan LoRA or a whole Wan transformer between diffusers' names and the host's.

    python tools/convert_lora.py egox_released.safetensors egox_native.safetensors
    python tools/convert_lora.py native.safetensors diffusers.safetensors --to diffusers

The result of the first is a file that ComfyUI's stock LoRA loader takes (*EgoX LoRA* reads both).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from egox_core.errors import EgoXInputError
from egox_core.wan.lora_keys import convert_lora, convert_transformer


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(tensors, metadata) of a .safetensors file."""
    if not path.is_file():
        raise EgoXInputError("weights file", got=str(path), expected="a file that exists", fix="check the path")
    if path.suffix != ".safetensors":
        raise EgoXInputError("weights file", got=path.name, expected="a .safetensors file",
                             fix=f"convert it once: python tools/convert_to_safetensors.py {path.name}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise EgoXInputError("weights file", got=f"{path.name}: {error}", expected="a whole .safetensors file",
                             fix="download the file again") from error


def write_weights(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Writes beside the target and renames, so that an interrupted run leaves no half file."""
    partial = path.with_name(path.name + ".partial")
    try:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial, metadata=metadata)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="a .safetensors file")
    parser.add_argument("--to", choices=("native", "diffusers"), default="native", help="the names to write")
    options = parser.parse_args(arguments)
    try:
        if options.target.suffix != ".safetensors":
            raise EgoXInputError("target", got=options.target.name, expected="a name ending in .safetensors",
                                 fix=f"use {options.target.with_suffix('.safetensors').name}")
        state, metadata = read_weights(options.source)
        if any(".lora_" in key for key in state):
            lora = convert_lora(state, metadata, options.to)
            tensors, unmatched, report = lora.tensors, lora.unmatched, lora.report
        else:
            tensors, unmatched = convert_transformer(state, options.to)
            report = f"{len(tensors)} tensors of a transformer matched, {len(unmatched)} unmatched"
        write_weights(options.target, tensors, {"format": "pt", **metadata})
    except EgoXInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.target}: {report}")
    for key in unmatched:
        print(f"  not taken over: {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
