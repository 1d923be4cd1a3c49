"""A user's own take through the page: files into the host's input folder, told apart, checked, and
never overwritten.

The host's own upload takes one file and knows nothing of depth or archives. Here one request brings
all files that were chosen or dropped at once; they become one folder below ``input/egox``. The
host's limit on an upload holds."""

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
from ..host.remember import RENEWALS
from .requests import SHORT_BODY, blocks_of, parts_of, read_body, takes_files, writes_files

UPLOAD_PATH, TRUTH_PATH = "/egox/upload", "/egox/upload/truth"
FOLDER = "egox"
"""Below the input folder."""
STAGING = f".{'[0-9a-f]' * 32}.*"
"""Folders that uploads are received into, and their locks."""
ANIMATED = (".webp", ".gif", ".apng")
"""Pictures that may move, which are no video here."""
PHOTOS = (".jpg", ".jpeg", ".heic", ".bmp", ".tif", ".tiff")
BLOCK = 2**20
MULTIPART_HEAD = 64 * 1024
"""Bytes that a request may have beside its files."""


async def limit(request: web.Request) -> web.Response:
    """Send the limits of one upload: bytes, kinds and count of files, for the page to check before
    it sends."""
    return web.json_response(
        {"limit": request.client_max_size, "suffixes": UPLOAD_SUFFIXES, "files": MAX_FILES}
    )


@takes_files
async def upload(request: web.Request) -> web.Response:
    """Receive files of one take as multipart/form-data, and answer what they are, by names for the
    nodes' inputs."""
    root = Path(folder_paths.get_input_directory()) / FOLDER
    name = uuid.uuid4().hex
    staging_folder = root / f".{name}.part"
    with file_lock(root / name):  # another server would take it for a leftover
        try:
            staging_folder.mkdir(parents=True)
            names = await _receive(request, staging_folder)
            return web.json_response(
                await asyncio.to_thread(placed_files, staging_folder, root, names)
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, staging_folder, ignore_errors=True)


async def _receive(request: web.Request, folder: Path) -> list[str]:
    """Write the request's files into a folder, and list their names there, with the folders that
    they had."""
    too_large = web.HTTPRequestEntityTooLarge(
        max_size=request.client_max_size, actual_size=request.content_length or 0
    )
    most_bytes, received_bytes, names = request.client_max_size, 0, list[str]()
    if (request.content_length or 0) > most_bytes + MULTIPART_HEAD:
        raise too_large
    async for part in parts_of(request):
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
                fix=_fix_of(suffix),
            )
        if len(names) == MAX_FILES or name.casefold() in map(str.casefold, names):
            raise EgoXInputError(
                "upload",
                got=f"{name!r} twice" if len(names) < MAX_FILES else "too many files",
                expected=f"at most {MAX_FILES} files of different names",
                fix="choose one take",
            )
        names.append(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("xb") as target:
            async for block in blocks_of(part, BLOCK):
                received_bytes += len(block)
                if received_bytes > most_bytes:
                    raise too_large
                target.write(block)
    if not names:
        raise EgoXInputError("upload", got="no file", expected="files of a take", fix="choose some")
    return names


def _fix_of(suffix: str) -> str:
    if suffix in PHOTOS:
        return "upload the video of the scene: EgoX makes a video of a video"
    if suffix in ANIMATED:
        return "convert it to mp4"
    return "choose the files of a take, or a zip of them"


def placed_files(staging: Path, root: Path, names: list[str]) -> dict:
    """Store received files, and describe for the page where they lie now and what they are.

    Raises:
        EgoXInputError: no take's files.
        OSError: the disk refuses.
    """
    upload_place, files = store_upload(staging, root, names)

    def named(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(root.parent).as_posix()

    return {
        "folder": upload_place.folder.name,
        "name": upload_place.name,
        "reused": upload_place.reused,
        "video": named(files.video),
        "depth": named(files.depth),
        "camera": named(files.camera),
        "poses": named(files.poses),
        "frames": files.frames,
        "depth_frames": files.depth_frames,
        "turning": named(files.turning),
        "truth": named(files.truth),
        "hands": named(files.hands),
        "unused": files.unused,
    }


@writes_files
async def truth(request: web.Request) -> web.Response:
    """Make one of an upload's videos the wearer's own view.

    JSON ``{"ego", "exo"}``: their names. From here on the first is shown so.
    """
    body = await read_body(request, SHORT_BODY)
    root = (Path(folder_paths.get_input_directory()) / FOLDER).resolve()
    ego, exo = (resolve(str(body.get(name, "")), f"{name} video") for name in ("ego", "exo"))
    uploads = {
        path.relative_to(root).parts[:1] if path.is_relative_to(root) else path
        for path in (ego, exo)
    }
    if len(uploads) != 1 or ego == exo:
        raise EgoXInputError(
            "ground truth",
            got=f"{body.get('ego')!r} and {body.get('exo')!r}",
            expected="two videos of one upload",
            fix="upload both videos together",
        )
    await asyncio.to_thread(use_as_truth, ego, exo)
    RENEWALS[TRUTH] += 1
    return web.json_response({})


def register(routes: web.RouteTableDef) -> None:
    """Add the upload's routes to the host's, and clear what a killed server left."""
    root = Path(folder_paths.get_input_directory()) / FOLDER
    threading.Thread(
        target=clear_leftovers, args=(root, STAGING), name="egox-leftovers", daemon=True
    ).start()
    routes.get(UPLOAD_PATH)(limit)
    routes.post(UPLOAD_PATH)(upload)
    routes.post(TRUTH_PATH)(truth)
