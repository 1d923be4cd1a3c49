"""Median over frames where some pixels are missing; several times faster on a CPU than the libraries' own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def median_over_frames(stack: NDArray[np.floating]) -> NDArray[np.floating]:
    """Lower median over axis 0, NaN left out; NaN where every frame is. [T, ...] -> [...]

    Sorting puts NaN last, so the median is the sorted value in the middle of the valid ones. The pixels go first, for
    then every pixel's few values lie side by side.
    """
    count = len(stack)
    values = np.ascontiguousarray(stack.reshape(count, -1).T)
    values.sort(axis=1)
    valid = count - np.isnan(values).sum(axis=1)
    middle = np.maximum(valid - 1, 0) // 2
    return np.take_along_axis(values, middle[:, None], axis=1)[:, 0].reshape(stack.shape[1:])
