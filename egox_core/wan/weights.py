"""Weight files and folders: header, metadata, a short hash without reading 28 GB, models in transformers' folders."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

from ..errors import EgoXInputError
from ..safe_files import refuse_pickled, require_file

SAMPLE_BYTES = 4096
MAX_HEADER_BYTES = 100 * 2**20
Network = TypeVar("Network", bound=nn.Module)


def read_header(file: Path, what: str) -> dict:
    """The JSON header of a safetensors file (tensor names, shapes, ``__metadata__``).

    Raises:
        EgoXInputError: missing, pickled, not safetensors, cut off.
    """
    refuse_pickled(file, what)
    size = require_file(file, what).stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("header longer than the file")
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if ends and 8 + length + max(ends) > size:
            raise ValueError("tensor data cut off")
        return header
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise EgoXInputError(what, got=f"{file.name!r}, which is no whole safetensors file ({error})",
                             expected="a .safetensors file", fix="download it again") from error


def weights_hash(path: Path, what: str = "weights") -> str:
    """16 hex digits that change with any tensor's name, shape or beginning. A folder: of all its weight files.

    Raises:
        EgoXInputError: nothing there, or no safetensors.
    """
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise EgoXInputError(what, got=f"{path.name!r} without .safetensors files", expected="weights",
                             fix="give a diffusers folder or a single file")
    digest = hashlib.sha256()
    for file in files:
        header = read_header(file, what)
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            for name in sorted(header):
                if name == "__metadata__":
                    continue
                entry = header[name]
                digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
                begin, end = entry["data_offsets"]
                stream.seek(8 + length + begin)
                digest.update(stream.read(min(SAMPLE_BYTES, end - begin)))
    return digest.hexdigest()[:16]


def file_metadata(file: Path, what: str) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file."""
    return dict(read_header(file, what).get("__metadata__") or {})


def load_network(network: Network, file: Path, what: str, *, expected: str, where: str) -> Network:
    """The network with the weights of a file, for evaluation.

    Args:
        what: names the file in errors.
        expected: the network's name.
        where: where its weights come from.

    Raises:
        EgoXInputError: missing, no safetensors, weights of another network.
    """
    read_header(file, what)
    try:
        network.load_state_dict(load_file(file))
    except RuntimeError as error:
        raise EgoXInputError(what, got=f"{file.name!r} of another model", expected=expected, fix=where) from error
    return network.eval()


def open_model_folder(folder: Path, *class_names: str, what: str, expected: str, where: str,
                      instead: str = "", **options: Any) -> tuple[Any, ...]:
    """One object of each transformers class, read from ``folder`` alone: nothing is fetched.

    Args:
        class_names: of transformers; all read the same folder.
        what: names the model in errors.
        expected: the kind of folder.
        where: where such a folder comes from.
        instead: what to do without transformers, appended to the advice to install it.
        options: for ``from_pretrained`` of the last class, the model.

    Raises:
        EgoXInputError: transformers missing, no configuration or weights there, files of another model.
    """
    try:
        import transformers

        classes = [getattr(transformers, name) for name in class_names]
    except (ImportError, AttributeError) as error:
        raise EgoXInputError(what, got="transformers is not installed, or too old", expected="the train extra",
                             fix=f"pip install --upgrade transformers{instead}") from error
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise EgoXInputError(what, got=f"{folder.name!r} without config.json or .safetensors", expected=expected,
                             fix=where)
    try:
        *others, last = classes
        return (*(c.from_pretrained(folder, local_files_only=True) for c in others),
                last.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options).eval())
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise EgoXInputError(f"{what} {folder.name}", got=str(error).splitlines()[0], expected=expected,
                             fix=where) from error


def model_device(name: str | None) -> torch.device:
    """The device asked for; None: a GPU where there is one.

    Raises:
        EgoXInputError: no such device here.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        raise EgoXInputError("device", got=f"{name!r}, which can't be used ({str(error).splitlines()[0]})",
                             expected="cpu, or a GPU that torch sees", fix="correct --device") from error
