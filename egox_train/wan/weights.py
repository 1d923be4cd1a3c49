"""Read weight files, and compute hashes of them without reading all bytes."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from egox_core.errors import EgoXInputError
from egox_core.safe_files import visible_files
from egox_core.wan import SCALE_PARTS, read_header, unscale

SAMPLE_BYTES = 4096
Network = TypeVar("Network", bound=nn.Module)


def weights_hash(path: Path, subject: str = "weights") -> str:
    """Compute a hash of a weight file or folder from names, shapes and first bytes of tensors.

    Raises:
        EgoXInputError: nothing there, or no safetensors.
    """
    files = visible_files(path, "*.safetensors", nested=True) if path.is_dir() else [path]
    if not files:
        raise EgoXInputError(
            subject,
            got=f"{path.name!r} without .safetensors files",
            expected="weights",
            fix="give the folder that has them, or a single file",
        )
    sha256_digest = hashlib.sha256()
    for file in files:
        header = read_header(file, subject)
        with file.open("rb") as file_stream:
            header_length = int.from_bytes(file_stream.read(8), "little")
            for name in sorted(header):
                if name == "__metadata__":
                    continue
                tensor_entry = header[name]
                sha256_digest.update(
                    json.dumps([name, tensor_entry["dtype"], tensor_entry["shape"]]).encode()
                )
                first_byte, last_byte = tensor_entry["data_offsets"]
                file_stream.seek(8 + header_length + first_byte)
                sha256_digest.update(file_stream.read(min(SAMPLE_BYTES, last_byte - first_byte)))
    return sha256_digest.hexdigest()[:16]


def subfolder(path: Path, name: str) -> Path:
    """Find the subfolder of that name in a diffusers folder, or return ``path`` itself."""
    return path / name if (path / name).is_dir() else path


def weights_bytes(*paths: Path | None) -> int:
    """Sum the sizes of weight files."""
    files = {
        file
        for path in paths
        if path is not None
        for file in (visible_files(path, "*.safetensors", nested=True) if path.is_dir() else [path])
    }
    return sum(file.stat().st_size for file in files)


def file_metadata(file: Path, subject: str) -> dict[str, str]:
    """Read the ``__metadata__`` of a safetensors file."""
    return dict(read_header(file, subject).get("__metadata__") or {})


def apply_scales(
    weights: Mapping[str, Tensor], dtype: torch.dtype, subject: str
) -> dict[str, Tensor]:
    """Multiply the weights of a scaled float8 file by their scales, in ``dtype``.

    Others are as they are.

    Raises:
        EgoXInputError: weights that are quantised otherwise.
    """
    return {
        name: unscale(weights, name, subject, dtype)
        for name in weights
        if not name.endswith(SCALE_PARTS)
    }


def load_network(
    network: Network, file: Path, subject: str, *, expected: str, download_hint: str
) -> Network:
    """Load the weights of a file into a network, and set it to evaluation mode.

    Args:
        subject: names the file in errors.
        expected: the network's name.
        download_hint: where its weights come from.

    Raises:
        EgoXInputError: missing, no safetensors, weights of another network.
    """
    read_header(file, subject)
    try:
        network.load_state_dict(load_file(file))
    except RuntimeError as error:
        raise EgoXInputError(
            subject, got=f"{file.name!r} of a different model", expected=expected, fix=download_hint
        ) from error
    return network.train(False)


def open_model_folder(
    folder: Path,
    *class_names: str,
    subject: str,
    expected: str,
    download_hint: str,
    alternative: str = "",
    **options: Any,
) -> tuple[Any, ...]:
    """Load objects of several transformers classes from a local ``folder``.

    Args:
        class_names: of transformers; all read the same folder.
        subject: names the model in errors.
        expected: the kind of folder.
        download_hint: where such a folder comes from.
        alternative: what to do without transformers, appended to the advice to install it.
        options: for ``from_pretrained`` of the last class, the model.

    Raises:
        EgoXInputError: transformers missing, no configuration or weights there, files of another
            model.
    """
    try:
        import transformers

        model_classes = [getattr(transformers, name) for name in class_names]
    except (ImportError, AttributeError) as error:
        raise EgoXInputError(
            subject,
            got="transformers is not installed, or too old",
            expected="the train extra",
            fix=f"pip install --upgrade transformers{alternative}",
        ) from error
    if not (folder / "config.json").is_file() or not visible_files(folder, "*.safetensors"):
        raise EgoXInputError(
            subject,
            got=f"{folder.name!r} without config.json or .safetensors",
            expected=expected,
            fix=download_hint,
        )
    try:
        *other_classes, last_class = model_classes
        return (
            *(c.from_pretrained(folder, local_files_only=True) for c in other_classes),
            last_class.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, **options
            ).train(False),
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise EgoXInputError(
            f"{subject} {folder.name}",
            got=str(error).splitlines()[0],
            expected=expected,
            fix=download_hint,
        ) from error


@cache
def model_on(
    device: str | None, folder: Path, *class_names: str, **messages: str
) -> tuple[Any, ...]:
    """Load models from a folder and move them to a device, once per process and device.

    ``device`` None is a GPU where there is one.

    Raises:
        EgoXInputError: as :func:`open_model_folder`; no such device here.
    """
    model_device_name = model_device(device)
    *processor_objects, model = open_model_folder(folder, *class_names, **messages)
    return *processor_objects, model.to(model_device_name)


def model_device(device_name: str | None) -> torch.device:
    """Choose the named device, or a GPU if no device is named.

    Raises:
        EgoXInputError: no such device here.
    """
    device_name = device_name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device_name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        raise EgoXInputError(
            "device",
            got=f"{device_name!r}, which can't be used ({str(error).splitlines()[0]})",
            expected="cpu, or a GPU that torch sees",
            fix="give --device cpu, or a GPU that is there",
        ) from error
