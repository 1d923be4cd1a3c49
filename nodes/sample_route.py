"""The pack's sample videos for the page: the host's own ``/view`` reads its input, output and temp folders only."""

from __future__ import annotations

from aiohttp import web

from ..egox_core.errors import EgoXInputError
from .host.paths import resolve
from .same_origin import refuse

PATH = "/egox/sample_video"
SUFFIXES = (".mp4", ".webm", ".mov", ".mkv")


async def sample_video(request: web.Request) -> web.StreamResponse:
    """The file that *Load Exo Video* would read for ``?file=sample/…``: 403 another page, 400 no video of a sample."""
    # A video element sends no Origin; what a browser says of the asking page counts where it says it.
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return refuse(403, "only this server's own page may ask")
    name = request.query.get("file", "")
    if not name.startswith("sample/") or not name.lower().endswith(SUFFIXES):
        return refuse(400, "file must name a video, sample/…")
    try:
        return web.FileResponse(resolve(name, "sample video"))
    except EgoXInputError as error:
        return refuse(400, str(error))


def register(routes: web.RouteTableDef) -> None:
    """Add the route to the host's."""
    routes.get(PATH)(sample_video)
