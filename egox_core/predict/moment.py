"""The exo views of one instant with their cameras, and pictures that other cameras saw of it; as
a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..cameras.model import CameraModel, camera_from_json, camera_to_json
from ..errors import EgoXInputError, intact
from ..safe_files import write_whole
from ..trajectory.poses import validate_w2c

MOST_VIEWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewMoment:
    """Exo pictures of one instant, and ego pictures of the same (with none, there is nothing to
    train on).

    Raises:
        EgoXInputError: no view or more than eight; pictures, cameras and poses of different
        counts or sizes.
    """

    name: str  # used in error messages
    exo: Tensor  # [V, H, W, 3] uint8, stored orientation
    exo_cameras: tuple[CameraModel, ...]  # of the stored pictures
    exo_w2c: Tensor  # [V, 3, 4] float64
    ego: Tensor  # [N, h, w, 3] uint8: the wearer's own picture first, then those of other gazes
    ego_camera: CameraModel
    ego_w2c: Tensor  # [N, 3, 4] float64
    up: Tensor | None = None  # [3] unit, against gravity in world axes; None: unknown

    def __post_init__(self) -> None:
        views, size = len(self.exo), (self.exo.shape[2], self.exo.shape[1])
        if not 1 <= views <= MOST_VIEWS:
            raise EgoXInputError(
                f"exo views of {self.name}",
                got=views,
                expected=f"1 to {MOST_VIEWS}",
                fix="give as many synchronous exo pictures",
            )
        sizes = {camera.stored_size for camera in self.exo_cameras}
        if sizes != {size} or not views == len(self.exo_cameras) == len(self.exo_w2c):
            raise EgoXInputError(
                f"exo views of {self.name}",
                got=f"{views} pictures of {size} px, "
                f"{len(self.exo_cameras)} cameras of {sorted(sizes)}, {len(self.exo_w2c)} poses",
                expected="a camera and a pose for each picture, all of one size",
                fix="scale pictures and cameras together",
            )
        if len(self.ego) != len(self.ego_w2c):
            raise EgoXInputError(
                f"ego pictures of {self.name}",
                got=f"{len(self.ego)}, {len(self.ego_w2c)} poses",
                expected="a pose for each",
                fix="leave out what has none",
            )


def write_moment(moment: ViewMoment, file: Path) -> None:
    """One safetensors file, whole or not at all."""
    cameras = {
        "exo": [camera_to_json(c) for c in moment.exo_cameras],
        "ego": camera_to_json(moment.ego_camera),
    }
    tensors = {
        "exo": moment.exo,
        "exo_w2c": moment.exo_w2c,
        "ego": moment.ego,
        "ego_w2c": moment.ego_w2c,
    }
    if moment.up is not None:
        tensors["up"] = moment.up
    with write_whole(file) as temporary:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            temporary,
            metadata={"cameras": json.dumps(cameras)},
        )


def read_moment(file: Path) -> ViewMoment:
    """What :func:`write_moment` wrote.

    Raises:
        EgoXInputError: not such a file, or a damaged one.
    """
    what = f"moment {file.name}"
    errors = (SafetensorError, OSError, KeyError, TypeError, ValueError)
    with intact(what, errors, expected="a file of exo views of one instant", fix="make it again"):
        with safe_open(file, framework="pt") as stored:
            have = {key: stored.get_tensor(key) for key in stored.keys()}
            cameras = json.loads((stored.metadata() or {})["cameras"])
        exo, ego = cameras["exo"], cameras["ego"]
        pictures = {key: have[key].to(torch.uint8) for key in ("exo", "ego")}
        poses = {key: have[key] for key in ("exo_w2c", "ego_w2c")}
    return ViewMoment(
        name=file.stem,
        **pictures,
        exo_cameras=tuple(camera_from_json(c, what) for c in exo),
        ego_camera=camera_from_json(ego, what),
        up=have.get("up"),
        **{key: validate_w2c(pose, f"{key} of {what}") for key, pose in poses.items()},
    )
