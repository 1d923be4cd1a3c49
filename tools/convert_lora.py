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
    PREFIX,
    SCALES,
    check_new_file,
    convert_lora,
    convert_transformer,
    describe_unusual_settings,
    product_of,
    read_header,
    read_tensor,
    weight_file,
    write_streamed,
)

TYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}
MATRICES = (".lora_A.weight", ".lora_B.weight")
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
        self.source, self.dtype, self.energy, self.rank = source, dtype, energy, rank
        self.naming, self.header = naming, read_header(source, "LoRA file")
        tensor_names = [name for name in self.header if name != "__metadata__"]
        metadata = dict(self.header.get("__metadata__") or {})
        if scaled := [name for name in tensor_names if name.endswith(SCALES)]:
            raise self._unfit_error(
                f"scaled float8 ({scaled[0]})",
                "convert it without --dtype, --energy and --rank, then the result with them",
            )
        # Names and shapes are enough but for alpha, whose value counts.
        placeholders = {name: self._placeholder(name) for name in tensor_names}
        self.lora = convert_lora(placeholders, metadata, naming, file=source)
        for name in (*self.lora.others, *self.lora.tensors):
            kind = "DoRA" if name.endswith(".dora_scale") else product_of(name)
            if kind:
                raise self._unfit_error(f"a {kind} ({name})", "keep the file as it is")
        self.parts = [
            name.removesuffix(MATRICES[0])
            for name in self.lora.tensors
            if name.endswith(MATRICES[0])
        ]
        self.metadata = {"format": "pt", **metadata}
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
            got=f"{self.source.name} with {parts}",
            expected="products of two matrices alone",
            fix=fix,
        )

    def _placeholder(self, name: str) -> Tensor:
        entry = self.header[name]
        if len(entry["shape"]) < 2:
            return self._read(name)
        return torch.empty(entry["shape"], device="meta")

    def _read(self, name: str) -> Tensor:
        return read_tensor(self.source, self.header, name, "LoRA file")

    def _read_pair(self, part: str) -> tuple[Tensor, Tensor]:
        """Read A [r, ...] and B [out, r, ...] in the file's type.

        Raises:
            EgoXInputError: NaN or infinity.
        """
        matrix_pair = [self._read(self.lora.sources[part + end]) for end in MATRICES]
        if not all(matrix.float().isfinite().all() for matrix in matrix_pair):
            raise EgoXInputError(
                "LoRA file",
                got=f"NaN or infinity in {part}",
                expected="finite numbers",
                fix="download it again, or take a checkpoint from before its training diverged",
            )
        return matrix_pair[0], matrix_pair[1]

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
        scale = self._file_scale(part, len(down))
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

    def _file_scale(self, part: str, rank: int) -> float:
        """Compute the scale alpha / rank of a layer for the new file.

        A reduced product contains this factor, and has 1 in the file.
        """
        alpha = self.lora.tensors.get(f"{part}.alpha")
        return 1.0 if alpha is None else float(alpha) / rank

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
            self.header[self.lora.sources[name]]["dtype"], torch.float32
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
    weights_content = weight_file(source, "weights file")
    tensors_by_name = load_file(source)
    if weights_content.place == "LoRA":
        is_native = naming == "native"
        converted_lora = convert_lora(
            tensors_by_name, weights_content.metadata, naming, file=source, products=is_native
        )
        comfyui_tensors = converted_lora.of_host if is_native else {}
        tensors = {**converted_lora.tensors, **comfyui_tensors}
        renamed_sources = {converted_lora.sources[name] for name in comfyui_tensors}
        unmatched_keys = tuple(
            key for key in converted_lora.unmatched if key not in renamed_sources
        )
        notes = [converted_lora.report] if converted_lora.ranks else []
        if comfyui_tensors:
            notes.append(
                f"{len(comfyui_tensors)} tensors of other kinds, which ComfyUI's own loader reads"
            )
        report = "; ".join(
            filter(None, [*notes, describe_unusual_settings(weights_content.metadata)])
        )
    elif weights_content.quantised or weights_content.missing:
        raise EgoXInputError(
            "transformer",
            got=f"{source.name}: {weights_content.words}",
            expected="all of its weights, in bf16, fp16 or fp32",
            fix="give the whole file that ends in _bf16 or _fp16",
        )
    else:
        weights_content.check_one_transformer()
        tensors, unmatched_keys = convert_transformer(tensors_by_name, naming)
        report = f"{len(tensors)} tensors of a transformer matched, {len(unmatched_keys)} unmatched"
    with atomic_write(target) as temporary:
        save_file(
            {key: tensor.contiguous() for key, tensor in tensors.items()},
            temporary,
            metadata={"format": "pt", **weights_content.metadata},
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
