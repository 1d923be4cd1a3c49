"""Direction of gravity in a world, from the cameras in it."""

import math

import torch
from torch import Tensor

from ..cameras import CameraPath, sensor_from_upright

AXIS_SNAP_DEG = 20.0
"""Within this of a world axis, down is that axis: worlds of trackers are built along gravity."""


def down_axis(
    exo_w2c: Tensor,  # [N, 3, 4] one pose of each exo camera
    ego: CameraPath,
) -> Tensor:  # [3] float64, unit, world
    """Find the downward direction of a world from the cameras' right-hand axes.

    It is square to all of them, and snapped to a world axis that is near.

    Exo cameras are pitched on purpose and a wearer looks down, but both are seldom rolled: their
    right-hand axes are level, their down axes are not. The wearer's whole path weighs as much
    as one exo camera.
    """
    turn = sensor_from_upright(ego.camera.quarter_turns)
    ego_rotation, exo_rotation = ego.w2c[:, :, :3], exo_w2c[:, :, :3].double()
    rights = torch.einsum("tij,i->tj", ego_rotation, turn[:, 0])
    rows = torch.cat((rights / math.sqrt(len(rights)), exo_rotation[:, 0]))
    down = torch.linalg.svd(rows, full_matrices=True)[2][2]
    hint = torch.einsum("tij,i->tj", ego_rotation, turn[:, 1]).mean(0) + exo_rotation[:, 1].mean(0)
    down = down * (1.0 if float(down @ hint) >= 0 else -1.0)
    axis = int(down.abs().argmax())
    if math.degrees(math.acos(min(1.0, float(down[axis].abs())))) < AXIS_SNAP_DEG:
        snapped = torch.zeros(3, dtype=torch.float64)
        snapped[axis] = torch.sign(down[axis])
        return snapped
    return down
