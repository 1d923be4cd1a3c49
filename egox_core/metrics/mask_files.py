"""Object masks of one clip from a file: ``<clip>.npz``.

Arrays: ``clip`` (the clip's name), ``truth`` [N, T, H, W] and ``truth_ids`` [N] of the true ego video, ``generated``
[M, T, H, W] and ``generated_ids`` [M] of the generated one; bool or 0/1 integers. Objects are matched by id, as a
tracker gives them when both videos are tracked from one shared first mask. Without ``generated`` and
``generated_ids`` only what the true masks alone tell is measured: whether the objects' colours are right.
``truth_seen`` [N, T], which synthetic takes carry, is the share of an object's ego pixels whose surface exo sees too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import EgoXInputError
from ..safe_files import open_zip, write_whole
from .objects import ObjectMasks

TRUE_KEYS, GENERATED_KEYS = ("clip", "truth", "truth_ids"), ("generated", "generated_ids")
SEEN = "truth_seen"


def write_masks(file: Path, clip: str, truth: np.ndarray, truth_ids: list[str], generated: np.ndarray | None = None,
                generated_ids: list[str] | None = None, truth_seen: np.ndarray | None = None) -> None:
    """Write the masks of a clip, packed; shapes as said above."""
    more = {} if generated is None else {"generated": generated.astype(bool),
                                         "generated_ids": np.array(generated_ids or [], dtype=str)}
    if truth_seen is not None:
        more[SEEN] = truth_seen.astype(np.float32)
    with write_whole(file) as temporary:
        np.savez_compressed(temporary, clip=np.array(clip), truth=truth.astype(bool),
                            truth_ids=np.array(truth_ids, dtype=str), **more)


def read_masks(file: Path, clip: str) -> ObjectMasks:
    """The masks of ``clip``; an object that the generated video lacks has empty masks there, and the other way round.

    Raises:
        EgoXInputError: missing, unreadable, of another clip, inconsistent shapes, an id twice, no id in common.
    """
    what = f"masks {file.name}"
    arrays = _read(file, what)
    if str(arrays["clip"]) != clip:
        raise EgoXInputError(what, got=f"masks of clip {str(arrays['clip'])!r}", expected=f"of {clip!r}",
                             fix="give each clip its own masks")
    sides = {}
    for name in (n for n in ("truth", "generated") if n in arrays):
        masks, ids = arrays[name], [str(i) for i in arrays[f"{name}_ids"].reshape(-1)]
        if masks.ndim != 4 or len(masks) != len(ids) or masks.dtype.kind not in "bui":
            raise EgoXInputError(what, got=f"{name} {masks.shape} of {masks.dtype} with {len(ids)} ids",
                                 expected="bool [N, T, H, W] with N ids", fix="write the masks again")
        if len(set(ids)) < len(ids):
            raise EgoXInputError(what, got=f"an id twice in {name}_ids", expected="each object once",
                                 fix="join its masks")
        sides[name] = dict(zip(ids, masks.astype(bool), strict=True))
    truth, generated = sides["truth"], sides.get("generated", {})
    shapes = {m.shape for m in (*truth.values(), *generated.values())}
    if len(shapes) > 1:
        raise EgoXInputError(what, got=f"masks of {' and '.join(map(str, sorted(shapes)))}", expected="one size",
                             fix="track both videos at the size of the true ego video")
    if not truth or (generated and not truth.keys() & generated.keys()):
        raise EgoXInputError(what, got=f"true objects {sorted(truth)}, generated {sorted(generated)}",
                             expected="objects, with ids in common",
                             fix="track both videos from one shared first mask, so that ids agree")
    ids = tuple(sorted(truth.keys() | generated.keys()))
    empty = np.zeros(next(iter(shapes)), bool)
    return ObjectMasks(ids=ids, truth=np.stack([truth.get(i, empty) for i in ids]),
                       generated=np.stack([generated.get(i, empty) for i in ids]) if "generated" in sides else None)


def read_seen_share(file: Path) -> tuple[ObjectMasks, np.ndarray]:
    """The true masks of a synthetic take's own file and the share [N, T] of each that exo sees, in the same order.

    Raises:
        EgoXInputError: see :func:`read_masks`; no such shares.
    """
    what = f"masks {file.name}"
    arrays = _read(file, what, (*TRUE_KEYS, SEEN))
    masks, seen = arrays["truth"], arrays[SEEN]
    if masks.ndim != 4 or masks.dtype.kind not in "bui" or seen.shape != masks.shape[:2] \
            or len(arrays["truth_ids"]) != len(masks):
        raise EgoXInputError(what, got=f"truth {masks.shape} of {masks.dtype}, {SEEN} {seen.shape}",
                             expected="bool [N, T, H, W] and [N, T]", fix="write the take again")
    ids = tuple(str(i) for i in arrays["truth_ids"])
    return ObjectMasks(ids=ids, truth=masks.astype(bool), generated=None), seen.astype(np.float32)


def _read(file: Path, what: str, keys: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    with open_zip(file, what):
        pass
    try:
        with np.load(file, allow_pickle=False) as archive:
            wanted = keys or TRUE_KEYS + (GENERATED_KEYS if any(k in archive for k in GENERATED_KEYS) else ())
            missing = [k for k in wanted if k not in archive]
            if missing:
                raise EgoXInputError(what, got=f"no {missing[0]}", expected=", ".join(wanted), fix="write it again")
            return {k: archive[k] for k in wanted}
    except EgoXInputError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise EgoXInputError(what, got=f"arrays that can't be read ({error})", expected="a numpy .npz",
                             fix="write it again") from error
