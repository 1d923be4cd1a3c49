"""Weight files and folders: header, metadata, a short hash without reading 28 GB, models in
transformers' folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import EgoXInputError
from ..safe_files import parse_json, refuse_pickled, require_file

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
SAMPLE_BYTES = 4096
MAX_HEADER_BYTES = 100 * 2**20
PEEKED_BYTES = 64
SCALES = ("scale_weight", "weight_scale")
SCALE_PARTS = ("scaled_fp8", *SCALES, "scale_input", "input_scale", ".comfy_quant")
"""Ends of names that scaled float8 files have beside the weights, by ComfyUI's old and new form."""
LFS_POINTER = b"version https://git-lfs"
Network = TypeVar("Network", bound=nn.Module)


def read_header(file: Path, what: str) -> dict:
    """The JSON header of a safetensors file (tensor names, shapes, ``__metadata__``).

    Raises:
        EgoXInputError: missing, pickled, not safetensors, cut off.
    """
    size = require_file(file, what).stat().st_size
    refuse_pickled(file, what)
    with file.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if not 0 < length <= min(size - 8, MAX_HEADER_BYTES):
            raise _no_safetensors(what, file, *_instead(start + stream.read(PEEKED_BYTES)))
        header = parse_json(stream.read(length), f"{what} {file.name!r}")
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__") or {}, dict):
        raise _no_safetensors(what, file, "a header that is no object")
    whole = 8 + length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not _is_entry(entry):
            raise _no_safetensors(what, file, f"{name[:80]!r} malformed")
        whole = max(whole, 8 + length + entry["data_offsets"][1])
    if whole > size:
        raise _no_safetensors(what, file, f"cut off: {size_words(whole)} belong to it")
    return header


def size_words(size: int) -> str:
    """A size of bytes for people."""
    return f"{size / 1e9:.4g} GB" if size >= 1e8 else f"{size:,} bytes"


def _instead(start: bytes) -> tuple[str, ...]:
    """The kind of a file that begins so and is no safetensors file, and where it has one what to
    do."""
    if not start:
        return ("empty",)
    if start.startswith(LFS_POINTER):
        return "a Git LFS pointer", "run git lfs pull in its folder, or download the file itself"
    if start.lstrip()[:1] == b"<":
        return (
            "a web page",
            "open its page in a browser, accept what it asks for, and download the file itself",
        )
    return ("a header longer than the file",)


def _is_entry(entry: object) -> bool:
    """True where a tensor is described by dtype, shape and place."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, place = entry.get("shape"), entry.get("data_offsets")
    return (
        isinstance(shape, list)
        and isinstance(place, list)
        and all(isinstance(n, int) and n >= 0 for n in (*shape, *place))
        and len(place) == 2
        and place[0] <= place[1]
    )


def _no_safetensors(
    what: str, file: Path, problem: str, fix: str = "download it again"
) -> EgoXInputError:
    return EgoXInputError(
        what,
        got=f"{file.name!r} of {size_words(file.stat().st_size)}, which is no whole safetensors file ({problem})",
        expected="a .safetensors file",
        fix=fix,
    )


def weights_hash(path: Path, what: str = "weights") -> str:
    """16 hex digits that change with any tensor's name, shape or beginning. A folder: of all its
    weight files.

    Raises:
        EgoXInputError: nothing there, or no safetensors.
    """
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise EgoXInputError(
            what,
            got=f"{path.name!r} without .safetensors files",
            expected="weights",
            fix="give a diffusers folder or a single file",
        )
    digest = hashlib.sha256()
    for file in files:
        header = read_header(file, what)
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            for name in sorted(header):
                if name == "__metadata__":
                    continue
                entry = header[name]
                digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
                begin, end = entry["data_offsets"]
                stream.seek(8 + length + begin)
                digest.update(stream.read(min(SAMPLE_BYTES, end - begin)))
    return digest.hexdigest()[:16]


def weights_bytes(*paths: Path | None) -> int:
    """Size of weight files, and of those in folders: what a process that loads them needs."""
    files = {
        file
        for path in paths
        if path is not None
        for file in (path.rglob("*.safetensors") if path.is_dir() else [path])
    }
    return sum(file.stat().st_size for file in files)


def file_metadata(file: Path, what: str) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file."""
    return dict(read_header(file, what).get("__metadata__") or {})


def unscaled(weights: Mapping[str, Tensor], dtype: torch.dtype, what: str) -> dict[str, Tensor]:
    """Weights of a scaled float8 file times their scales, in ``dtype``; others as they are.

    Raises:
        EgoXInputError: weights that are quantised otherwise.
    """
    out = {}
    for name, value in weights.items():
        if name.endswith(SCALE_PARTS):
            continue
        stem = name.removesuffix("weight")
        scale = next((weights[stem + s] for s in SCALES if stem + s in weights), None)
        if scale is not None and name != stem:
            if value.dtype not in FLOAT8 or scale.numel() not in (1, len(value)):
                raise EgoXInputError(
                    what,
                    got=f"{name} quantised to {value.dtype}, scales {tuple(scale.shape)}",
                    expected="bf16, fp16, float8, or float8 with a scale of each matrix",
                    fix="give the file that ends in _bf16, _fp16 or _fp8_scaled",
                )
            rows = scale.float().reshape(-1, *(1 for _ in value.shape[1:]))
            value = (value.float() * rows).to(dtype)
        out[name] = value
    return out


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
        raise EgoXInputError(
            what, got=f"{file.name!r} of another model", expected=expected, fix=where
        ) from error
    return network.train(False)


def open_model_folder(
    folder: Path,
    *class_names: str,
    what: str,
    expected: str,
    where: str,
    instead: str = "",
    **options: Any,
) -> tuple[Any, ...]:
    """One object of each transformers class, read from ``folder`` alone: nothing is fetched.

    Args:
        class_names: of transformers; all read the same folder.
        what: names the model in errors.
        expected: the kind of folder.
        where: where such a folder comes from.
        instead: what to do without transformers, appended to the advice to install it.
        options: for ``from_pretrained`` of the last class, the model.

    Raises:
        EgoXInputError: transformers missing, no configuration or weights there, files of another
            model.
    """
    try:
        import transformers

        classes = [getattr(transformers, name) for name in class_names]
    except (ImportError, AttributeError) as error:
        raise EgoXInputError(
            what,
            got="transformers is not installed, or too old",
            expected="the train extra",
            fix=f"pip install --upgrade transformers{instead}",
        ) from error
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise EgoXInputError(
            what,
            got=f"{folder.name!r} without config.json or .safetensors",
            expected=expected,
            fix=where,
        )
    try:
        *others, last = classes
        return (
            *(c.from_pretrained(folder, local_files_only=True) for c in others),
            last.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, **options
            ).train(False),
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise EgoXInputError(
            f"{what} {folder.name}", got=str(error).splitlines()[0], expected=expected, fix=where
        ) from error


def model_device(name: str | None) -> torch.device:
    """The device asked for; None: a GPU where there is one.

    Raises:
        EgoXInputError: no such device here.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        raise EgoXInputError(
            "device",
            got=f"{name!r}, which can't be used ({str(error).splitlines()[0]})",
            expected="cpu, or a GPU that torch sees",
            fix="correct --device",
        ) from error
