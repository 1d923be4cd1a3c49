"""Heads of models that give a whole body: turned as its points turn from frame to frame, with nothing on top.

What turns is told by all rigid points of a frame against the clip's own mean of them. Which way that head looks is
told once, by the model's own eyes and ears over the clip, so no axis of a rig has to be known.
"""

import numpy as np
import scipy

from ..errors import EgoXInputError
from .head_template import HEAD_POINTS, template_points

UNLIKE = 0.4
"""Root mean square by which points may be off the mean shape, of its own size: talking is 0.03, a centimetre 0.25."""
ROUNDS = 3
OWN = len(HEAD_POINTS)


def solid_heads(rigid: np.ndarray) -> np.ndarray:  # [T, N, 3] -> [T, 3, 3]
    """camera_from_head of every frame whose points keep the clip's shape, NaN elsewhere.

    Args:
        rigid: points in the exo camera's axes; first HEAD_POINTS, then those of a face, about any place of their own.
            NaN where nobody is.

    Raises:
        EgoXInputError: a mirrored head.
    """
    result = np.full((len(rigid), 3, 3), np.nan)
    there = np.nonzero(np.isfinite(rigid).all((1, 2)))[0]
    if not len(there):
        return result
    points = rigid[there]
    own, shapes = (
        _centred(part)
        for part in (points[:, :OWN], points[:, OWN:] if points.shape[1] > OWN else points)
    )
    mean = shapes[0]
    for _ in range(ROUNDS):
        turns = turns_between(mean, shapes)
        mean = np.median(shapes @ turns, axis=0)
    off = np.sqrt(((shapes @ turns - mean) ** 2).sum(-1).mean(-1))
    alike = off <= max(UNLIKE, off.min())
    template, usual = _centred(template_points()), (own @ turns)[alike].mean(0)
    if np.linalg.det(usual.T @ template) < 0:
        raise EgoXInputError(
            "head of the body model",
            got="a mirrored one: right and left are exchanged",
            expected="the exo image, not mirrored or turned",
            fix="run the model on the frames of stages.load_clip, not on flipped ones",
        )
    eyes_ears = slice(0, 4)  # noses differ most
    axes = turns_between(_centred(template[eyes_ears]), _centred(usual[None, eyes_ears]))[0]
    heads = turns @ axes
    result[there] = np.where((off < UNLIKE)[:, None, None], heads, np.nan)
    return result


def _centred(points: np.ndarray) -> np.ndarray:  # [..., N, 3]
    """Move the points to their middle, at a root mean square of 1."""
    points = points - points.mean(-2, keepdims=True)
    return points / np.sqrt((points**2).sum(-1).mean(-1))[..., None, None].clip(1e-9)


def turns_between(shape: np.ndarray, shapes: np.ndarray) -> np.ndarray:  # [N, 3], [T, N, 3]
    """Rotations [T, 3, 3] that bring a centred shape nearest to others (Kabsch)."""
    left, _, right = np.linalg.svd(np.einsum("tni,nj->tij", shapes, shape))
    left[..., 2] *= np.linalg.det(left @ right)[:, None]
    return left @ right


def bent_to(
    rotation: np.ndarray,  # [T, 3, 3] world_from_head
    place: np.ndarray,  # [T, 3]
    solid: np.ndarray,  # [T, 3, 3] world_from_head, NaN where it isn't known
    solid_place: np.ndarray,  # [T, 3], NaN where it isn't known
) -> tuple[np.ndarray, np.ndarray]:
    """Heads as they are known, and between them the others' own change, bent to both ends."""
    at, frames = np.nonzero(np.isfinite(solid).all((1, 2)))[0], np.arange(len(rotation))
    if len(at):
        bends = scipy.spatial.transform.Rotation.from_matrix(
            solid[at] @ rotation[at].transpose(0, 2, 1)
        )
        if len(at) > 1:
            bends = scipy.spatial.transform.Slerp(at, bends)(frames.clip(at[0], at[-1]))
        rotation = bends.as_matrix() @ rotation
    at = np.nonzero(np.isfinite(solid_place).all(1))[0]
    if len(at):
        off = solid_place[at] - place[at]
        place = place + np.stack([np.interp(frames, at, o) for o in off.T], axis=-1)
    return rotation, place
