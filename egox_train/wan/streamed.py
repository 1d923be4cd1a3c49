"""Safetensors files tensor by tensor: read and written without the whole in memory, nor mapped."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write
from egox_core.wan import SCALE_PARTS, SCALES, read_header

from .weights import unscaled

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U8": torch.uint8,
}
"""Names of the format."""


class StreamedWeights:
    """Weights of one or several safetensors files; one of scaled float8 comes times its scale.

    Args:
        what: names the files in errors.
    """

    def __init__(self, files: list[Path], what: str) -> None:
        self.what = what
        self._headers = {file: read_header(file, what) for file in files}
        self._file_of = {
            name: file
            for file, header in self._headers.items()
            for name in header
            if name != "__metadata__"
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, without their scales, by the files' names."""
        return {
            name: tuple(self._headers[file][name]["shape"])
            for name, file in self._file_of.items()
            if not name.endswith(SCALE_PARTS)
        }

    def __getitem__(self, name: str) -> Tensor:
        """One weight, as stored or float32.

        Raises:
            EgoXInputError: of a type that isn't known.
        """
        scales = (name.removesuffix("weight") + end for end in SCALES)
        parts = {n: self._read(n) for n in (name, *scales) if n in self._file_of}
        return unscaled(parts, torch.float32, self.what)[name]

    def _read(self, name: str) -> Tensor:
        file = self._file_of[name]
        entry = self._headers[file][name]
        if entry["dtype"] not in DTYPES:
            raise EgoXInputError(
                self.what,
                got=f"{name} of type {entry['dtype']}",
                expected=f"one of {', '.join(DTYPES)}",
                fix="give the file that ends in _bf16, _fp16 or _fp8_scaled",
            )
        begin, end = entry["data_offsets"]
        with file.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            stream.seek(start + begin)
            data = bytearray(stream.read(end - begin))
        return torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])


def write_streamed(
    file: Path,
    entries: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str],
) -> None:
    """A safetensors file, whole or not at all.

    Args:
        entries: name -> shape and type of a tensor.
        tensor_of: asked for one after the other; of any type.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    header: dict[str, dict] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (shape, dtype) in entries.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": kinds[dtype],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, (_, dtype) in entries.items():
            data = tensor_of(name).to(dtype).contiguous().reshape(-1).view(torch.uint8)
            stream.write(data.numpy().data)
