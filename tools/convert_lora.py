"""Renames a Wan LoRA or a whole Wan transformer between diffusers' names and the host's.

    python tools/convert_lora.py egox_released.safetensors egox_native.safetensors
    python tools/convert_lora.py native.safetensors diffusers.safetensors --to diffusers

The result of the first is a file that ComfyUI's stock LoRA loader takes (*EgoX LoRA* reads both).
"""

import argparse
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write
from egox_core.wan import convert_lora, convert_transformer, read_header


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="a .safetensors file")
    parser.add_argument(
        "--to", choices=("native", "diffusers"), default="native", help="the names to write"
    )
    options = parser.parse_args(arguments)
    try:
        if options.target.suffix != ".safetensors":
            raise EgoXInputError(
                "target",
                got=options.target.name,
                expected="a name ending in .safetensors",
                fix=f"use {options.target.with_suffix('.safetensors').name}",
            )
        metadata = dict(read_header(options.source, "weights file").get("__metadata__") or {})
        state = load_file(options.source)
        if any(".lora_" in key for key in state):
            lora = convert_lora(state, metadata, options.to, file=options.source)
            tensors, unmatched, report = lora.tensors, lora.unmatched, lora.report
        else:
            tensors, unmatched = convert_transformer(state, options.to)
            report = f"{len(tensors)} tensors of a transformer matched, {len(unmatched)} unmatched"
        with atomic_write(options.target) as temporary:
            save_file(
                {key: tensor.contiguous() for key, tensor in tensors.items()},
                temporary,
                metadata={"format": "pt", **metadata},
            )
    except EgoXInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.target}: {report}")
    for key in unmatched:
        print(f"  not taken over: {key}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
