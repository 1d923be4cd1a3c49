"""List what people get wrong in a take's files, and mend it as a warning says."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from egox_core.cameras import CameraPath, compose, invert, transform

Change = Callable[[Tensor], Tensor]


def to_opengl(w2c: Tensor) -> Tensor:
    """Convert camera poses from OpenCV's axes to OpenGL's."""
    return w2c * w2c.new_tensor([[1.0], [-1.0], [-1.0]])


def roll(sine: float) -> Change:
    """Build a function that rolls camera poses by +90 or -90 degrees."""
    return lambda w2c: w2c.new_tensor([[0, sine, 0], [-sine, 0, 0], [0, 0, 1.0]]) @ w2c


def scale(factor: float) -> Change:
    """Build a function that multiplies depth, a focal length or the translations of poses."""
    return lambda values: (
        values * (values.new_tensor([1, 1, 1, factor]) if values.shape[-2:] == (3, 4) else factor)
    )


def to_disparity(depth_m: Tensor) -> Tensor:
    """Convert depth to relative disparity from 0 to 1, as depth networks predict it."""
    inverse_depth = 1 / depth_m
    far, near = inverse_depth.nanquantile(inverse_depth.new_tensor([0.005, 0.995]))
    return ((inverse_depth - far) / (near - far)).clamp(1e-3, 1)


INVERSE, OPENGL, UPRIGHT = "that are camera-to-world", "in OpenGL's axes: negate", "upright picture"
DISPARITY, OTHER_UNIT = "depth that is inverse or disparity", "another unit or of another lens"
FILE_ERRORS: dict[str, tuple[str, Change, str]] = {
    "poses camera-to-world": ("ego exo", invert, f"poses {INVERSE}"),
    "ego camera-to-world": ("ego", invert, f"ego poses {INVERSE}"),
    "exo camera-to-world": ("exo", invert, f"exo poses {INVERSE}"),
    "poses OpenGL": ("ego exo", to_opengl, f"poses {OPENGL}"),
    "ego OpenGL": ("ego", to_opengl, f"ego poses {OPENGL}"),
    "exo OpenGL": ("exo", to_opengl, f"exo poses {OPENGL}"),
    "ego rolled": ("ego", roll(1.0), f"an {UPRIGHT}"),
    "ego rolled back": ("ego", roll(-1.0), f"an {UPRIGHT}"),
    "depth mm": ("depth", scale(1000), "depth in millimetres"),
    "depth cm": ("depth", scale(100), "depth in centimetres"),
    "poses mm": ("ego exo", scale(1000), "poses in millimetres"),
    "poses cm": ("ego exo", scale(100), "poses in centimetres"),
    "depth inverse": ("depth", torch.reciprocal, DISPARITY),
    "disparity 0 to 1": ("depth", to_disparity, DISPARITY),
    "depth x 2": ("depth", scale(2), OTHER_UNIT),
    "depth / 2": ("depth", scale(0.5), OTHER_UNIT),
    "depth 1/256 m": ("depth", scale(256), "depth in 1/256 m"),
    "depth 1/5000 m": ("depth", scale(5000), "or a smaller unit"),
    # 16-bit PNG files are read in millimetres
    "depth PNG of 1/256 m": ("depth", scale(0.256), OTHER_UNIT),
    "depth PNG of 1/5000 m": ("depth", scale(5), OTHER_UNIT),
    "depth feet": ("depth", scale(1 / 0.3048), OTHER_UNIT),
    "focal length x 2": ("focal", scale(2), OTHER_UNIT),
    "focal length / 2": ("focal", scale(0.5), OTHER_UNIT),
    "depth x 1.4": ("depth", scale(1.4), "nothing"),
}
"""By name: the files that are wrong, how, and the words of the cause that should be named."""
TWO_PEOPLE_ERRORS = ("depth inverse", "poses OpenGL", "ego OpenGL", "ego rolled", "ego rolled back")


class TakeFiles(NamedTuple):
    """Hold what a take's files say: exo depth, camera paths and the mask of people."""

    depth_m: Tensor  # [T, H, W]
    ego: CameraPath
    exo: CameraPath
    mask: Tensor | None  # [T, H, W] bool

    def changed(self, names: str, change: Change) -> "TakeFiles":
        """Change the named ones of depth, focal (length), ego and exo (poses)."""
        files = self
        for name in names.split():
            if name == "depth":
                files = files._replace(depth_m=change(files.depth_m))
            elif name == "focal":
                focal_px = float(change(torch.tensor(files.exo.camera.fx)))
                lens = replace(files.exo.camera, fx=focal_px, fy=focal_px)
                files = files._replace(exo=replace(files.exo, lens=lens))
            else:
                path = getattr(files, name)
                files = files._replace(**{name: replace(path, w2c=change(path.w2c))})
        return files

    def points(self) -> Tensor:  # [T, H, W, 3]
        """Compute the points of the exo pictures in the ego camera's frame."""
        rays = self.exo.camera.depth_rays() * self.depth_m[..., None]
        return transform(compose(self.ego.w2c, invert(self.exo.w2c)).float()[:, None], rays)


def apply_remedy(files: TakeFiles, remedy: str, true_depth_m: Tensor) -> TakeFiles:
    """Mend files by a remedy as it is worded. The true depth tells disparity's fit and a unit."""
    factor = float((re.findall(r"by (-?[\d.e-]+)", remedy) or ["nan"])[-1].rstrip("."))

    def fit(video_depth: Tensor) -> Tensor:
        rows = torch.stack((video_depth, torch.ones_like(video_depth), 1 / true_depth_m), -1)
        rows = rows[rows.isfinite().all(-1)].double()
        slope, shift = torch.linalg.lstsq(rows[:, :2], rows[:, 2:]).solution.flatten().tolist()
        return 1 / (slope * video_depth + shift)

    changes: dict[str, Change] = {
        "invert them, then negate": lambda w2c: to_opengl(invert(w2c)),
        "invert them": invert,
        "negate rows": to_opengl,
        "they are turned by": roll(-factor / 90),
        "or a smaller unit": scale(min(factor, float((true_depth_m / files.depth_m).nanmedian()))),
        "scale": scale(factor),
        "as video depth": fit,
    }
    name = remedy.split()[0]
    change = next(change for words, change in changes.items() if words in remedy)
    return files.changed("ego exo" if name == "poses" else name, change)
