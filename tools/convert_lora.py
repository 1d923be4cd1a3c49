"""Rename a Wan LoRA or transformer between naming schemes, and make LoRAs smaller.

    python tools/convert_lora.py egox_released.safetensors egox_native.safetensors
    python tools/convert_lora.py native.safetensors diffusers.safetensors --to diffusers
    python tools/convert_lora.py egox_released.safetensors half.safetensors --dtype float16
    python tools/convert_lora.py egox_released.safetensors small.safetensors --dtype float16
    --energy .99

The result of the first is a file that ComfyUI's stock LoRA loader takes (*EgoX LoRA* reads both). A
smaller LoRA keeps its metadata, so that the nodes follow what it was trained with. --energy and
--rank replace each product B A by its nearest one of lower rank (a singular value decomposition),
and say what is left. Tensors are read one by one: less than 2 GB of memory for the released LoRA.
"""

import argparse
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.safe_files import atomic_write
from egox_core.wan import (
    MATRICES,
    PREFIX,
    SCALES,
    check_new_file,
    convert_transformer,
    describe_unusual_settings,
    product_of,
    weight_file,
    write_streamed,
)

TYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}
REPORT_EVERY = 40
"""Number of matrices between two lines of progress."""


@frozen
class ReducedSize:
    """Store the rank of a reduced matrix product and the share of energy that it keeps."""

    rank: int
    energy: float  # share of the sum of squares of the product's elements


class SmallerLora:
    """Convert a LoRA to another number type, and reduce its rank if requested.

    Raises:
        EgoXInputError: a LoRA with parts that are no product of two matrices, or in scaled float8.
    """

    def __init__(
        self,
        source: Path,
        naming: Any,
        dtype: torch.dtype | None,  # None: unchanged
        energy: float | None,  # smallest share of each product's squares, 0...1
        rank: int | None,  # largest rank of each product
    ) -> None:
        self.file, self.naming = weight_file(source, "LoRA file"), naming
        self.dtype, self.energy, self.rank = dtype, energy, rank
        if scaled := [name for name in self.file.entries if name.endswith(SCALES)]:
            raise self._unfit_error(
                f"scaled float8 ({scaled[0]})",
                "convert it without --dtype, --energy and --rank, then the result with them",
            )
        self.lora = self.file.lora(naming, values=False)
        for name in (*self.lora.others, *self.lora.tensors):
            kind = "DoRA" if name.endswith(".dora_scale") else product_of(name)
            if kind:
                raise self._unfit_error(f"a {kind} ({name})", "keep the file as it is")
        self.parts = self.lora.parts
        self.metadata = {"format": "pt", **self.file.lora_metadata()}
        self.sizes: dict[str, ReducedSize] = {}

    @property
    def is_resized(self) -> bool:
        return self.energy is not None or self.rank is not None

    def write(self, target: Path, report: Callable[[str], None]) -> None:
        """Write the LoRA with reduced ranks to a file, complete or not at all."""
        if self.is_resized:
            for number, layer in enumerate(self.parts):
                if number % REPORT_EVERY == 0:
                    report(f"{number} of {len(self.parts)} matrices looked at")
                self.sizes[layer] = self._choose_size(layer)
            self._forget_old_rank()
        file_entries = dict(self._list_entries())
        second_matrices: dict[
            str, Tensor
        ] = {}  # the second matrix of the part that is being written

        def make_tensor(name: str) -> Tensor:
            if name in second_matrices:
                return second_matrices.pop(name)
            layer = name.removesuffix(MATRICES[0])
            if layer == name:
                return self._make_alpha(name)
            number = self.parts.index(layer)
            if number % REPORT_EVERY == 0:
                report(f"{number} of {len(self.parts)} matrices written")
            down, up = (
                self._convert_type(layer, each, file_entries)
                for each in self._compute_matrices(layer)
            )
            second_matrices[layer + MATRICES[1]] = up
            return down

        write_streamed(target, file_entries, make_tensor, self.metadata)

    def report(self) -> Iterator[str]:
        """Yield one line for the matrices of each kind: their number, rank and energy."""
        sizes_by_kind = defaultdict(list)
        for part, size in self.sizes.items():
            sizes_by_kind[re.sub(r".*blocks\.\d+\.", "", part)].append(size)
        for kind, sizes in sizes_by_kind.items():
            ranks, energies = ([getattr(s, name) for s in sizes] for name in ("rank", "energy"))
            yield (
                f"  {kind}: {len(sizes)} matrices, rank {min(ranks)} to {max(ranks)} (median "
                f"{statistics.median(ranks):g}), energy {min(energies):.4f} or more"
            )

    def _unfit_error(self, parts: str, fix: str) -> EgoXInputError:
        return EgoXInputError(
            "LoRA to make smaller",
            got=f"{self.file.file.name} with {parts}",
            expected="products of two matrices alone",
            fix=fix,
        )

    def _read_pair(self, part: str) -> tuple[Tensor, Tensor]:
        """Read A [r, ...] and B [out, r, ...] in the file's type.

        Raises:
            EgoXInputError: NaN or infinity.
        """
        down, up = (self.file.read_finite(self.lora.sources[part + end]) for end in MATRICES)
        return down, up

    def _choose_size(self, part: str) -> ReducedSize:
        """Choose the rank of a matrix product by the requested rank and energy."""
        down, up = (matrix.flatten(1).float() for matrix in self._read_pair(part))
        triangles = torch.linalg.qr(up, "r").R, torch.linalg.qr(down.T, "r").R
        squared_values = torch.linalg.svdvals(triangles[0] @ triangles[1].T).double().square()
        energy_shares = squared_values.cumsum(0) / squared_values.sum().clamp_min(1e-300)
        rank = len(energy_shares)
        if self.energy is not None:
            rank = int((energy_shares < self.energy).sum()) + 1
        rank = min(rank, self.rank or rank, len(energy_shares))
        return ReducedSize(rank=rank, energy=float(energy_shares[rank - 1]))

    def _compute_matrices(self, part: str) -> tuple[Tensor, Tensor]:
        """Compute the reduced matrices A and B of one layer.

        Each matrix of a reduced product has the square roots of its singular values.
        """
        down, up = self._read_pair(part)
        if not self.is_resized:
            return down, up
        rank = self.sizes[part].rank
        scale = self.lora.scale_of(part)  # which the product then contains, and the file has 1
        (left, left_r), (right, right_r) = (
            torch.linalg.qr(matrix.float()) for matrix in (up.flatten(1), down.flatten(1).T)
        )
        u, values, v = torch.linalg.svd(left_r @ right_r.T)
        roots = values[:rank].sqrt()
        new_up = scale * (left @ u[:, :rank]) * roots
        new_down = roots[:, None] * (v[:rank] @ right.T)
        return (
            new_down.reshape(rank, *down.shape[1:]),
            new_up.reshape(len(up), rank, *up.shape[2:]),
        )

    def _convert_type(
        self, part: str, matrix: Tensor, entries: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
    ) -> Tensor:
        stored_matrix = matrix.to(entries[part + MATRICES[0]][1])
        if not stored_matrix.float().isfinite().all():
            raise EgoXInputError(
                "dtype",
                got=f"{stored_matrix.dtype}, while {part} reaches {matrix.abs().max():.3g}",
                expected="a type that holds it",
                fix="use --dtype bfloat16",
            )
        return stored_matrix

    def _make_alpha(self, name: str) -> Tensor:
        part = name.removesuffix(".alpha")
        return (
            torch.tensor(float(self.sizes[part].rank))
            if self.is_resized
            else self.lora.tensors[name]
        )

    def _list_entries(self) -> Iterator[tuple[str, tuple[tuple[int, ...], torch.dtype]]]:
        """List name, shape and type of each tensor of the result."""
        for layer in self.parts:
            matrix_shapes = [list(self.lora.tensors[layer + end].shape) for end in MATRICES]
            if self.is_resized:
                matrix_shapes[0][0] = matrix_shapes[1][1] = self.sizes[layer].rank
            for end, shape in zip(MATRICES, matrix_shapes, strict=True):
                file_dtype = self._read_dtype(layer + end)
                yield layer + end, (tuple(shape), self.dtype or file_dtype)
            # Readers of diffusers' names take the rank for alpha where there is none.
            if f"{layer}.alpha" in self.lora.tensors and not self.is_resized:
                yield f"{layer}.alpha", ((), torch.float32)
            elif self.is_resized and self.naming == "native":
                yield f"{layer}.alpha", ((), torch.float32)

    def _read_dtype(self, name: str) -> torch.dtype:
        return {"F16": torch.float16, "BF16": torch.bfloat16}.get(
            self.file.entries[self.lora.sources[name]]["dtype"], torch.float32
        )

    def _forget_old_rank(self) -> None:
        """Remove settings of the old rank from the metadata."""
        rank = str(max(size.rank for size in self.sizes.values()))
        self.metadata = {
            key: rank if key in (f"{PREFIX}rank", f"{PREFIX}alpha") else text
            for key, text in self.metadata.items()
            if key.startswith(PREFIX) or "lora_alpha" not in key + text
        }


def rename(source: Path, target: Path, naming: Any) -> tuple[str, tuple[str, ...]]:
    """Write a LoRA or transformer under other tensor names, and report unknown names."""
    weights = weight_file(source, "weights file")
    metadata = weights.metadata
    if weights.place == "LoRA":
        metadata = weights.lora_metadata()
        is_native = naming == "native"
        lora = weights.lora(naming, products=is_native)
        host_tensors = lora.of_host if is_native else {}
        tensors = {**lora.tensors, **host_tensors}
        kept_keys = {lora.sources[name] for name in host_tensors}
        unmatched_keys = tuple(key for key in lora.unmatched if key not in kept_keys)
        host_note = (
            f"{len(host_tensors)} tensors of other kinds, which ComfyUI's own loader reads"
            if host_tensors
            else ""
        )
        notes = [
            lora.report if lora.ranks else "",
            host_note,
            describe_unusual_settings(weights.metadata),
        ]
        report = "; ".join(filter(None, notes))
    elif weights.quantised or weights.missing:
        raise EgoXInputError(
            "transformer",
            got=f"{source.name}: {weights.words}",
            expected="all of its weights, in bf16, fp16 or fp32",
            fix="give the whole file that ends in _bf16 or _fp16",
        )
    else:
        weights.check_one_transformer()
        tensors, unmatched_keys = convert_transformer(load_file(source), naming)
        report = f"{len(tensors)} tensors of a transformer matched, {len(unmatched_keys)} unmatched"
    with atomic_write(target) as temporary:
        save_file(
            {key: tensor.contiguous() for key, tensor in tensors.items()},
            temporary,
            metadata={"format": "pt", **metadata},
        )
    return report, unmatched_keys


def parse_in_range(number_type: type, text: str) -> Any:
    """Parse a number of the command line, and refuse values out of range."""
    value = number_type(text)
    if not (0 < value <= 1 if number_type is float else value >= 1):
        raise argparse.ArgumentTypeError(
            f"got {text}; expected {'a share in 0...1' if number_type is float else '1 or more'}"
        )
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="a .safetensors file")
    parser.add_argument(
        "--to", choices=("native", "diffusers"), default="native", help="the names to write"
    )
    parser.add_argument("--dtype", choices=TYPES, help="of a LoRA's matrices; default: as they are")
    size_options = parser.add_mutually_exclusive_group()
    size_options.add_argument(
        "--energy",
        type=partial(parse_in_range, float),
        help="of a LoRA: keep at least this share of each product's sum of squares, as .99",
    )
    size_options.add_argument(
        "--rank", type=partial(parse_in_range, int), help="of a LoRA: keep so many directions"
    )
    options = parser.parse_args(arguments)
    try:
        check_new_file(options.target, (options.source,))
        sizes: list[str] = []
        if options.dtype or options.energy or options.rank:
            dtype = TYPES.get(options.dtype)
            smaller_lora = SmallerLora(
                options.source, options.to, dtype, options.energy, options.rank
            )
            smaller_lora.write(
                options.target, lambda words: print(words, file=sys.stderr, flush=True)
            )
            report = smaller_lora.lora.report
            unmatched_keys = smaller_lora.lora.unmatched
            sizes = [*smaller_lora.report()]
        else:
            report, unmatched_keys = rename(options.source, options.target, options.to)
    except EgoXInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.target}: {report}")
    for line in sizes:
        print(line)
    for key in unmatched_keys:
        print(f"  not taken over: {key}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
