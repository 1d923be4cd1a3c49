"""Draw the clips whose true cameras and depth every input format must give."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.types import FrameSelection
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from tests.path_forms import Poses

SOURCE_FRAMES, FPS, CLIP_FRAMES = 10, 24.0, 5
FRAME_INDICES: Mapping[str, list[int]] = {
    "from 0": [0, 1, 2, 3, 4],
    "from 4": [4, 5, 6, 7, 8],
    "every second": [0, 2, 4, 6, 8],
}


class Picture(NamedTuple):
    source: tuple[int, int]
    left_px: float  # px of the source that are cut off
    scale: float
    size: tuple[int, int]


PICTURES: Mapping[str, Picture] = {
    "as it is": Picture((96, 64), 0, 1, (96, 64)),
    "16:9 to square": Picture((128, 72), 28, 64 / 72, (64, 64)),
}


def relative_poses(target: Tensor, source: Tensor) -> Tensor:  # w2c [T, 3, 4] each
    """Compute relative camera poses target_from_source [T, 3, 4]."""
    bottom_row = torch.tensor([[[0.0, 0, 0, 1]]]).double().expand(len(target), 1, 4)
    matrices = [torch.cat((pose.double(), bottom_row), 1) for pose in (target, source)]
    return (matrices[0] @ torch.linalg.inv(matrices[1]))[:, :3]


def intrinsics_matrix(fx: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1.0]])


@cache
def drawn_take(source: tuple[int, int], exo_moves: bool, view_count: int = 1) -> SyntheticTake:
    motion_options = {"exo_motion": 0.05, "exo_turn_deg": 2.0} if exo_moves else {}
    spec = SyntheticSpec(
        seed=3,
        frames=SOURCE_FRAMES,
        fps=FPS,
        exo_width=source[0],
        exo_height=source[1],
        ego_size=64,
        texture="soft",
        clutter="calm",
        wearer="drawn",
        edge_samples=1,
        exo_views=view_count,
        **motion_options,
    )
    return make_take(spec)


@dataclass(frozen=True, eq=False)
class Clip:
    """Used frames of a drawn take with their true cameras and depth."""

    take: SyntheticTake
    folder: Path
    picture: Picture
    indices: list[int]
    exo: Tensor  # [T, H, W, 3]
    frames: FrameSelection
    exo_moves: bool

    @property
    def source_exo_w2c(self) -> Tensor:  # [COUNT, 3, 4]
        return self.take.exo.w2c.expand(SOURCE_FRAMES, 3, 4)

    @property
    def exo_w2c(self) -> Tensor:  # [T, 3, 4]
        return self.source_exo_w2c[self.indices]

    @property
    def exo_pose(self) -> np.ndarray:  # [3, 4], or [T, 3, 4] of a camera that moves
        return (self.exo_w2c if self.exo_moves else self.take.exo.pose).numpy()

    @property
    def ego_w2c(self) -> Tensor:  # [T, 3, 4]
        return self.take.ego.w2c[self.indices]

    def intrinsics(self, extra_scale: float = 1.0) -> np.ndarray:
        """Compute the intrinsic matrix K at another picture scale."""
        lens, scale_factor = self.take.exo.camera, self.picture.scale * extra_scale
        left_px = self.picture.left_px
        return intrinsics_matrix(
            lens.fx * scale_factor,
            (lens.cx - left_px + 0.5) * scale_factor - 0.5,
            (lens.cy + 0.5) * scale_factor - 0.5,
        )

    @property
    def source_intrinsics(self) -> np.ndarray:
        lens = self.take.exo.camera
        return intrinsics_matrix(lens.fx, lens.cx, lens.cy)

    def depth_maps(self, every: int = 1) -> np.ndarray:  # [T, h, w], of the frames
        """Sample the true depth at the pixels of the frames in use."""
        (width, height), scale_factor = self.picture.size, self.picture.scale
        source_rows, source_columns = ((np.arange(n) + 0.5) / scale_factor for n in (height, width))
        clip_maps_m = self.take.exo_depth_m.numpy()[self.indices][:, source_rows.astype(int)]
        return clip_maps_m[:, ::every, (source_columns + self.picture.left_px).astype(int)[::every]]

    @property
    def ego(self) -> CameraModel:
        return self.take.ego.camera.rescale(self.picture.size[1], self.picture.size[1])

    def poses(self, of_exo: bool, upright: bool = True) -> Poses:
        """Build the true poses of the exo or ego camera for all source frames."""
        ego_w2c = self.take.ego.w2c
        ego_w2c = self.take.ego.camera.upright_poses(ego_w2c) if upright else ego_w2c
        exo_w2c = self.source_exo_w2c.numpy()
        intrinsics_and_size = (
            (self.source_intrinsics, self.picture.source)
            if of_exo
            else (intrinsics_matrix(32, 31.5, 31.5), (64, 64))
        )
        return Poses(exo_w2c if of_exo else ego_w2c.numpy(), *intrinsics_and_size, FPS, exo_w2c)

    def file(self, name: str, content: dict[str, object]) -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content), "utf-8")
        return file

    def meta(self, name: str, intrinsics: np.ndarray | None = None, **more_entries: object) -> Path:
        """Write the true camera poses to a meta.json file."""
        meta_content = {"camera_extrinsics": self.take.exo.rows()}
        meta_content |= {"ego_extrinsics": self.take.ego.w2c.tolist()}
        meta_content |= {} if intrinsics is None else {"camera_intrinsics": intrinsics.tolist()}
        return self.file(f"{name}/meta.json", meta_content | more_entries)

    def exact_meta_file(self) -> Path:
        lens = self.take.exo.camera
        return self.meta("exact", exo_camera=lens.to_json())

    def depth_file(self, every: int = 1) -> Path:
        file = self.folder / f"depth{every}.npz"
        if not file.is_file():
            depth_maps_m = self.take.exo_depth_m.numpy()[
                :, every // 2 :: every, every // 2 :: every
            ]
            np.savez(file, depth_m=depth_maps_m)
        return file

    @property
    def lens(self) -> CameraModel:
        return CameraModel.from_intrinsics(self.intrinsics(), *self.picture.size)
