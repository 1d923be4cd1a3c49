"""Read a clip's exo pictures frame by frame, undistorted or as filmed.

A picture of another orientation than the canvas (a GoPro turned by 90 degrees) is fitted whole,
black bars beside it: a crop would keep a third of what it shows."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import LENSES, CameraModel
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.types import FrameSelection, Resize
from egox_core.video import (
    Undistortion,
    VideoInfo,
    decode_frames,
    fit_picture,
    probe_video,
    select_frames,
    undistorted_camera,
)

from .clip_files import FIRST_FRAME_WINDOW, ClipWindow
from .prepare_options import PictureChoice, PrepareOptions
from .raw_take import RawView, SourceLayout


@frozen
class ExoPictures:
    """Settings that turn one exo video into pictures of a fixed size and lens."""

    view: RawView
    info: VideoInfo
    size: tuple[int, int]  # (width, height) px of the pictures
    resize: Resize
    camera: CameraModel  # of the pictures
    visible_mask: Tensor  # [H, W] bool, what the lens saw; the rest is black and has no depth
    undistortion: Undistortion | None  # None: as filmed, cropped or padded

    @property
    def kind(self) -> PictureChoice:
        """Name of the exo pictures' kind, undistorted or as filmed, for manifests."""
        return "as filmed" if self.undistortion is None else "undistorted"

    def select_map_frames(self, window: ClipWindow) -> FrameSelection:
        """Select a clip's frames from depth or mask maps, and resize them like the exo pictures.

        Raises:
            EgoXInputError: the clip is beyond the video's end.
        """
        info = self.info if self.undistortion is None else self.undistortion.shown(self.info)
        return frames_of(info, window, self.size, self.resize)

    def decode_pictures(self, indices: list[int]) -> Iterator[np.ndarray]:  # [H, W, 3] uint8 each
        """Decode the given frames of the exo video, and undistort or resize them."""
        shown_rectangle = self.select_map_frames(FIRST_FRAME_WINDOW).rectangle
        for _, picture in decode_frames(self.view.video, self.info, indices):
            if self.undistortion is not None:
                picture = self.undistortion(torch.from_numpy(picture)).numpy()
            yield fit_picture(picture, shown_rectangle, self.size)


def exo_pictures(view: RawView, layout: SourceLayout, options: PrepareOptions) -> ExoPictures:
    """Choose the size, lens and undistortion of an exo camera's pictures from its video and the
    options.

    Ego-Exo4D's own pictures become a pinhole's, unless they are to stay as filmed. A take's depth
    belongs to its picture as it was filmed, so both stay.

    Raises:
        EgoXInputError: a video that can't be read, or of another aspect than the calibration.
    """
    video_info, picture_size = probe_video(view.video), options.exo_size
    source_camera = camera_of_video(view, video_info)
    resize_mode = "pad" if has_other_orientation(video_info, picture_size) else "crop"
    common_fields: dict[str, Any] = {"view": view, "info": video_info, "size": picture_size}
    is_straight_lens = LENSES[view.exo.camera.lens].straight
    if is_straight_lens or layout != "egoexo4d" or options.pictures == "as filmed":
        first_selection = frames_of(video_info, FIRST_FRAME_WINDOW, picture_size, resize_mode)
        return ExoPictures(
            **common_fields,
            resize=resize_mode,
            camera=first_selection.camera(source_camera),
            visible_mask=_shown_mask(first_selection),
            undistortion=None,
        )
    fitted_size = picture_size
    if has_other_orientation(video_info, picture_size):
        scale = min(picture_size[0] / video_info.width, picture_size[1] / video_info.height)
        fitted_size = round(video_info.width * scale), round(video_info.height * scale)
    target_camera = undistorted_camera(source_camera, options.undistort, fitted_size)
    # As wide as the lens allows would be 150 degrees here: little middle and much stretched rim.
    focal_px = max(fitted_size) / 2 / math.tan(math.radians(options.exo_fov_deg) / 2)
    if focal_px > target_camera.fx:
        target_camera = replace(target_camera, fx=focal_px, fy=focal_px)
    undistortion = Undistortion(source_camera, target_camera, picture_size)
    return ExoPictures(
        **common_fields,
        resize="crop",
        camera=undistortion.camera,
        visible_mask=undistortion.seen,
        undistortion=undistortion,
    )


def has_other_orientation(video_info: VideoInfo, picture_size: tuple[int, int]) -> bool:
    """Check whether a video is upright while the requested picture is landscape, or the reverse."""
    return (video_info.width - video_info.height) * (picture_size[0] - picture_size[1]) < 0


def camera_of_video(view: RawView, video_info: VideoInfo) -> CameraModel:
    """Scale an exo camera's calibration to the size of its video.

    Raises:
        EgoXInputError: a video of another aspect.
    """
    calibrated_size = view.exo.camera.stored_size
    if (
        abs(calibrated_size[0] / calibrated_size[1] * video_info.height / video_info.width - 1)
        > 0.02
    ):
        raise EgoXInputError(
            f"exo camera {view.name}",
            got=f"video {video_info.width}x{video_info.height}, "
            f"intrinsics of {calibrated_size[0]}x{calibrated_size[1]}",
            expected="the same aspect",
            fix="give the camera's own video, or exo_camera, which says its size, in its meta.json",
        )
    return (
        view.exo.camera
        if calibrated_size == (video_info.width, video_info.height)
        else view.exo.camera.rescale(video_info.width, video_info.height)
    )


def frames_of(
    video_info: VideoInfo,
    window: ClipWindow,
    size: tuple[int, int],
    resize: Resize = "crop",
) -> FrameSelection:
    """Select the frames of a video that a clip contains, resized to ``size``.

    Raises:
        EgoXInputError: the clip is beyond the video's end.
    """
    width, height = size
    return select_frames(
        video_info,
        start_frame=window.start,
        frame_count=window.frames,
        step=window.step,
        resize=resize,
        width=width,
        height=height,
    )


def _shown_mask(selection: FrameSelection) -> Tensor:  # [H, W] bool
    """Mark the pixels that show the source picture rather than black bars."""
    left, top, *rectangle = selection.rectangle
    columns, rows = (
        first_pixel + (torch.arange(picture_side) + 0.5) * shown_length / picture_side
        for first_pixel, picture_side, shown_length in zip(
            (left, top), selection.size, rectangle, strict=True
        )
    )
    width, height = selection.source_size
    return ((rows >= 0) & (rows <= height))[:, None] & ((columns >= 0) & (columns <= width))
