"""Define immutable dataclasses for values between stages, and digests of their content."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from typing_extensions import dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(kind: type[T]) -> type[T]:
    """Turn a class into an immutable dataclass with slots and keyword arguments."""
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


def content_digest(*values: Any) -> str:
    """Compute a SHA-256 digest of values, including all fields of payloads and all numbers of
    arrays.

    Raises:
        TypeError: an object whose content isn't known.
    """
    digest = hashlib.sha256()
    for value in values:
        for part in _content_bytes(value):
            digest.update(b"%d:" % len(part))
            digest.update(part)
    return digest.hexdigest()


def _content_bytes(value: Any) -> Iterator[Any]:  # buffers of bytes
    import torch  # here, since options are frozen before torch is imported

    yield type(value).__name__.encode()
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        flat_tensor = value.detach().cpu().contiguous().reshape(-1)
        yield flat_tensor.view(torch.uint8).numpy().data
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif is_dataclass(value) and not isinstance(value, type):
        for attribute in fields(value):
            if attribute.compare:  # or it is made of the others
                yield attribute.name.encode()
                yield from _content_bytes(getattr(value, attribute.name))
    elif isinstance(value, Mapping):
        yield b"%d" % len(value)
        for key, item in sorted(value.items(), key=lambda entry: repr(entry[0])):
            yield from _content_bytes(key)
            yield from _content_bytes(item)
    elif isinstance(value, (tuple, list)):
        yield b"%d" % len(value)
        for item in value:
            yield from _content_bytes(item)
    elif value is None or isinstance(value, (bool, int, float, str, bytes, Path)):
        yield repr(value).encode()
    else:
        raise TypeError(f"the content of a {type(value).__name__} isn't known")
