"""Safetensors files tensor by tensor: read without the whole in memory, nor mapped."""

from pathlib import Path

import torch
from torch import Tensor

from egox_core.wan import SCALE_PARTS, SCALES, read_header, read_tensor

from .weights import unscaled


class StreamedWeights:
    """Read weights of safetensors files one by one, those of scaled float8 times their scale.

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
        """List the shapes of the weights, without their scales, by the files' names."""
        return {
            name: tuple(self._headers[file][name]["shape"])
            for name, file in self._file_of.items()
            if not name.endswith(SCALE_PARTS)
        }

    def __getitem__(self, name: str) -> Tensor:
        """Read one weight, as stored or as float32.

        Raises:
            EgoXInputError: of a type that isn't known.
        """
        scales = (name.removesuffix("weight") + end for end in SCALES)
        parts = {n: self._read(n) for n in (name, *scales) if n in self._file_of}
        return unscaled(parts, torch.float32, self.what)[name]

    def _read(self, name: str) -> Tensor:
        file = self._file_of[name]
        return read_tensor(file, self._headers[file], name, self.what)
