"""Describe the chosen exo video for the page, and send single frames.

A browser plays few of the phones' formats, and shows none of them in the standard range.
"""

import asyncio
from pathlib import Path

import torch
from aiohttp import web

from ...egox_core.file_names import DEPTH
from ...egox_core.safe_files import whole_number
from ...egox_core.video import VideoInfo, decode_frames, probe_video, resize_picture
from ..host.paths import resolve
from .requests import file_reading_route, uncached_response
from .scenes import jpeg

CLIP_PATH, FRAME_PATH = "/egox/exo_clip", "/egox/exo_frame"
MAX_HIGH = 448
"""Largest height in px of a frame that is sent."""


@file_reading_route
async def exo_clip(request: web.Request, name: str) -> web.StreamResponse:
    """Send a description of the video that the request names.

    The answer contains frames, frames per second, width and height (px), ``hdr`` (HLG, PQ or
    empty), ``remarks``, ``depth`` (whether a depth file is beside it), and ``times`` (s) if they
    are uneven."""
    info, has_depth = await asyncio.to_thread(probe_with_depth, name)
    return web.json_response(
        {
            "frames": info.frame_count,
            "fps": info.fps,
            "width": info.width,
            "height": info.height,
            "hdr": info.hdr,
            "remarks": info.remarks,
            "times": info.uneven_times,
            "depth": has_depth,
        }
    )


def probe_with_depth(name: str) -> tuple[VideoInfo, bool]:
    """Probe a named video, and check whether its depth is beside it.

    Raises:
        EgoXInputError: no video that can be read.
    """
    video_path = resolve(name, "exo video")
    return probe_video(video_path), video_path.with_name(DEPTH).is_file()


@file_reading_route
async def exo_frame(request: web.Request, name: str) -> web.StreamResponse:
    """Send one frame of the requested video as a JPEG."""
    frame = whole_number(request.query.get("frame", "0")) or 0
    return uncached_response(
        await asyncio.to_thread(lambda: encode_frame(resolve(name, "exo video"), frame))
    )


def encode_frame(path: Path, number: int) -> bytes:
    """Encode a video frame as JPEG, scaled down to at most MAX_HIGH px.

    Raises:
        EgoXInputError: no video that can be read.
    """
    video_info = probe_video(path)
    ((_, picture),) = decode_frames(path, video_info, [min(number, video_info.frame_count - 1)])
    scale = min(1.0, MAX_HIGH / picture.shape[0])
    jpeg_size = max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[0]))
    return jpeg(torch.from_numpy(resize_picture(picture, *jpeg_size)))


def register(routes: web.RouteTableDef) -> None:
    """Add the routes for the exo video's description and frames to ComfyUI's routes."""
    routes.get(CLIP_PATH)(exo_clip)
    routes.get(FRAME_PATH)(exo_frame)
