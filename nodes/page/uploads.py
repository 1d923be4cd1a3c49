"""Receive a user's own video and files into ComfyUI's input folder.

ComfyUI's own upload takes one file and has no notion of depth or archives. Here one request
brings all files that were chosen or dropped at once, which become one folder below
``input/egox``. ComfyUI's limit on an upload applies."""

import asyncio
import re
import shutil
import threading
import uuid
from pathlib import Path

import folder_paths
from aiohttp import web

from ...egox_core.errors import EgoXInputError
from ...egox_core.file_names import TRUTH
from ...egox_core.page import MAX_FILES, UPLOAD_SUFFIXES, store_upload, use_as_truth
from ...egox_core.safe_files import clear_leftovers, file_lock, safe_name
from ..host.paths import resolve
from ..host.remember import RENEWAL_COUNTS
from .requests import (
    SHORT_BODY,
    file_receiving_route,
    file_writing_route,
    iterate_blocks,
    iterate_parts,
    read_body,
)

UPLOAD_PATH, TRUTH_PATH = "/egox/upload", "/egox/upload/truth"
FOLDER = "egox"
"""Name of the uploads' folder below the input folder."""
STAGING = f".{'[0-9a-f]' * 32}.*"
"""Pattern of folders that receive uploads, and of their locks."""
ANIMATED = (".webp", ".gif", ".apng")
"""Suffixes of pictures that may be animated, which are not accepted as videos."""
PHOTOS = (".jpg", ".jpeg", ".heic", ".bmp", ".tif", ".tiff")
BLOCK = 2**20
MULTIPART_HEAD = 64 * 1024
"""Bytes that a request may have besides its files."""


async def send_limits(request: web.Request) -> web.Response:
    """Send the limits of one upload for the page to check first: bytes, kinds and number of
    files."""
    return web.json_response(
        {"limit": request.client_max_size, "suffixes": UPLOAD_SUFFIXES, "files": MAX_FILES}
    )


@file_receiving_route
async def receive_upload(request: web.Request) -> web.Response:
    """Receive an upload's files, and answer with their kinds and names."""
    upload_root = Path(folder_paths.get_input_directory()) / FOLDER
    upload_id = uuid.uuid4().hex
    staging_folder = upload_root / f".{upload_id}.part"
    with file_lock(upload_root / upload_id):  # another server would take it for a leftover
        try:
            staging_folder.mkdir(parents=True)
            file_names = await _receive_files(request, staging_folder)
            return web.json_response(
                await asyncio.to_thread(store_and_describe, staging_folder, upload_root, file_names)
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, staging_folder, ignore_errors=True)


async def _receive_files(request: web.Request, folder: Path) -> list[str]:
    """Write a request's files into a folder, and list their names."""
    too_large = web.HTTPRequestEntityTooLarge(
        max_size=request.client_max_size, actual_size=request.content_length or 0
    )
    most_bytes = request.client_max_size
    received_bytes = 0
    file_names = list[str]()
    if (request.content_length or 0) > most_bytes + MULTIPART_HEAD:
        raise too_large
    async for part in iterate_parts(request):
        if not part.filename:
            continue
        name = "/".join(
            safe_name(part_name)
            for part_name in re.split(r"[/\\]", part.filename)
            if part_name not in ("", ".", "..")
        )
        suffix = Path(name).suffix.lower()
        if suffix not in UPLOAD_SUFFIXES:
            raise EgoXInputError(
                "upload",
                got=f"a photo, {name!r}" if suffix in PHOTOS else repr(name),
                expected=f"one of {', '.join(UPLOAD_SUFFIXES)}",
                fix=_advise_on_suffix(suffix),
            )
        if len(file_names) == MAX_FILES or name.casefold() in map(str.casefold, file_names):
            raise EgoXInputError(
                "upload",
                got=f"{name!r} twice" if len(file_names) < MAX_FILES else "too many files",
                expected=f"at most {MAX_FILES} files of different names",
                fix="choose one take",
            )
        file_names.append(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("xb") as target:
            async for block in iterate_blocks(part, BLOCK):
                received_bytes += len(block)
                if received_bytes > most_bytes:
                    raise too_large
                target.write(block)
    if not file_names:
        raise EgoXInputError("upload", got="no file", expected="files of a take", fix="choose some")
    return file_names


def _advise_on_suffix(suffix: str) -> str:
    if suffix in PHOTOS:
        return "upload the video of the scene: EgoX makes a video of a video"
    if suffix in ANIMATED:
        return "convert it to mp4"
    return "choose the files of a take, or a zip of them"


def store_and_describe(staging: Path, root: Path, names: list[str]) -> dict:
    """Move received files to the input folder, and describe them for the page.

    Raises:
        EgoXInputError: no take's files.
        OSError: the disk refuses.
    """
    upload_place, files = store_upload(staging, root, names)

    def name_below_input(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(root.parent).as_posix()

    return {
        "folder": upload_place.folder.name,
        "name": upload_place.name,
        "reused": upload_place.reused,
        "video": name_below_input(files.video),
        "depth": name_below_input(files.depth),
        "camera": name_below_input(files.camera),
        "poses": name_below_input(files.poses),
        "frames": files.frames,
        "depth_frames": files.depth_frames,
        "turning": name_below_input(files.turning),
        "truth": name_below_input(files.truth),
        "hands": name_below_input(files.hands),
        "unused": files.unused,
    }


@file_writing_route
async def store_truth(request: web.Request) -> web.Response:
    """Store one of an upload's videos as the wearer's true ego video.

    The body is JSON ``{"ego", "exo"}`` with the names of both. From then on the first one is
    shown as the truth.
    """
    body = await read_body(request, SHORT_BODY)
    upload_root = (Path(folder_paths.get_input_directory()) / FOLDER).resolve()
    ego, exo = (resolve(str(body.get(name, "")), f"{name} video") for name in ("ego", "exo"))
    upload_folders = {
        path.relative_to(upload_root).parts[:1] if path.is_relative_to(upload_root) else path
        for path in (ego, exo)
    }
    if len(upload_folders) != 1 or ego == exo:
        raise EgoXInputError(
            "ground truth",
            got=f"{body.get('ego')!r} and {body.get('exo')!r}",
            expected="two videos of one upload",
            fix="upload both videos together",
        )
    await asyncio.to_thread(use_as_truth, ego, exo)
    RENEWAL_COUNTS[TRUTH] += 1
    return web.json_response({})


def register(routes: web.RouteTableDef) -> None:
    """Add the upload routes to ComfyUI's server, and delete incomplete uploads."""
    upload_root = Path(folder_paths.get_input_directory()) / FOLDER
    threading.Thread(
        target=clear_leftovers, args=(upload_root, STAGING), name="egox-leftovers", daemon=True
    ).start()
    routes.get(UPLOAD_PATH)(send_limits)
    routes.post(UPLOAD_PATH)(receive_upload)
    routes.post(TRUTH_PATH)(store_truth)
