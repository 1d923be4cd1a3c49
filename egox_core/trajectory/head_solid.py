"""Estimate head rotations from a body model's points, without any further fit.

What turns is told by all rigid points of a frame against the clip's own mean of them. Which way
that head looks is told once, by the model's own eyes and ears over the clip, so no axis of a rig
has to be known.
"""

import numpy as np
import scipy

from ..errors import EgoXInputError
from .head_template import HEAD_POINTS, template_points

MAX_SHAPE_ERROR = 0.4
"""Root mean square by which points may be off the mean shape, of its own size: talking is 0.03, a
centimetre 0.25."""
ROUNDS = 3
HEAD_POINT_COUNT = len(HEAD_POINTS)


def solid_heads(rigid: np.ndarray) -> np.ndarray:  # [T, N, 3] -> [T, 3, 3]
    """Fit camera_from_head in every frame whose points have the clip's mean shape, NaN in other
    frames.

    Args:
        rigid: points in the exo camera's axes; first HEAD_POINTS, then those of a face, about any
            place of their own. NaN where nobody is.

    Raises:
        EgoXInputError: a mirrored head.
    """
    heads_of_clip = np.full((len(rigid), 3, 3), np.nan)
    known_frames = np.nonzero(np.isfinite(rigid).all((1, 2)))[0]
    if not len(known_frames):
        return heads_of_clip
    points = rigid[known_frames]
    head_points, shapes = (
        _centred(point_part)
        for point_part in (
            points[:, :HEAD_POINT_COUNT],
            points[:, HEAD_POINT_COUNT:] if points.shape[1] > HEAD_POINT_COUNT else points,
        )
    )
    mean_shape = shapes[0]
    for _ in range(ROUNDS):
        turns = turns_between(mean_shape, shapes)
        mean_shape = np.median(shapes @ turns, axis=0)
    deviations = np.sqrt(((shapes @ turns - mean_shape) ** 2).sum(-1).mean(-1))
    similar_mask = deviations <= max(MAX_SHAPE_ERROR, deviations.min())
    template = _centred(template_points())
    mean_head = (head_points @ turns)[similar_mask].mean(0)
    if np.linalg.det(mean_head.T @ template) < 0:
        raise EgoXInputError(
            "head of the body model",
            got="a mirrored one: right and left are exchanged",
            expected="the exo image, not mirrored or turned",
            fix="run the model on the frames of stages.load_clip, not on flipped ones",
        )
    eyes_ears = slice(0, 4)  # noses differ most
    axes = turns_between(_centred(template[eyes_ears]), _centred(mean_head[None, eyes_ears]))[0]
    heads = turns @ axes
    heads_of_clip[known_frames] = np.where(
        (deviations < MAX_SHAPE_ERROR)[:, None, None], heads, np.nan
    )
    return heads_of_clip


def _centred(points: np.ndarray) -> np.ndarray:  # [..., N, 3]
    """Centre points at their mean, and scale them to a root mean square of 1."""
    points = points - points.mean(-2, keepdims=True)
    return points / np.sqrt((points**2).sum(-1).mean(-1))[..., None, None].clip(1e-9)


def turns_between(shape: np.ndarray, shapes: np.ndarray) -> np.ndarray:  # [N, 3], [T, N, 3]
    """Fit the rotations [T, 3, 3] that align a centred shape with other shapes (Kabsch)."""
    left_vectors, _, right_vectors = np.linalg.svd(np.einsum("tni,nj->tij", shapes, shape))
    left_vectors[..., 2] *= np.linalg.det(left_vectors @ right_vectors)[:, None]
    return left_vectors @ right_vectors


def align_to_known(
    rotation: np.ndarray,  # [T, 3, 3] world_from_head
    place: np.ndarray,  # [T, 3]
    known_rotation: np.ndarray,  # [T, 3, 3] world_from_head, NaN where it isn't known
    known_place: np.ndarray,  # [T, 3], NaN where it isn't known
) -> tuple[np.ndarray, np.ndarray]:
    """Correct estimated head poses so that they agree with the known poses of some frames."""
    known_frames = np.nonzero(np.isfinite(known_rotation).all((1, 2)))[0]
    frames = np.arange(len(rotation))
    if len(known_frames):
        corrections = scipy.spatial.transform.Rotation.from_matrix(
            known_rotation[known_frames] @ rotation[known_frames].transpose(0, 2, 1)
        )
        if len(known_frames) > 1:
            corrections = scipy.spatial.transform.Slerp(known_frames, corrections)(
                frames.clip(known_frames[0], known_frames[-1])
            )
        rotation = corrections.as_matrix() @ rotation
    known_frames = np.nonzero(np.isfinite(known_place).all(1))[0]
    if len(known_frames):
        shifts = known_place[known_frames] - place[known_frames]
        place = place + np.stack(
            [np.interp(frames, known_frames, axis_shifts) for axis_shifts in shifts.T], axis=-1
        )
    return rotation, place
