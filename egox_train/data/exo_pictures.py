"""A clip's exo pictures and the camera that made them: undistorted, or as filmed; one frame in
memory at a time.

A picture of another orientation than the canvas (a GoPro turned by 90 degrees) is fitted whole,
black bars beside it: a crop would keep a third of what it shows."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import LENSES, CameraModel
from egox_core.errors import EgoXInputError
from egox_core.frame_store import FrameStore
from egox_core.frozen import frozen
from egox_core.types import FrameSelection, Resize
from egox_core.video import (
    Undistortion,
    VideoInfo,
    decode_frames,
    fit_picture,
    undistorted_camera,
)

from .clip_files import FIRST, ClipWindow
from .prepare_options import PictureChoice, PrepareOptions
from .raw_take import ExoView, SourceLayout, video_info


@frozen
class ExoPictures:
    """Recipe from one exo video to the pictures of its clips."""

    view: ExoView
    info: VideoInfo
    size: tuple[int, int]  # (width, height) px of the pictures
    camera: CameraModel  # of the pictures
    seen: Tensor  # [H, W] bool, what the lens saw; the rest is black and has no depth
    redrawn: Undistortion | None  # None: as filmed, cropped or padded
    corner: tuple[int, int] = (
        0,
        0,
    )  # (left, top) px, where the redrawn picture stands among its bars

    @property
    def kind(self) -> PictureChoice:
        """Name in manifests."""
        return "as filmed" if self.redrawn is None else "undistorted"

    def maps(self, window: ClipWindow) -> FrameSelection:
        """The clip's frames in maps of this picture (depth, masks): of the redrawn one, or of the
        video as filmed.

        Raises:
            EgoXInputError: the clip is beyond the video's end.
        """
        selection = self.selection(window)
        return (
            selection
            if self.redrawn is None
            else replace(selection, source_size=self.size, resize="crop")
        )

    def selection(self, window: ClipWindow) -> FrameSelection:
        """The clip's frames in the video, and the part of its picture that is shown where nothing
        is redrawn.

        Raises:
            EgoXInputError: the clip is beyond the video's end.
        """
        return frames_of(self.info, window, self.size, _resize(self.info, self.size))

    def read(self, window: ClipWindow) -> Tensor:  # [T, H, W, 3] uint8
        """The pictures of a clip.

        Raises:
            EgoXInputError: the clip is beyond the video's end, a frame that can't be decoded.
        """
        indices = self.selection(window).source_indices.tolist()
        store = FrameStore(len(indices), (self.size[1], self.size[0], 3), np.uint8)
        for picture in self.drawn(indices):
            store.append(picture)
        return store.tensor()

    def drawn(self, indices: list[int]) -> Iterator[np.ndarray]:  # [H, W, 3] uint8 each
        """The pictures of the video's frames ``indices``, which ascend."""
        left, top = self.corner
        whole = self.selection(FIRST)
        for _, picture in decode_frames(self.view.video, self.info, indices):
            if self.redrawn is None:
                yield fit_picture(picture, whole.rectangle, self.size)
                continue
            inner = (
                (self.redrawn(torch.from_numpy(picture)).clamp(0, 1) * 255)
                .round()
                .to(torch.uint8)
                .numpy()
            )
            out = np.zeros((self.size[1], self.size[0], 3), np.uint8)
            out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
            yield out


def exo_pictures(view: ExoView, layout: SourceLayout, options: PrepareOptions) -> ExoPictures:
    """Picture recipe of an exo camera under the options.

    Ego-Exo4D's own pictures become a pinhole's, unless they are to stay as filmed. A take's depth
    belongs to its picture as it was filmed, so both stay.

    Raises:
        EgoXInputError: a video that can't be read, or of another aspect than the calibration.
    """
    info = video_info(view.video)
    size, source = options.exo_size, camera_of_video(view, info)
    if LENSES[view.camera.lens].straight or layout != "egoexo4d" or options.pictures == "as filmed":
        first = frames_of(info, FIRST, size, _resize(info, size))
        return ExoPictures(
            view=view,
            info=info,
            size=size,
            camera=first.camera(source),
            seen=_shown(first),
            redrawn=None,
        )
    inner = size
    if turned_against(info, size):
        scale = min(size[0] / info.width, size[1] / info.height)
        inner = round(info.width * scale), round(info.height * scale)
    target = undistorted_camera(source, options.undistort, inner)
    # As wide as the lens allows would be 150 degrees here: little middle and much stretched rim.
    focal = max(inner) / 2 / math.tan(math.radians(options.exo_fov_deg) / 2)
    if focal > target.fx:
        target = replace(target, fx=focal, fy=focal)
    redrawn = Undistortion(source, target)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    seen = torch.zeros(size[1], size[0], dtype=torch.bool)
    seen[top : top + inner[1], left : left + inner[0]] = redrawn.seen
    return ExoPictures(
        view=view,
        info=info,
        size=size,
        camera=target.crop(-left, -top, *size),
        seen=seen,
        redrawn=redrawn,
        corner=(left, top),
    )


def turned_against(info: VideoInfo, size: tuple[int, int]) -> bool:
    """Check whether a video stands upright and the picture asked for lies, or the other way
    round."""
    return (info.width - info.height) * (size[0] - size[1]) < 0


def camera_of_video(view: ExoView, info: VideoInfo) -> CameraModel:
    """The calibrated camera at the video's own size (calibration at 3840x2160, video 796x448).

    Raises:
        EgoXInputError: a video of another aspect.
    """
    stored = view.camera.stored_size
    if abs(stored[0] / stored[1] * info.height / info.width - 1) > 0.02:
        raise EgoXInputError(
            f"exo camera {view.name}",
            got=f"video {info.width}x{info.height}, intrinsics of {stored[0]}x{stored[1]}",
            expected="the same aspect",
            fix="give the camera's own video",
        )
    return (
        view.camera
        if stored == (info.width, info.height)
        else view.camera.rescale(info.width, info.height)
    )


def frames_of(
    info: VideoInfo,
    window: ClipWindow,
    size: tuple[int, int],
    resize: Resize = "crop",
) -> FrameSelection:
    """The clip's frames of a video.

    Raises:
        EgoXInputError: the clip is beyond the video's end.
    """
    indices = window.indices
    if int(indices[-1]) >= info.frame_count:
        raise EgoXInputError(
            f"video {info.name}",
            got=f"{info.frame_count} frames",
            expected=f"at least {int(indices[-1]) + 1}",
            fix="the clip is beyond its end",
        )
    times = torch.tensor(info.times_s, dtype=torch.float64)[indices]
    return FrameSelection(
        source_indices=indices,
        times_s=times,
        source_fps=info.fps,
        fps=info.fps / window.step,
        source_size=(info.width, info.height),
        size=size,
        resize=resize,
    )


def _resize(info: VideoInfo, size: tuple[int, int]) -> Resize:
    return "pad" if turned_against(info, size) else "crop"


def _shown(selection: FrameSelection) -> Tensor:  # [H, W] bool
    """Mask of pixels inside the source picture; the others are bars."""
    left, top, *rectangle = selection.rectangle
    u, v = (
        start + (torch.arange(side) + 0.5) * length / side
        for start, side, length in zip((left, top), selection.size, rectangle, strict=True)
    )
    width, height = selection.source_size
    return ((v >= 0) & (v <= height))[:, None] & ((u >= 0) & (u <= width))
