"""Read and write the object masks of a clip.

Arrays: ``clip`` (the clip's name), ``truth`` [N, T, H, W] and ``truth_ids`` [N] of the true ego
video, ``generated`` [M, T, H, W] and ``generated_ids`` [M] of the generated one; bool or 0/1
integers. Objects are matched by id, as a tracker gives them when both videos are tracked from
one shared first mask. Optional: ``protocol``, the rules that the masks were made by."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from egox_core.archives import open_zip
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.safe_files import atomic_write

KEYS = ("clip", "truth", "truth_ids", "generated", "generated_ids")


@frozen
class ObjectMasks:
    """Masks of objects in the true and the generated ego video, where equal ids are the same
    object."""

    ids: tuple[str, ...]
    truth: np.ndarray  # [N, T, H, W] bool
    generated: np.ndarray  # [N, T, H, W] bool


def write_masks(
    file: Path,
    clip: str,
    truth: np.ndarray,
    truth_ids: list[str],
    generated: np.ndarray,
    generated_ids: list[str],
    protocol: str = "",
) -> None:
    """Write the object masks of a clip as packed bits to an .npz file.

    Args:
        protocol: the rules that they were made by, where a report asks for them.
    """
    with atomic_write(file) as temporary_file:
        np.savez_compressed(
            temporary_file,
            clip=np.array(clip),
            truth=truth.astype(bool),
            truth_ids=np.array(truth_ids, dtype=str),
            generated=generated.astype(bool),
            generated_ids=np.array(generated_ids, dtype=str),
            protocol=np.array(protocol),
        )


def read_masks(
    file: Path, clip: str, *, by_id: bool = True, protocol: str | None = None
) -> ObjectMasks:
    """Read the object masks of ``clip``, empty for an object that one of the videos lacks.

    Args:
        by_id: False leaves the generated masks as they are, in their own order: something else will
            match them.
        protocol: the rules that they must have been made by; None: any.

    Raises:
        EgoXInputError: missing, unreadable, of another clip, inconsistent shapes, an id twice, no
            id in common, other rules.
    """
    label = f"masks {file.name}"
    arrays = read_arrays(file, label, KEYS if protocol is None else (*KEYS, "protocol"))
    if protocol is not None and str(arrays["protocol"]) != protocol:
        raise EgoXInputError(
            label,
            got=f"masks by the rules of {str(arrays['protocol']) or 'no protocol'}",
            expected=protocol,
            fix=f"make them with `masks --protocol {protocol}`",
        )
    if str(arrays["clip"]) != clip:
        raise EgoXInputError(
            label,
            got=f"masks of clip {str(arrays['clip'])!r}",
            expected=f"of {clip!r}",
            fix="give each clip its own masks",
        )
    true_masks, generated_masks = (
        _masks_of_video(arrays, name, label) for name in ("truth", "generated")
    )
    mask_shapes = {
        object_mask.shape for object_mask in (*true_masks.values(), *generated_masks.values())
    }
    if len(mask_shapes) > 1:
        raise EgoXInputError(
            label,
            got=f"masks of {' and '.join(map(str, sorted(mask_shapes)))}",
            expected="one size",
            fix="track both videos at the size of the true ego video",
        )
    if (not true_masks and protocol is None) or (
        by_id and generated_masks and not true_masks.keys() & generated_masks.keys()
    ):
        raise EgoXInputError(
            label,
            got=f"true objects {sorted(true_masks)}, generated {sorted(generated_masks)}",
            expected="objects, with ids in common",
            fix="track both videos from one shared first mask, so that ids agree, or give --dino",
        )
    shape = arrays["truth"].shape[1:]
    object_ids = tuple(sorted(true_masks.keys() | generated_masks.keys() if by_id else true_masks))
    return ObjectMasks(
        ids=object_ids,
        truth=_stack(true_masks, object_ids, shape),
        generated=_stack(generated_masks, object_ids if by_id else generated_masks, shape),
    )


def _masks_of_video(
    arrays: Mapping[str, np.ndarray], name: str, subject: str
) -> dict[str, np.ndarray]:
    masks, object_ids = arrays[name], [str(i) for i in arrays[f"{name}_ids"].reshape(-1)]
    if masks.ndim != 4 or len(masks) != len(object_ids) or masks.dtype.kind not in "bui":
        raise EgoXInputError(
            subject,
            got=f"{name} {masks.shape} of {masks.dtype} with {len(object_ids)} ids",
            expected="bool [N, T, H, W] with N ids",
            fix="write the masks again",
        )
    if len(set(object_ids)) < len(object_ids):
        raise EgoXInputError(
            subject,
            got=f"an id twice in {name}_ids",
            expected="each object once",
            fix="join its masks",
        )
    return dict(zip(object_ids, masks.astype(bool), strict=True))


def _stack(
    masks: Mapping[str, np.ndarray], ids: Iterable[str], shape: tuple[int, ...]
) -> np.ndarray:
    empty_mask = np.zeros(shape, bool)
    arrays = [masks.get(i, empty_mask) for i in ids]
    return np.stack(arrays) if arrays else np.zeros((0, *shape), bool)


def read_arrays(
    file: Path, subject: str, keys: Sequence[str], fix: str = "write it again"
) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file, and refuse a file that lacks them or has other types.

    Raises:
        EgoXInputError: missing, unreadable, without one of the keys.
    """
    with open_zip(file, subject):
        pass
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys}
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise EgoXInputError(
            subject,
            got=f"no readable arrays ({error})",
            expected=f"a numpy .npz with {', '.join(keys)}",
            fix=fix,
        ) from error
