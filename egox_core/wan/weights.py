"""Read and write weight files in the safetensors format, and identify files by their header."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..safe_files import atomic_write, parse_json, refuse_pickled, require_file

MAX_HEADER_BYTES = 100 * 2**20
TAIL_BYTES = 2**20
SCALES = ("scale_weight", "weight_scale")
SCALE_PARTS = ("scaled_fp8", *SCALES, "scale_input", "input_scale", ".comfy_quant")
"""Ends of names that scaled float8 files have beside the weights, by ComfyUI's old and new form."""
FLOAT8_TYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
}
"""Types of tensors that are read one by one, by the format's names."""


def read_header(file: Path, what: str) -> dict:
    """Read the JSON header of a safetensors file (tensor names, shapes, ``__metadata__``).

    Raises:
        EgoXInputError: missing, pickled, not safetensors, cut off.
    """
    size = require_file(file, what).stat().st_size
    refuse_pickled(file, what)
    with file.open("rb") as stream:
        length_bytes = stream.read(8)
        length = int.from_bytes(length_bytes, "little")
        if not 0 < length <= min(size - 8, MAX_HEADER_BYTES):
            problem = "a header longer than the file" if length_bytes else "empty"
            raise _invalid_file(what, file, problem)
        header = parse_json(stream.read(length), f"{what} {file.name!r}")
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__") or {}, dict):
        raise _invalid_file(what, file, "a header that is no object")
    needed_bytes = 8 + length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not _is_entry(entry):
            raise _invalid_file(what, file, f"{name[:80]!r} malformed")
        needed_bytes = max(needed_bytes, 8 + length + entry["data_offsets"][1])
    if needed_bytes > size:
        raise _invalid_file(what, file, f"cut off: {size_words(needed_bytes)} belong to it")
    return header


def read_tensor(file: Path, header: Mapping, name: str, what: str) -> Tensor:
    """Read one tensor of a safetensors file without mapping the file, given its header.

    Raises:
        EgoXInputError: of a type that isn't known.
    """
    entry = header[name]
    if entry["dtype"] not in DTYPES:
        raise EgoXInputError(
            what,
            got=f"{name} of type {entry['dtype']}",
            expected=f"one of {', '.join(DTYPES)}",
            fix="give the file that ends in _bf16, _fp16 or _fp8_scaled",
        )
    begin, end = entry["data_offsets"]
    with file.open("rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        stream.seek(start + begin)
        tensor_bytes = bytearray(stream.read(end - begin))
    dtype = DTYPES[entry["dtype"]]
    if not tensor_bytes:  # which torch can't wrap
        return torch.empty(entry["shape"], dtype=dtype)
    return torch.frombuffer(tensor_bytes, dtype=dtype).reshape(entry["shape"])


class StreamedWeights:
    """Mapping that reads weights from safetensors files one at a time.

    Args:
        what: names the files in errors.
    """

    def __init__(self, files: Collection[Path], what: str) -> None:
        self.what = what
        self._headers = {file: read_header(file, what) for file in files}
        self._file_of = {
            name: file
            for file, header in self._headers.items()
            for name in header
            if name != "__metadata__"
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """List the shapes of the weights by name."""
        return {
            name: tuple(self._headers[file][name]["shape"])
            for name, file in self._file_of.items()
            if not name.endswith(SCALE_PARTS)
        }

    def __getitem__(self, name: str) -> Tensor:
        """Read one weight by name, multiplied by its scale.

        Raises:
            EgoXInputError: of a type that isn't known, quantised otherwise than by such a scale.
        """
        names = [name, *(name.removesuffix("weight") + scale_name for scale_name in SCALES)]
        tensors = {n: self._read(n) for n in names if n in self._file_of}
        return unscale(tensors, name, self.what)

    def _read(self, name: str) -> Tensor:
        file = self._file_of[name]
        return read_tensor(file, self._headers[file], name, self.what)


def unscale(
    weights: Mapping[str, Tensor],
    name: str,
    what: str,
    dtype: torch.dtype = torch.float32,  # of a scaled weight; any other stays as it is
    scaled_types: Collection[torch.dtype] = FLOAT8_TYPES,
) -> Tensor:
    """Multiply a weight by its scale, if there is one beside it.

    Raises:
        EgoXInputError: a weight that is quantised otherwise.
    """
    stem, weight = name.removesuffix("weight"), weights[name]
    scale = next((weights[stem + end] for end in SCALES if stem + end in weights), None)
    if scale is None or stem == name:
        return weight
    if weight.dtype not in scaled_types or scale.numel() not in (1, len(weight)):
        raise EgoXInputError(
            what,
            got=f"{name} quantised to {weight.dtype}, scales {tuple(scale.shape)}",
            expected="bf16, fp16, float8, or float8 with one scale, or one for each row",
            fix="give the file that ends in _bf16, _fp16 or _fp8_scaled",
        )
    row_scales = scale.float().reshape(-1, *[1] * (weight.ndim - 1))
    return (weight.float() * row_scales).to(dtype)


def write_streamed(
    file: Path,
    entries: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    resume: bool = False,
) -> None:
    """Write a safetensors file one tensor at a time, complete or not at all.

    Args:
        entries: name -> shape and type of a tensor.
        tensor_of: asked for one after the other; of any type.
        resume: write in place, after the tensors that a stopped run left in a file with the same
            header.
    """
    if not resume:
        with atomic_write(file) as temporary:
            return write_streamed(temporary, entries, tensor_of, metadata, resume=True)
    dtype_names = {dtype: kind for kind, dtype in DTYPES.items()}
    header: dict[str, dict] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (shape, dtype) in entries.items():
        begin = end
        end = end + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": dtype_names[dtype],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    header_json = json.dumps(header).encode()
    header_json += b" " * (-len(header_json) % 8)
    header_bytes = len(header_json).to_bytes(8, "little") + header_json
    file.touch()
    with file.open("r+b") as stream:
        is_continued = stream.read(len(header_bytes)) == header_bytes
        written_bytes = file.stat().st_size - len(header_bytes) if is_continued else 0
        if not is_continued:
            stream.seek(0)
            stream.truncate()
            stream.write(header_bytes)
        for name, (_, dtype) in entries.items():
            begin, end = header[name]["data_offsets"]
            if end <= written_bytes:
                continue
            stream.seek(len(header_bytes) + begin)
            stream.truncate()
            tensor_bytes = tensor_of(name).to(dtype).contiguous().reshape(-1).view(torch.uint8)
            stream.write(tensor_bytes.numpy().data)
        os.fsync(stream.fileno())


def file_digest(file: Path) -> str:
    """Compute a digest of a safetensors file from its header and its last bytes."""
    with file.open("rb") as stream:
        header_bytes = stream.read(8 + int.from_bytes(stream.read(8), "little"))
        stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
        return hashlib.sha256(header_bytes + stream.read()).hexdigest()[:16]


def size_words(size: int) -> str:
    """Format a number of bytes for people."""
    return f"{size / 1e9:.4g} GB" if size >= 1e8 else f"{size:,} bytes"


def _is_entry(entry: object) -> bool:
    """Check that a header entry has a dtype, a shape and a valid byte range."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, byte_range = entry.get("shape"), entry.get("data_offsets")
    return (
        isinstance(shape, list)
        and isinstance(byte_range, list)
        and all(isinstance(n, int) and n >= 0 for n in (*shape, *byte_range))
        and len(byte_range) == 2
        and byte_range[0] <= byte_range[1]
    )


def _invalid_file(
    label: str, file: Path, problem: str, fix: str = "download it again"
) -> EgoXInputError:
    return EgoXInputError(
        label,
        got=(
            f"{file.name!r} of {size_words(file.stat().st_size)}, which is no whole safetensors "
            f"file ({problem})"
        ),
        expected="a .safetensors file",
        fix=fix,
    )
