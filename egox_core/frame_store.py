"""Store the frames of a clip in memory, or in a temporary memory-mapped file if they are large.

The file is written frame by frame and mapped afterwards, so that a long clip is never in memory as
a whole; it is deleted with the last tensor that looks into it. Where all frames
would be too many to look at, :func:`sample_frames` chooses some."""

import mmap
import tempfile
import weakref
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

MEMORY_LIMIT = 72 * 2**20
"""Bytes: 49 full-size depth maps (69 MB) stay in memory; of 480 frames even the masks (169 MB) go
to disk."""


class FrameStore:
    """Store of frames [T, *shape], appended in order and then returned as one tensor."""

    def __init__(self, count: int, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        self._shape, self._dtype, self._filled = (count, *shape), np.dtype(dtype), 0
        self._file = None
        size_bytes = count * int(np.prod(shape)) * self._dtype.itemsize
        if size_bytes > MEMORY_LIMIT:
            self._file = tempfile.TemporaryFile(prefix="egox_")
        else:
            self._array = np.empty(self._shape, dtype)

    def append(
        self,
        frame: np.ndarray,  # [*shape]
    ) -> None:
        """Append the next frame."""
        if self._file is None:
            self._array[self._filled] = frame
        else:
            self._file.write(np.ascontiguousarray(frame, dtype=self._dtype).tobytes())
        self._filled += 1

    def tensor(self) -> Tensor:  # [T, *shape]
        """Return all frames as one tensor, whose changes never reach the file."""
        if self._filled != self._shape[0]:
            raise RuntimeError(f"{self._filled} of {self._shape[0]} frames stored")
        if self._file is None:
            return torch.from_numpy(self._array)
        self._file.flush()
        pages = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        tensor = torch.from_numpy(np.ndarray(self._shape, self._dtype, pages))
        _MAPPED[tensor.data_ptr()] = weakref.ref(pages)
        return tensor


def store_frames(
    frames: Iterable[Tensor],  # each [*shape], on the CPU
    count: int,
) -> Tensor:  # [count, *shape]
    """Collect the frames of an iterator in one tensor."""
    store = None
    for frame in frames:
        array = frame.numpy()
        store = store or FrameStore(count, array.shape, array.dtype)
        store.append(array)
    if store is None:
        raise RuntimeError(f"0 of {count} frames stored")
    return store.tensor()


_MAPPED: dict[int, weakref.ref[mmap.mmap]] = {}


def drop_pages(
    frames: Tensor,  # [T, ...] of :meth:`FrameStore.tensor`
) -> None:
    """Let the system drop memory-mapped frames from memory, since the file still has them.

    Does nothing for tensors in memory, and on systems that have no such call. Long loops call it
    every few frames, so that their peak memory stays that of a chunk."""
    pages = _mapped_pages(frames)
    if pages is not None and hasattr(mmap.mmap, "madvise"):
        pages.madvise(mmap.MADV_DONTNEED)


def _mapped_pages(frames: Tensor) -> mmap.mmap | None:
    reference = _MAPPED.get(frames.data_ptr())
    pages = None if reference is None else reference()
    if pages is None:
        _MAPPED.pop(frames.data_ptr(), None)
    return pages


def sample_frames(count: int, limit: int) -> list[int]:
    """Choose at most ``limit`` frame indices, evenly spread from the first to the last."""
    if count <= limit:
        return list(range(count))
    return torch.linspace(0, count - 1, limit).round().long().tolist()
