"""Save a player's clip as a video in ComfyUI's output folder.

The file contains the workflow of the run that made the pictures, from ComfyUI's list of runs,
not the graph that the page shows by then."""

import asyncio
import io
from pathlib import Path
from typing import Any

import av
import folder_paths
import numpy as np
import torch
from aiohttp import web
from PIL import Image
from torch import Tensor

from ...egox_core.errors import EgoXInputError, intact
from ...egox_core.page import MAX_FRAMES
from ...egox_core.safe_files import atomic_write, safe_name
from ..host.steps import running_server
from .requests import file_receiving_route, iterate_blocks, iterate_parts, json_object, number

SAVE_PATH = "/egox/save_clip"
FOLDER = "egox_previews"
"""Name of the folder below ComfyUI's output folder."""
ABOUT_BYTES = 4096
MAX_PIXELS = 2**27
"""Largest number of pixels of all frames together, which take 1.6 GB in ComfyUI's video."""


@file_receiving_route
async def save_clip(request: web.Request) -> web.Response:
    """Receive a clip's frames as JPEGs and save them as a video.

    The answer is ``{"file", "workflow"}``: the name below the output folder, and whether the
    file contains its workflow."""
    description, pictures = await _receive_clip(request)
    return web.json_response(await asyncio.to_thread(write_clip, description, pictures))


async def _receive_clip(request: web.Request) -> tuple[dict[str, Any], list[bytes]]:
    """Read a clip's description and JPEGs from a request."""
    description = b""
    pictures = list[bytes]()
    received_bytes = 0
    async for field in iterate_parts(request):
        field_content = bytearray()
        async for block in iterate_blocks(field, 2**20):
            received_bytes += len(block)
            if received_bytes > request.client_max_size:
                raise web.HTTPRequestEntityTooLarge(
                    max_size=request.client_max_size, actual_size=received_bytes
                )
            field_content += block
        if field.name == "about":
            description = bytes(field_content[:ABOUT_BYTES])
        else:
            pictures.append(bytes(field_content))
    return json_object(description, "about"), pictures


def write_clip(description: dict[str, Any], pictures: list[bytes]) -> dict[str, Any]:
    """Write a clip's video file, and describe it for the page.

    Raises:
        EgoXInputError: no clip.
        OSError: the disk refuses.
    """
    from ..host.video import (
        native_video,
    )  # here: a host that lacks what it needs still has all other routes

    frames = decode_page_frames(pictures)
    fps = number(description, "fps", 0.01, 1000)
    run_id = description.get("run")
    metadata = run_metadata(run_id) if isinstance(run_id, str) else {}
    prefix = f"{FOLDER}/{safe_name(str(description.get('name') or 'clip'))}"
    output_folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory()
    )
    video_path = Path(output_folder) / f"{name}_{counter:05}_.mp4"
    with (
        atomic_write(video_path) as unfinished,
        intact(
            "frames",
            (av.error.FFmpegError,),
            expected="frames of a video",
            fix="save a different clip",
        ),
    ):
        native_video(frames, fps).save_to(str(unfinished), metadata=metadata or None)
    return {"file": f"{subfolder}/{video_path.name}", "workflow": "workflow" in metadata}


def decode_page_frames(pictures: list[bytes]) -> Tensor:  # [T, H, W, 3] 0...1
    """Decode JPEGs of one size with even sides, which video files need.

    Raises:
        EgoXInputError: none, too many, no JPEGs, sizes that differ, are odd or too large.
    """
    frames = list[Tensor]()
    first_size = None
    try:
        for jpeg_bytes in pictures[: MAX_FRAMES + 1]:
            with Image.open(io.BytesIO(jpeg_bytes), formats=("JPEG",)) as picture:
                first_size = first_size or picture.size
                too_large = picture.width * picture.height * len(pictures) > MAX_PIXELS
                if (
                    picture.size != first_size
                    or too_large
                    or picture.width % 2
                    or picture.height % 2
                ):
                    break
                frames.append(torch.from_numpy(np.array(picture.convert("RGB"))))
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError):  # of Pillow
        frames = []
    if not frames or len(frames) != len(pictures) or len(frames) > MAX_FRAMES:
        raise EgoXInputError(
            "frames",
            got=f"{len(pictures)} images, the first of {first_size}",
            expected=f"1 to {MAX_FRAMES} JPEGs of one even size, at most {MAX_PIXELS} px together",
            fix="view fewer images at once",
        )
    return torch.stack(frames).float() / 255


def run_metadata(run_id: str) -> dict[str, Any]:
    """Collect the workflow metadata that ComfyUI's own Save nodes would write."""
    from comfy.cli_args import args

    server = running_server()
    if server is None or args.disable_metadata:
        return {}
    history_entry = server.prompt_queue.get_history(prompt_id=run_id).get(run_id)
    if history_entry is None:
        return {}
    _, _, prompt, extra_data, *_ = history_entry["prompt"]
    return {**(extra_data.get("extra_pnginfo") or {}), "prompt": prompt}


def register(routes: web.RouteTableDef) -> None:
    """Add the route that saves a clip to ComfyUI's routes."""
    routes.post(SAVE_PATH)(save_clip)
