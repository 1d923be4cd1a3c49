"""Validate, invert and compose rigid camera poses [R|t], which map world points to camera points in
metres.

``w2c`` is [R|t] with X_cam = R X_world + t."""

import math

import torch
from torch import Tensor

from ..arrays import as_matrix
from ..errors import EgoXInputError

FARTHEST = 1e9
"""Metres; farther numbers are damage, and their squares overflow."""
ROTATION_TOLERANCE = 1e-3


def validate_w2c(
    w2c,  # [3, 4] or [T, 3, 4], or 4x4 with last row (0, 0, 0, 1): list, array or tensor
    # Names the poses in error messages.
    name: str,
) -> Tensor:  # [3, 4] or [T, 3, 4] float64 on the CPU
    """Check that poses are rigid, and convert them to float64 on the CPU.

    Raises:
        EgoXInputError: wrong shape, NaN, not a rotation within 1e-3, a reflection.
    """
    expected = "[R|t] of shape (3, 4), or (T, 3, 4) with one per frame"
    is_exact = isinstance(w2c, Tensor) and w2c.dtype == torch.float64
    pose = (w2c if is_exact else as_matrix(w2c, name, expected)).cpu()
    if pose.ndim in (2, 3) and pose.shape[-2:] == (4, 4):
        if (pose[..., 3, :] - pose.new_tensor((0, 0, 0, 1))).abs().max() > 1e-6:
            raise EgoXInputError(
                name,
                got="a 4x4 matrix whose last row is not (0, 0, 0, 1)",
                expected=expected,
                fix="give a rigid transform; a transposed one has its translation in the last row",
            )
        pose = pose[..., :3, :]
    if pose.ndim not in (2, 3) or pose.shape[-2:] != (3, 4) or pose.shape[0] == 0:
        raise EgoXInputError(
            name,
            got=f"shape {tuple(pose.shape)}",
            expected=expected,
            fix="give world-to-camera rows [r1 r2 r3 t]",
        )
    largest = float(pose.abs().max())
    if not math.isfinite(largest):
        raise EgoXInputError(
            name,
            got="NaN or infinite numbers",
            expected="finite numbers",
            fix="fill the gaps of the track before use",
        )
    if largest > FARTHEST:
        raise EgoXInputError(
            name,
            got=f"numbers of {largest:.1g}",
            expected=f"at most {FARTHEST:.0e}",
            fix="give metres",
        )
    rotation = pose[..., :3]
    rotation_error = (
        (rotation @ rotation.transpose(-1, -2) - torch.eye(3, dtype=torch.float64))
        .abs()
        .amax(dim=(-1, -2))
    )
    right, down, forward = rotation.unbind(-2)  # linalg.det asks LAPACK, once per list entry
    determinant = (torch.linalg.cross(right, down) * forward).sum(-1)
    if float(rotation_error.max()) > ROTATION_TOLERANCE:
        frame_text = f" (frame {int(rotation_error.argmax())})" if pose.ndim == 3 else ""
        raise EgoXInputError(
            name,
            got="a matrix that is not a rotation: R Rt differs from 1 by "
            f"{float(rotation_error.max()):.2g}{frame_text}",
            expected=f"an orthonormal R within {ROTATION_TOLERANCE}",
            fix="remove scale and shear from R; check that rows were not cut or mixed up",
        )
    if float(determinant.min()) < 0:
        frame = int((determinant < 0).nonzero()[0]) if pose.ndim == 3 else 0
        raise EgoXInputError(
            name,
            got=f"a reflection (determinant -1{f', frame {frame}' if pose.ndim == 3 else ''})",
            expected="a rotation (determinant +1)",
            fix=(
                "an axis is mirrored: axes are x right, y down, z forward; flip two axes, never one"
            ),
        )
    return pose


def by_rows(
    matrices: Tensor,  # [N, 4, 4] float64, row by row or column by column
    name: str,
) -> Tensor:  # [N, 3, 4]
    """Read rigid 4x4 matrices by rows, of which the place of (0, 0, 0, 1) tells rows from columns.

    Raises:
        EgoXInputError: it stands in neither; it stands in both, and the rotations aren't symmetric.
    """
    last_row = matrices.new_tensor((0, 0, 0, 1))
    is_by_rows, is_by_columns = (
        bool(((lines - last_row).abs() <= 1e-6).all())
        for lines in (matrices[:, 3], matrices[:, :, 3])
    )
    is_symmetric = bool(((matrices - matrices.mT).abs() <= 1e-6).all())
    if is_by_rows == is_by_columns and not (is_by_rows and is_symmetric):
        raise EgoXInputError(
            name,
            got="16 numbers with 0 0 0 1 "
            + ("as last row and as last column" if is_by_rows else "neither as row nor as column"),
            expected="a rigid transform, of which 0 0 0 1 tells rows from columns",
            fix="give 12 numbers, [R|t] row by row",
        )
    return (matrices if is_by_rows else matrices.mT)[:, :3]


def invert(
    target_from_source: Tensor,  # [..., 3, 4]
) -> Tensor:  # [..., 3, 4]
    """Invert rigid transforms target_from_source to source_from_target."""
    rotation = target_from_source[..., :3].transpose(-1, -2)
    return torch.cat((rotation, -rotation @ target_from_source[..., 3:]), dim=-1)


def compose(
    target_from_middle: Tensor,  # [..., 3, 4]
    middle_from_source: Tensor,  # [..., 3, 4]
) -> Tensor:  # [..., 3, 4]
    """Compose two rigid transforms to target_from_source."""
    rotation = target_from_middle[..., :3]
    return torch.cat(
        (
            rotation @ middle_from_source[..., :3],
            rotation @ middle_from_source[..., 3:] + target_from_middle[..., 3:],
        ),
        dim=-1,
    )


def transform(
    target_from_source: Tensor,  # [..., 3, 4]
    points: Tensor,  # [..., N, 3] in the source frame
) -> Tensor:  # [..., N, 3]
    """Transform points from the source frame to the target frame."""
    return points @ target_from_source[..., :3].transpose(-1, -2) + target_from_source[
        ..., 3
    ].unsqueeze(-2)


def rotation_of_angles(
    yaw_deg: float, pitch_deg: float, roll_deg: float
) -> Tensor:  # [3, 3] float64, parent_from_turned
    """Compute the rotation of a frame that is turned by yaw, pitch and roll.

    These turn rightwards, upwards and clockwise, about its own down, right and forward axes.
    """
    from scipy.spatial.transform import Rotation  # half of torch's time

    angles_deg = [yaw_deg, pitch_deg, roll_deg]
    return torch.from_numpy(Rotation.from_euler("YXZ", angles_deg, degrees=True).as_matrix())


def look_at(
    position,  # [3] metres, world: list, array or tensor
    target,  # [3]
    # The world's upward direction [3]; the default is that of a level exo camera (y down).
    up=(
        0.0,
        -1.0,
        0.0,
    ),
    # Clockwise tilt of the camera.
    roll_deg: float = 0.0,
) -> Tensor:  # [3, 4] float64, w2c
    """Compute the pose of an upright camera at ``position`` that looks at ``target``.

    Raises:
        EgoXInputError: target at the position, or straight along ``up`` (the horizon is then
            undefined).
    """
    position, target, up = (
        torch.as_tensor(values, dtype=torch.float64) for values in (position, target, up)
    )
    forward = target - position
    up = up / up.norm().clamp_min(1e-12)
    right = torch.linalg.cross(forward, up)
    if forward.norm() < 1e-9 or right.norm() < 1e-6 * forward.norm():
        raise EgoXInputError(
            "look_at",
            got=f"from {position.tolist()} at {target.tolist()}",
            expected="a target away from the camera and not straight above or below it",
            fix="move the target a little, or give the rotation instead",
        )
    forward, right = forward / forward.norm(), right / right.norm()
    down = torch.linalg.cross(forward, right)
    roll = torch.deg2rad(torch.tensor(roll_deg, dtype=torch.float64))
    rotation = torch.stack(
        (roll.cos() * right + roll.sin() * down, roll.cos() * down - roll.sin() * right, forward)
    )
    return torch.cat((rotation, -(rotation @ position)[:, None]), dim=-1)


def camera_centre(
    w2c: Tensor,  # [..., 3, 4]
) -> Tensor:  # [..., 3] metres, world
    """Compute the position of a camera in the world, C = -Rt t."""
    return invert(w2c)[..., 3]
