"""Check whether ego poses are some frames early or late against the detected head in the exo video."""

import numpy as np

from egox_core.cameras import CameraPath, transform
from egox_core.remarks import Remark, RemarkKind
from egox_core.trajectory import HEAD_HALF, HeadPoints, worn_points

MOST_FRAMES = 8
LESS = 0.6
"""Share of the spread at no shift that another one must leave. Real takes that are in step: .73 and more."""


def out_of_step(
    points: HeadPoints,
    # Measured Aria glasses, numbered as the frames of the exo video.
    ego: CameraPath,
    # The points are pixels of its stored picture.
    exo: CameraPath,
) -> tuple[Remark, ...]:
    """Compare the head's path in the exo picture with the ego poses at several time shifts, and
    warn if another shift fits better. The poses are not changed.

    A head that moves by less than its own height tells nothing.
    """
    if ego.stands:
        return ()
    count = min(len(points.uv), len(ego.w2c))
    heads = worn_points(ego.w2c[:count])
    local = transform(exo.poses(count), heads)
    true, valid = (part.numpy() for part in exo.camera.project(local))  # [T, 5, 2], [T, 5]
    worn = slice(heads.shape[1])
    uv, seen_mask = points.uv[:count, worn].numpy(), points.seen[:count, worn].numpy()
    in_picture = valid.all(1)
    if in_picture.sum() < 2 * MOST_FRAMES:
        return ()
    height = 2 * HEAD_HALF[1] * exo.camera.fx / float(local[in_picture, :, 2].median())
    if np.ptp(true[in_picture].mean(1), axis=0).max() < height:
        return ()

    def spread(step: int) -> float:
        at = np.arange(max(0, -step), min(count, count - step))
        at = at[in_picture[at] & seen_mask[at + step].any(1)]
        shares = seen_mask[at + step] / seen_mask[at + step].sum(1, keepdims=True)
        off = ((uv[at + step] - true[at]) * shares[..., None]).sum(1)
        off -= np.median(off, axis=0)
        return float(np.median(np.linalg.norm(off, axis=-1))) if len(at) else np.inf

    steps = range(-MOST_FRAMES, MOST_FRAMES + 1)
    best = min(steps, key=spread)
    if abs(best) == MOST_FRAMES or spread(best) > LESS * spread(0):
        return ()
    way = "later" if best > 0 else "earlier"
    text = (
        f"out of step: the head in the exo video fits the ego poses best {abs(best)} frames {way} "
        f"(off by {spread(best):.1f} px instead of {spread(0):.1f}); nothing is shifted"
    )
    return (Remark(text, RemarkKind.WARNING),)
