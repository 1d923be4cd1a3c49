"""Redraw pictures for another lens in the same place, such as fisheye to pinhole.

Depth models expect the straight lines of a pinhole exo video; the released LoRA saw pictures as
filmed."""

import math
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from ..cameras import CameraModel
from ..errors import EgoXInputError, check_choice
from ..progress import Progress, no_progress
from .reader import resize_picture
from .selection import VideoInfo

Keep = Literal["inside", "all"]
WIDEST_DEG = 150.0
"""A pinhole picture stretches towards its rim without end; beyond this it holds nothing but the
stretch."""
SHRINK_FIRST = 1.5
"""Sources finer than the target by more than this are averaged down before sampling, or they would
alias."""


def reproject(
    frames: Tensor,  # [T, H, W, C] float 0...1, stored orientation, drawn by ``source``
    source: CameraModel,
    target: CameraModel,
    progress: Progress = no_progress,
    # Nearest is for values that are classes.
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:  # [T, H', W', C] as ``target`` would have seen it; black where ``source`` saw nothing
    """Redraw pictures for another lens in the same place, one frame at a time.

    Raises:
        EgoXInputError: frames of another size than ``source``.
    """
    source.check_size("ego camera", frames.shape[2], frames.shape[1])
    lens_sampling = _LensSampling(source, target, mode)
    redrawn_frames = []
    for number, frame in enumerate(frames):
        redrawn_frames.append(lens_sampling(frame))
        progress(number + 1, len(frames), "reproject")
    return torch.stack(redrawn_frames)


class _LensSampling:
    """Sampling grid from a source camera to a target camera, computed once for many pictures."""

    def __init__(self, source: CameraModel, target: CameraModel, mode: str = "bilinear") -> None:
        self._mode = mode
        rays, in_target = target.pixel_rays(torch.float64)
        uv, in_lens = source.project(rays)
        width, height = source.stored_size
        # grid_sample's -1...1 spans pixel centres with align_corners=True, which is this package's
        # pixel convention.
        self._grid = (uv / uv.new_tensor((max(width - 1, 1), max(height - 1, 1))) * 2 - 1).float()[
            None
        ]
        self._visible = (in_target & in_lens)[..., None]

    def __call__(self, frame: Tensor) -> Tensor:  # [H, W, C] -> [H', W', C] float32
        self._grid, self._visible = self._grid.to(frame.device), self._visible.to(frame.device)
        sampled = grid_sample(
            frame.float().movedim(-1, 0)[None], self._grid, mode=self._mode, align_corners=True
        )[0]
        return torch.where(self._visible, sampled.movedim(0, -1), 0.0)


def undistorted_camera(
    source: CameraModel, keep: Keep = "inside", size: tuple[int, int] | None = None
) -> CameraModel:
    """Make a pinhole camera in the place of ``source``, for undistorted pictures.

    Its principal point is in the middle, its pixels are square.

    Args:
        keep: "inside": the widest view without any empty corner. "all": everything the source saw,
            corners black, up to 150 degrees across.
        size: (width, height), px; None: the source's.

    Raises:
        EgoXInputError: unknown ``keep``, a lens too narrow or too far off centre to leave anything.
    """
    check_choice("undistortion", keep, get_args(Keep))
    width, height = size or source.stored_size
    narrowest = max(width, height) / 2 / math.tan(math.radians(WIDEST_DEG) / 2)

    camera_of_focal = partial(CameraModel.pinhole, width, height)
    # Both conditions hold from some focal length on: bisect for it.
    shortest_focal = narrowest
    longest_focal = 50.0 * max(width, height)
    is_fitting = _no_empty_pixel if keep == "inside" else _source_outline_outside
    if keep == "inside" and not is_fitting(source, camera_of_focal(longest_focal)):
        raise EgoXInputError(
            "undistortion",
            got="a lens that does not see its own optical axis",
            expected="an optical axis inside the image",
            fix="check the intrinsics and the size",
        )
    for _ in range(40):
        focal = math.sqrt(shortest_focal * longest_focal)
        shortest_focal, longest_focal = (
            (shortest_focal, focal)
            if is_fitting(source, camera_of_focal(focal))
            else (focal, longest_focal)
        )
    return camera_of_focal(longest_focal if keep == "inside" else shortest_focal)


class Undistortion:
    """Converter of pictures from a source camera to a target camera, one at a time.

    A large video needs not be in memory.

    Args:
        size: (width, height) px of the whole picture, in whose middle ``target``'s stands, black
            bars beside it; None: ``target``'s own.

    Attributes:
        camera: of the whole picture.
        seen: [H, W] bool, its pixels that ``source`` saw.
    """

    def __init__(
        self, source: CameraModel, target: CameraModel, size: tuple[int, int] | None = None
    ) -> None:
        width, height = size or target.stored_size
        left, top = (width - target.width) // 2, (height - target.height) // 2
        self._bars = (left, width - target.width - left, top, height - target.height - top)
        self._inner_mask = seen_by(source, target)  # [H', W'] bool
        self.seen = pad(self._inner_mask, self._bars)
        self.source, self.camera = source, target.crop(-left, -top, width, height)
        shrink = source.fx / target.fx
        self._reduced_size: tuple[int, int] | None = None
        if shrink > SHRINK_FIRST:
            width, height = (max(1, round(side / shrink)) for side in source.stored_size)
            self._reduced_size = (width, height)
            source = source.rescale(width, height)
        # The outermost half pixel is seen too, but has no sample beyond it to interpolate with:
        # repeat the rim.
        width, height = source.stored_size
        self._sample = _LensSampling(source.crop(-1, -1, width + 2, height + 2), target)

    def __call__(
        self,
        frame: Tensor,  # [H, W, 3] uint8, or float 0...1
    ) -> Tensor:  # [H, W, 3] of the whole picture, of the same kind, black where nothing was seen
        """Redraw one picture.

        Raises:
            EgoXInputError: of another size than the source.
        """
        self.source.check_size("exo camera", frame.shape[1], frame.shape[0])
        scale = 1 / 255 if frame.dtype == torch.uint8 else 1.0
        if self._reduced_size is not None:
            small_picture = resize_picture(
                (frame if scale != 1 else frame.float()).cpu().numpy(), *self._reduced_size
            )
            frame = torch.from_numpy(small_picture).to(frame.device)
        padded = pad(frame.float().movedim(-1, 0)[None] * scale, (1, 1, 1, 1), mode="replicate")[
            0
        ].movedim(0, -1)
        redrawn = self._sample(padded) * self._inner_mask[..., None].to(frame.device)
        redrawn = pad(redrawn, (0, 0, *self._bars))
        return redrawn if scale == 1 else (redrawn.clamp(0, 1) * 255).round().to(torch.uint8)

    def shown(self, info: VideoInfo) -> VideoInfo:
        """Return a video's properties after its pictures are redrawn for another lens.

        Raises:
            EgoXInputError: of another size than the source.
        """
        self.source.check_size("exo camera", info.width, info.height)
        width, height = self.camera.stored_size
        return replace(info, width=width, height=height, part=None)


def seen_by(
    source: CameraModel,
    target: CameraModel,
    pixels: Tensor | None = None,  # [..., 2] float64 of ``target``; None: all, [H, W, 2]
) -> Tensor:  # [...] bool
    """Compute the mask of ``target``'s pixels that lie inside ``source``'s picture."""
    rays, in_lens = target.unproject(target.pixel_grid(torch.float64) if pixels is None else pixels)
    uv, valid = source.project(rays)
    return in_lens & valid & source.inside(uv)


def _no_empty_pixel(source: CameraModel, target: CameraModel) -> bool:
    """Check whether the target's whole picture lies inside the source's picture."""
    return bool(seen_by(source, target, _outline(target)).all())


def _source_outline_outside(source: CameraModel, target: CameraModel) -> bool:
    """Check whether some of the source's picture lies outside the target's."""
    rays, in_lens = source.unproject(_outline(source))
    uv, valid = target.project(rays[in_lens])
    return not bool((valid & target.inside(uv)).all())


def _outline(camera: CameraModel) -> Tensor:  # [N, 2] float64, stored pixels
    """List the pixels along the border of the picture."""
    rim_mask = torch.zeros(camera.stored_size[::-1], dtype=torch.bool)
    rim_mask[[0, -1]] = rim_mask[:, [0, -1]] = True
    return rim_mask.nonzero().flip(-1).double()
