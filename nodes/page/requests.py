"""Which requests the pack's own routes answer: those of the host's own page, with a body that is small enough."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from ...egox_core.errors import EgoXInputError


def refuse(status: int, reason: str) -> web.Response:
    """An answer that says why not."""
    return web.json_response({"reason": reason}, status=status)


def is_same_origin(request: web.Request) -> bool:
    """Whether a page of this server asks.

    Browsers say so in Sec-Fetch-Site, which no page can set, but only to addresses that they trust (https, localhost);
    over plain http in a network they send the page's Origin with every POST, and the routes take nothing else.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    return bool(origin) and bool(host) and urlsplit(origin).netloc.lower() == host.lower()


Handler = Callable[[web.Request], Awaitable[web.Response]]


def takes_files(handler: Handler) -> Handler:
    """A handler of multipart/form-data as a route's handler: who may ask, and what a failure answers.

    400: what the handler says, 403: another page asks, 413: over the host's limit, 507: the disk refuses.
    """

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.Response:
        if not is_same_origin(request):
            return refuse(403, "only this server's own page may ask")
        if not request.content_type.startswith("multipart/"):
            return refuse(400, "send multipart/form-data")
        try:
            return await handler(request)
        except EgoXInputError as error:
            return refuse(400, str(error))
        except web.HTTPRequestEntityTooLarge:
            return refuse(413, f"this server takes at most {request.client_max_size / 2**20:.0f} MB at once: start it "
                               "with a larger --max-upload-size (MB)")
        except OSError as error:
            return refuse(507, f"the server's disk does not take it ({error.strerror or error})")

    return route


async def read_body(request: web.Request, limit: int) -> dict:
    """The request's JSON object.

    Raises:
        EgoXInputError: not JSON, no object.
        web.HTTPRequestEntityTooLarge: over ``limit`` bytes.
    """
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=request.content_length)
    raw = bytearray()
    async for part in request.content.iter_chunked(65536):
        raw += part
        if len(raw) > limit:
            raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=len(raw))
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise EgoXInputError("request", got="no JSON", expected="a JSON object", fix="send one") from error
    if not isinstance(body, dict):
        raise EgoXInputError("request", got=type(body).__name__, expected="a JSON object", fix="send one")
    return body


def whole_number(body: dict, key: str, low: int, high: int, default: int | None = None) -> int:
    """An integer field within bounds.

    Raises:
        EgoXInputError: missing without a default, no integer, outside.
    """
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise EgoXInputError(key, got=repr(value)[:40], expected=f"a whole number from {low} to {high}",
                             fix=f"send {key}")
    return value


def number(body: dict, key: str, low: float, high: float) -> float:
    """A number field within bounds.

    Raises:
        EgoXInputError: missing, no number, outside.
    """
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise EgoXInputError(key, got=repr(value)[:40], expected=f"a number from {low:g} to {high:g}",
                             fix=f"send {key}")
    return float(value)
