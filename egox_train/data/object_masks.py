"""Object masks of one clip from a file: ``<clip>.npz``.

Arrays: ``clip`` (the clip's name), ``truth`` [N, T, H, W] and ``truth_ids`` [N] of the true ego
video, ``generated`` [M, T, H, W] and ``generated_ids`` [M] of the generated one; bool or 0/1
integers. Objects are matched by id, as a tracker gives them when both videos are tracked from
one shared first mask. Without ``generated`` and ``generated_ids`` only what the true masks
alone tell is measured: whether the objects' colours are right. ``truth_seen`` [N, T], which
synthetic takes carry, is the share of an object's ego pixels whose surface exo sees too.

``prepare`` cuts the masks of a synthetic take to its clips: the same frames, the same size as the
true ego video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from egox_core.archives import open_zip
from egox_core.errors import EgoXInputError
from egox_core.file_names import OBJECTS
from egox_core.safe_files import atomic_write
from egox_core.types import ObjectMasks

TRUE_KEYS, GENERATED_KEYS = ("clip", "truth", "truth_ids"), ("generated", "generated_ids")
SEEN = "truth_seen"


def write_masks(
    file: Path,
    clip: str,
    truth: np.ndarray,
    truth_ids: list[str],
    generated: np.ndarray | None = None,
    generated_ids: list[str] | None = None,
    truth_seen: np.ndarray | None = None,
) -> None:
    """Write the masks of a clip, packed; shapes as said above."""
    more: dict[str, Any] = (
        {}
        if generated is None
        else {
            "generated": generated.astype(bool),
            "generated_ids": np.array(generated_ids or [], dtype=str),
        }
    )
    if truth_seen is not None:
        more[SEEN] = truth_seen.astype(np.float32)
    with atomic_write(file) as temporary:
        np.savez_compressed(
            temporary,
            clip=np.array(clip),
            truth=truth.astype(bool),
            truth_ids=np.array(truth_ids, dtype=str),
            **more,
        )


def read_masks(file: Path, clip: str | None, *, by_id: bool = True) -> ObjectMasks:
    """The masks of ``clip`` (None: of whatever clip they are); an object that the generated video
    lacks has empty masks there, and the other way round.

    Args:
        by_id: False leaves the generated masks as they are, in their own order: something else will
            match them.

    Raises:
        EgoXInputError: missing, unreadable, of another clip, inconsistent shapes, an id twice, no
            id in common.
    """
    what = f"masks {file.name}"
    arrays = _read(file, what)
    if clip is not None and str(arrays["clip"]) != clip:
        raise EgoXInputError(
            what,
            got=f"masks of clip {str(arrays['clip'])!r}",
            expected=f"of {clip!r}",
            fix="give each clip its own masks",
        )
    truth = _side(arrays, "truth", what)
    generated = _side(arrays, "generated", what) if "generated" in arrays else {}
    shapes = {m.shape for m in (*truth.values(), *generated.values())}
    if len(shapes) > 1:
        raise EgoXInputError(
            what,
            got=f"masks of {' and '.join(map(str, sorted(shapes)))}",
            expected="one size",
            fix="track both videos at the size of the true ego video",
        )
    if "generated" not in arrays:
        ids = tuple(sorted(truth))
        return ObjectMasks(
            ids=ids,
            truth=_stack(truth, ids, arrays["truth"].shape[1:]),
            generated=None,
            seen=_seen(arrays, ids, what),
        )
    if not truth or (by_id and generated and not truth.keys() & generated.keys()):
        raise EgoXInputError(
            what,
            got=f"true objects {sorted(truth)}, generated {sorted(generated)}",
            expected="objects, with ids in common",
            fix="track both videos from one shared first mask, so that ids agree, or give --dino",
        )
    shape = arrays["truth"].shape[1:]
    if not by_id:
        ids = tuple(sorted(truth))
        return ObjectMasks(
            ids=ids,
            truth=_stack(truth, ids, shape),
            generated=_stack(generated, generated, shape),
            seen=_seen(arrays, ids, what),
        )
    ids = tuple(sorted(truth.keys() | generated.keys()))
    return ObjectMasks(
        ids=ids,
        truth=_stack(truth, ids, shape),
        generated=_stack(generated, ids, shape),
        seen=_seen(arrays, ids, what),
    )


def _side(arrays: Mapping[str, np.ndarray], name: str, what: str) -> dict[str, np.ndarray]:
    masks, ids = arrays[name], [str(i) for i in arrays[f"{name}_ids"].reshape(-1)]
    if masks.ndim != 4 or len(masks) != len(ids) or masks.dtype.kind not in "bui":
        raise EgoXInputError(
            what,
            got=f"{name} {masks.shape} of {masks.dtype} with {len(ids)} ids",
            expected="bool [N, T, H, W] with N ids",
            fix="write the masks again",
        )
    if len(set(ids)) < len(ids):
        raise EgoXInputError(
            what,
            got=f"an id twice in {name}_ids",
            expected="each object once",
            fix="join its masks",
        )
    return dict(zip(ids, masks.astype(bool), strict=True))


def _stack(
    masks: Mapping[str, np.ndarray], ids: Iterable[str], shape: tuple[int, ...]
) -> np.ndarray:
    empty = np.zeros(shape, bool)
    arrays = [masks.get(i, empty) for i in ids]
    return np.stack(arrays) if arrays else np.zeros((0, *shape), bool)


def _seen(arrays: Mapping[str, np.ndarray], ids: tuple[str, ...], what: str) -> np.ndarray | None:
    if SEEN not in arrays:
        return None
    seen, names = arrays[SEEN], [str(i) for i in arrays["truth_ids"].reshape(-1)]
    if seen.shape != arrays["truth"].shape[:2] or seen.dtype.kind not in "fiu":
        raise EgoXInputError(
            what,
            got=f"{SEEN} {seen.shape} of {seen.dtype}",
            expected=arrays["truth"].shape[:2],
            fix="write the take again",
        )
    by_name = dict(zip(names, seen.astype(np.float32), strict=True))
    nothing = np.zeros(seen.shape[1], np.float32)
    return (
        np.stack([by_name.get(i, nothing) for i in ids])
        if ids
        else np.zeros((0, seen.shape[1]), np.float32)
    )


def _read(file: Path, what: str) -> dict[str, np.ndarray]:
    with open_zip(file, what):
        pass
    try:
        with np.load(file, allow_pickle=False) as archive:
            wanted = TRUE_KEYS + (
                GENERATED_KEYS if any(k in archive for k in GENERATED_KEYS) else ()
            )
            missing = [k for k in wanted if k not in archive]
            if missing:
                raise EgoXInputError(
                    what, got=f"no {missing[0]}", expected=", ".join(wanted), fix="write it again"
                )
            return {k: archive[k] for k in (*wanted, *([SEEN] if SEEN in archive else []))}
    except EgoXInputError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise EgoXInputError(
            what,
            got=f"arrays that can't be read ({error})",
            expected="a numpy .npz",
            fix="write it again",
        ) from error


def objects_of(ego_video: Path | None) -> Path | None:
    """The masks that are beside a true ego video, where there are any."""
    file = None if ego_video is None else ego_video.with_name(OBJECTS)
    return file if file is not None and file.is_file() else None


def carry_objects(
    source: Path,
    target: Path,
    clip: str,
    indices: Tensor,  # [T] frames of the source
    size: int,  # px
) -> None:
    """Write the masks of the frames ``indices`` at ``size`` x ``size`` px for ``clip``; objects
    that none of them shows are left out.

    Raises:
        EgoXInputError: masks that can't be read, are shorter than the clip, or not square.
    """
    masks = read_masks(source, None)
    frames, height, width = masks.truth.shape[1:]
    if int(indices[-1]) >= frames or height != width:
        raise EgoXInputError(
            f"object masks of clip {clip}",
            got=f"{frames} frames of {width}x{height}",
            expected=f"square ones, at least {int(indices[-1]) + 1} frames",
            fix="write the take again, or delete its objects.npz",
        )
    truth = masks.truth[:, indices.numpy()]
    if height != size and len(truth):
        truth = (
            interpolate(torch.from_numpy(truth).float(), size=(size, size), mode="nearest")
            .bool()
            .numpy()
        )
    shown = truth.any(axis=(1, 2, 3))
    seen = None if masks.seen is None else masks.seen[:, indices.numpy()][shown]
    write_masks(
        target, clip, truth[shown], list(np.array(masks.ids, dtype=str)[shown]), truth_seen=seen
    )
