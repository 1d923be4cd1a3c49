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
    """Fit camera_from_head of every frame whose points keep the clip's shape, NaN elsewhere.

    Args:
        rigid: points in the exo camera's axes; first HEAD_POINTS, then those of a face, about any place of their own.
            NaN where nobody is.

    Raises:
        EgoXInputError: a mirrored head.
    """
    heads_of_clip = np.full((len(rigid), 3, 3), np.nan)
    frames_there = np.nonzero(np.isfinite(rigid).all((1, 2)))[0]
    if not len(frames_there):
        return heads_of_clip
    points = rigid[frames_there]
    head_points, shapes = (
        _centred(part)
        for part in (points[:, :OWN], points[:, OWN:] if points.shape[1] > OWN else points)
    )
    mean = shapes[0]
    for _ in range(ROUNDS):
        turns = turns_between(mean, shapes)
        mean = np.median(shapes @ turns, axis=0)
    deviations = np.sqrt(((shapes @ turns - mean) ** 2).sum(-1).mean(-1))
    alike_mask = deviations <= max(UNLIKE, deviations.min())
    template, usual_head = _centred(template_points()), (head_points @ turns)[alike_mask].mean(0)
    if np.linalg.det(usual_head.T @ template) < 0:
        raise EgoXInputError(
            "head of the body model",
            got="a mirrored one: right and left are exchanged",
            expected="the exo image, not mirrored or turned",
            fix="run the model on the frames of stages.load_clip, not on flipped ones",
        )
    eyes_ears = slice(0, 4)  # noses differ most
    axes = turns_between(_centred(template[eyes_ears]), _centred(usual_head[None, eyes_ears]))[0]
    heads = turns @ axes
    heads_of_clip[frames_there] = np.where((deviations < UNLIKE)[:, None, None], heads, np.nan)
    return heads_of_clip


def _centred(points: np.ndarray) -> np.ndarray:  # [..., N, 3]
    """Move the points to their middle, at a root mean square of 1."""
    points = points - points.mean(-2, keepdims=True)
    return points / np.sqrt((points**2).sum(-1).mean(-1))[..., None, None].clip(1e-9)


def turns_between(shape: np.ndarray, shapes: np.ndarray) -> np.ndarray:  # [N, 3], [T, N, 3]
    """Fit the rotations [T, 3, 3] that bring a centred shape nearest to others (Kabsch)."""
    left, _, right = np.linalg.svd(np.einsum("tni,nj->tij", shapes, shape))
    left[..., 2] *= np.linalg.det(left @ right)[:, None]
    return left @ right


def bend_to_known(
    rotation: np.ndarray,  # [T, 3, 3] world_from_head
    place: np.ndarray,  # [T, 3]
    solid: np.ndarray,  # [T, 3, 3] world_from_head, NaN where it isn't known
    solid_place: np.ndarray,  # [T, 3], NaN where it isn't known
) -> tuple[np.ndarray, np.ndarray]:
    """Keep known heads, and bend the others' own change between them to both ends."""
    known_frames, frames = np.nonzero(np.isfinite(solid).all((1, 2)))[0], np.arange(len(rotation))
    if len(known_frames):
        corrections = scipy.spatial.transform.Rotation.from_matrix(
            solid[known_frames] @ rotation[known_frames].transpose(0, 2, 1)
        )
        if len(known_frames) > 1:
            corrections = scipy.spatial.transform.Slerp(known_frames, corrections)(
                frames.clip(known_frames[0], known_frames[-1])
            )
        rotation = corrections.as_matrix() @ rotation
    known_frames = np.nonzero(np.isfinite(solid_place).all(1))[0]
    if len(known_frames):
        shifts = solid_place[known_frames] - place[known_frames]
        place = place + np.stack([np.interp(frames, known_frames, o) for o in shifts.T], axis=-1)
    return rotation, place
