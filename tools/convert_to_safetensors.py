"""Convert pickled weights (.pt, .pth, .bin, .ckpt) to .safetensors.

The new file is beside the old one.

Reads with ``weights_only=True``, so nothing in the file is run. Nested dictionaries are searched
for the one with tensors (``state_dict``, ``module``, ``model``); shared tensors are stored as
copies."""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def find_tensors(content: object) -> dict[str, torch.Tensor]:
    """Find the dictionary of tensors in what torch.load returned.

    Raises:
        ValueError: none found.
    """
    if isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        if tensors:
            return tensors
        for key in ("state_dict", "module", "model"):
            if key in content:
                return find_tensors(content[key])
    raise ValueError("no dictionary of tensors in this file")


def convert(source: Path) -> Path:
    """Convert a weight file to .safetensors unless that file exists."""
    target = source.with_suffix(".safetensors")
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    tensors = find_tensors(torch.load(source, map_location="cpu", weights_only=True))
    partial = target.with_suffix(".partial")
    save_file(
        {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, partial
    )
    partial.replace(target)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="+")
    for source in parser.parse_args().file:
        try:
            print(convert(source))
        except Exception as error:
            print(f"{source}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
