"""Read and write a cache of encoded clips, which consists of safetensors shards and an index.

    cache/index.json            settings, fingerprints, clip -> shard
    cache/shard-<hash of the take's name>-000.safetensors   tensors "<clip>/<name>", and the
        embedding of the empty caption, which any clip can be trained with; in the metadata its
        fingerprint, and the clips that could not be read, with the reason

A shard holds clips of one take. Its fingerprint covers the clips' files, the models and the
settings. A shard made from anything else is made again, and a training run refuses an index that
its shards don't match.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from egox_core.errors import EgoXInputError, intact
from egox_core.frozen import frozen
from egox_core.safe_files import (
    atomic_write,
    read_json_object,
    require_safe_name,
    write_json,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = "egox-cache/1"
INDEX_FILE = "index.json"
EMPTY_CAPTION = "empty caption"
FINGERPRINT_KEY, OMITTED_KEY = "egox.fingerprint", "egox.left_out"
MAX_INDEX_BYTES = 2**30


@frozen
class CacheEntry:
    """Entry of one clip in a cache's index."""

    clip: str
    take: str
    split: str
    shard: str
    start: int  # first source frame
    rank: int  # of its exo camera within the take, 1 is the best
    fps: float  # of its videos


@frozen
class CacheIndex:
    """Index of a cache: its clips, and the models and settings that made it."""

    settings: Mapping[str, Any]  # image_embedding, rays, sizes, views, ...
    models: Mapping[str, str]  # vae, text, clip_vision -> weights hash
    shards: Mapping[str, str]  # shard file -> fingerprint
    entries: tuple[CacheEntry, ...]


def shard_name(take: str, number: int = 0) -> str:
    """Build the file name of a take's shard from a hash of the take's name."""
    return f"shard-{hashlib.sha256(take.encode()).hexdigest()[:16]}-{number:03d}.safetensors"


def shard_header(file: Path) -> tuple[str | None, dict[str, str]]:
    """Read a cache shard's fingerprint, and the clips that could not be encoded with the
    reasons."""
    if not file.is_file():
        return None, {}
    try:
        with safe_open(file, "pt") as stream:
            metadata = stream.metadata() or {}
        return metadata.get(FINGERPRINT_KEY), dict(json.loads(metadata.get(OMITTED_KEY, "{}")))
    except (SafetensorError, OSError, RecursionError, TypeError, ValueError):
        return None, {}


def write_shard(
    file: Path,
    tensors: Mapping[str, Tensor],
    content_hash: str,
    omitted_reasons: Mapping[str, str] | None = None,
) -> None:
    """Write one shard of the cache atomically.

    Args:
        omitted_reasons: by name, why a clip that belongs here isn't in it.

    Raises:
        EgoXInputError: the disk is full (or the file system refuses); nothing half-written is left.
    """
    from safetensors.torch import save_file

    metadata = {FINGERPRINT_KEY: content_hash} | (
        {OMITTED_KEY: json.dumps(omitted_reasons)} if omitted_reasons else {}
    )
    try:
        with atomic_write(file) as temporary_file:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()}, temporary_file, metadata=metadata
            )
    except (SafetensorError, OSError) as error:
        raise EgoXInputError(
            f"cache shard {file.name}",
            got=f"it can't be written ({error})",
            expected="room on the disk",
            fix="free some space and start again",
        ) from error


def write_index(folder: Path, index: CacheIndex) -> None:
    """Write the cache's index atomically, which marks the cache as finished."""
    write_json(
        folder / INDEX_FILE,
        {
            "format": FORMAT,
            "settings": dict(index.settings),
            "models": dict(index.models),
            "shards": dict(index.shards),
            "clips": [asdict(entry) for entry in index.entries],
        },
    )


def require_index(folder: Path) -> Path:
    """Return the path of a cache's index, or refuse a folder that has none.

    Raises:
        EgoXInputError: missing (unfinished).
    """
    index_file = folder / INDEX_FILE
    if not index_file.is_file():
        raise EgoXInputError(
            "cache",
            got=f"{str(folder)!r} without {INDEX_FILE}",
            expected="a finished cache",
            fix="run `train_egox.py cache` (again: it continues from the last finished file)",
        )
    return index_file


def parse_index(folder: Path) -> CacheIndex:
    """Read the index of a cache, without checking the shards.

    Raises:
        EgoXInputError: missing (unfinished), not an index.
    """
    from pydantic import TypeAdapter, ValidationError

    index_file = require_index(folder)
    index_content = read_json_object(index_file, "cache index", MAX_INDEX_BYTES)
    if index_content.get("format", FORMAT) != FORMAT:
        raise EgoXInputError(
            "cache",
            got=f"format {str(index_content['format'])[:40]}",
            expected=FORMAT,
            fix="make the cache again with this version",
        )
    fix_text = "run `train_egox.py cache` again"
    with intact(
        f"cache index {index_file.name}", (ValidationError,), expected=FORMAT, fix=fix_text
    ):
        index = TypeAdapter(CacheIndex).validate_python(
            {**index_content, "entries": index_content.get("clips")}
        )
    missing_shards = [entry.shard for entry in index.entries if entry.shard not in index.shards]
    if missing_shards:
        raise EgoXInputError(
            "cache index",
            got=f"a clip in {missing_shards[0]}",
            expected="its own shards",
            fix=fix_text,
        )
    return index


def read_index(folder: Path) -> CacheIndex:
    """Read the index of a cache, and check that the shards match it.

    Raises:
        EgoXInputError: as there; a shard gone or made from other data than the index says.
    """
    index = parse_index(folder)
    for name, expected_fingerprint in index.shards.items():
        require_safe_name(name, "cache shard")
        actual_fingerprint, _ = shard_header(folder / name)
        if actual_fingerprint != expected_fingerprint:
            raise EgoXInputError(
                f"cache shard {name}",
                got="no readable file"
                if actual_fingerprint is None
                else "data made from other clips, models or settings",
                expected="the files that the index names",
                fix="run `train_egox.py cache` again: it remakes mismatched files",
            )
    return index


class CacheReader:
    """Reader of the clips in a cache, which keeps one memory-mapped shard open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = read_index(folder)
        self._entries = {e.clip: e for e in self.index.entries}
        self._open_shard: tuple[str, Any] | None = None

    def clips(self, split: str) -> list[str]:
        """List the clips of a split, in the order of the cache's index.

        Raises:
            EgoXInputError: none.
        """
        names = [e.clip for e in self.index.entries if e.split == split]
        if not names:
            filled_splits = ", ".join(sorted({e.split for e in self.index.entries}))
            raise EgoXInputError(
                f"cache split {split}",
                got=f"no clip, all are of {filled_splits}",
                expected="at least one",
                fix="choose a split that has some, or prepare more takes or larger split fractions",
            )
        return names

    def take_of(self, clip: str) -> str:
        return self._entries[clip].take

    def fps_of(self, clip: str) -> float:
        """Look up the frame rate of a clip's videos, in frames per second."""
        return self._entries[clip].fps

    def tensors(self, clip: str, names: Sequence[str]) -> dict[str, Tensor]:
        """Read the named tensors of a cached clip, and skip those that the cache lacks.

        Raises:
            EgoXInputError: no such clip, or a shard that can't be read.
        """
        stored_tensors = self._read(clip, [f"{clip}/{name}" for name in names])
        return {key[len(clip) + 1 :]: tensor for key, tensor in stored_tensors.items()}

    def empty_caption(self, clip: str) -> Tensor:  # [tokens, width]
        """Read the text embedding of an empty caption, for guidance.

        Raises:
            EgoXInputError: as :meth:`tensors`, or a cache that was made without it.
        """
        stored_tensors = self._read(clip, [EMPTY_CAPTION])
        if not stored_tensors:
            raise EgoXInputError(
                "cache",
                got="no embedding of the empty caption",
                expected="one for caption dropout",
                fix="make the cache again, or set conditioning.caption_dropout=0",
            )
        return stored_tensors[EMPTY_CAPTION]

    def _read(self, clip: str, keys: Sequence[str]) -> dict[str, Tensor]:
        """Read the named tensors of one clip from its shard."""
        entry = self._entries.get(clip)
        if entry is None:
            raise EgoXInputError(
                "clip", got=repr(clip), expected="a clip of the cache", fix="see index.json"
            )
        try:
            if self._open_shard is None or self._open_shard[0] != entry.shard:
                stream = safe_open(self.folder / entry.shard, "pt")
                self._open_shard = (entry.shard, (stream, set(stream.keys())))
            stream, shard_keys = self._open_shard[1]
            return {key: stream.get_tensor(key) for key in keys if key in shard_keys}
        except (SafetensorError, OSError) as error:
            raise EgoXInputError(
                f"cache shard {entry.shard}",
                got=f"an unreadable file ({error})",
                expected="an intact shard",
                fix="run `train_egox.py cache` again",
            ) from error


def to_storage(
    source_tensor: Tensor,  # of any shape
    dtype: torch.dtype,
) -> Tensor:
    """Copy a tensor to its own contiguous CPU memory, as safetensors requires."""
    return source_tensor.detach().to("cpu", dtype, copy=True).contiguous()
