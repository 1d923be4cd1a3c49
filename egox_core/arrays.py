"""Check numpy or torch arrays from a caller for kind, shape and range."""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from .errors import NO_NUMBERS, EgoXInputError

Array: TypeAlias = np.ndarray | Tensor
PICTURE_AXES = "frames", "height", "width"
OVERSHOOT = 0.5
"""Excess over 0...1 that resampling may leave; values of 0...255 are far beyond it."""


def as_tensor(
    values: object,
    # Names the values in errors.
    label: str,
    # One number per axis, or the name of one of any length; None is one without a name.
    *shape: int | str | None,
) -> Tensor:
    """Turn numbers into a tensor of ``shape`` without gradients, of the same dtype and device.

    Raises:
        EgoXInputError: no numbers, another shape.
    """
    try:
        tensor = _dense_tensor(values)
    except NO_NUMBERS as error:
        raise EgoXInputError(
            label, got=_describe_type(values), expected="numbers", fix="give an array of numbers"
        ) from error
    shape_fits = tensor.ndim == len(shape) and all(
        length_asked in (None, length_given) or isinstance(length_asked, str)
        for length_asked, length_given in zip(shape, tensor.shape, strict=True)
    )
    if not shape_fits or not tensor.numel():
        layout_text = ", ".join("N" if length is None else str(length) for length in shape)
        has_extra_axis = tensor.ndim == len(shape) + 1 and tensor.shape[-1] == 1
        raise EgoXInputError(
            label,
            got=f"shape {tuple(tensor.shape)}",
            expected=f"[{layout_text}]",
            fix="drop the last axis" if has_extra_axis else "give an array of this layout",
        )
    return tensor


def _dense_tensor(values: object) -> Tensor:
    """Turn an array into a dense tensor without gradients, whatever its strides, byte order or
    number type."""
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.char == "O" and any(number is None for number in array.flat):
            raise TypeError("None in place of a number")
        target_dtype = (
            np.dtype(np.float64) if array.dtype.char in "gO" else array.dtype.newbyteorder("=")
        )
        return torch.from_numpy(np.asarray(array, target_dtype, order="C"))
    if values.is_meta:
        raise TypeError("a tensor on the device meta has no values")
    dense_tensor = values if values.layout == torch.strided else values.to_dense()
    # The same object where there are no gradients: what was computed of it is remembered by it.
    return dense_tensor.detach() if dense_tensor.requires_grad else dense_tensor


def _describe_type(values: object) -> str:
    """Describe the type and dtype of a value, for an error."""
    type_name = type(values).__name__
    dtype = getattr(values, "dtype", None)
    return type_name if dtype is None else f"{type_name} of {dtype}"


def as_matrix(values: object, label: str, expected: str) -> Tensor:
    """Convert rows of numbers to a float64 tensor, and refuse other shapes.

    Raises:
        EgoXInputError: no numbers, rows of different length.
    """
    try:
        tensor = _dense_tensor(values)
        if tensor.is_complex():
            raise TypeError("complex numbers")
        return tensor.double()
    except NO_NUMBERS as error:
        raise EgoXInputError(
            label,
            got=f"{_describe_type(values)} ({error})",
            expected=expected,
            fix="give rows of numbers of equal length",
        ) from error


def as_frames(values: object, label: str) -> Tensor:  # [T, H, W, 3]
    """Turn the frames of a video [T, H, W, 3 or 4] into a tensor without alpha.

    uint8 (0...255) stays uint8; any float becomes float32 0...1.

    Raises:
        EgoXInputError: another layout, kind of numbers or range.
    """
    frames = as_tensor(values, label, *PICTURE_AXES, "channels")
    if frames.shape[-1] not in (3, 4):
        raise EgoXInputError(
            label,
            got=f"shape {tuple(frames.shape)}",
            expected="[frames, height, width, 3]",
            fix="move the colour channels to the last dimension",
        )
    if frames.dtype != torch.uint8:
        if not frames.is_floating_point():
            raise EgoXInputError(
                label,
                got=str(frames.dtype),
                expected="uint8 of 0...255, or floats of 0...1",
                fix="convert the numbers",
            )
        lowest, highest = torch.stack([torch.stack(frame.aminmax()) for frame in frames]).T
        lowest, highest = lowest.amin(), highest.amax()  # NaN, where one is
        if not (lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT):
            raise EgoXInputError(
                label,
                got=f"floats of {float(lowest):.3g} to {float(highest):.3g}",
                expected="floats of 0...1, or uint8 of 0...255",
                fix="bring black to 0 and white to 1: x / 255 for 8 bits, (x + 1) / 2 for -1...1; "
                "and leave no NaN",
            )
        frames = frames.float()
    return frames if frames.shape[-1] == 3 else frames[..., :3]


def as_floats(frames: Tensor) -> Tensor:  # [T, H, W, 3] uint8 or float32 -> float32 0...1
    """Convert frames from :func:`as_frames` to floats of 0...1."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames


def as_uint8(frames: Tensor) -> Tensor:  # [..., 3] uint8 or float 0...1 -> uint8
    """Convert colours to uint8."""
    return (
        frames if frames.dtype == torch.uint8 else (frames.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    )


def rectangle(
    picture: np.ndarray,  # [H, W, ...]
    left: int,
    top: int,
    width: int,
    height: int,
    outside: float = 0,
) -> np.ndarray:  # [height, width, ...], a view where nothing is outside
    """Cut a rectangle out of a picture or map, filled with ``outside`` beyond its border."""
    visible_part = picture[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if visible_part.shape[:2] == (height, width):
        return visible_part
    padded = np.full((height, width, *picture.shape[2:]), outside, picture.dtype)
    top_margin, left_margin = max(-top, 0), max(-left, 0)
    padded[
        top_margin : top_margin + visible_part.shape[0],
        left_margin : left_margin + visible_part.shape[1],
    ] = visible_part
    return padded


def as_poses(values: object, label: str) -> Tensor:  # [3 or 4, 4] or [T, 3 or 4, 4] float64
    """Convert one camera pose, or one per frame, to a tensor on the CPU, of which
    :func:`.cameras.validate_w2c` then checks shape and rotations.

    Raises:
        EgoXInputError: no numbers, rows of different length.
    """
    expected = "[R|t] of shape (3, 4), or (T, 3, 4) with one per frame"
    return as_matrix(values, label, expected).cpu()


def as_mask(values: object, label: str) -> Tensor:  # [T or 1, h, w]
    """Turn a mask, or one per frame, into a tensor.

    Raises:
        EgoXInputError: another layout.
    """
    is_single = getattr(values, "ndim", 3) == 2
    mask = as_tensor(values, label, *(PICTURE_AXES[1:] if is_single else PICTURE_AXES))
    return mask[None] if is_single else mask
