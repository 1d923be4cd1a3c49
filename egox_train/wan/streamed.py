"""Read safetensors files one tensor at a time, without loading the whole file."""

from pathlib import Path

import torch
from torch import Tensor

from egox_core.wan import SCALE_PARTS, SCALES, read_header, read_tensor

from .weights import apply_scales


class StreamedWeights:
    """Mapping that reads weights from safetensors files one at a time.

    Args:
        subject: names the files in errors.
    """

    def __init__(self, files: list[Path], subject: str) -> None:
        self.what = subject
        self._headers = {file: read_header(file, subject) for file in files}
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
        """Read one weight by name.

        Raises:
            EgoXInputError: of a type that isn't known.
        """
        scale_names = (name.removesuffix("weight") + suffix for suffix in SCALES)
        weight_and_scale = {n: self._read(n) for n in (name, *scale_names) if n in self._file_of}
        return apply_scales(weight_and_scale, torch.float32, self.what)[name]

    def _read(self, name: str) -> Tensor:
        file = self._file_of[name]
        return read_tensor(file, self._headers[file], name, self.what)
