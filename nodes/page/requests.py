"""Check requests to the pack's routes: their origin and the size of their bodies."""

import asyncio
import functools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ...egox_core.errors import EgoXInputError, intact
from ...egox_core.safe_files import NAME_CLASHES, parse_json

SHORT_BODY = 64 * 1024
ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""Pattern of an escaped NUL in JSON. After an odd number of backslashes the six characters are
plain text."""
BAD_BODIES = (
    AssertionError,
    HttpProcessingError,
    LookupError,
    RuntimeError,
    ValueError,
    web.RequestPayloadError,
)
"""Exceptions of aiohttp for bodies that contradict their headers: no boundary, no gzip, cut off."""


def refuse(status: int, reason: str) -> web.Response:
    """Make an HTTP error answer with a reason."""
    return web.json_response({"reason": reason}, status=status)


def uncached_response(
    body: bytes, content_type: str = "image/jpeg", headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an answer that no browser caches."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return web.Response(body=body, content_type=content_type, headers=headers)


def is_same_origin(request: web.Request) -> bool:
    """Check whether a request comes from a page of this server.

    Browsers state this in Sec-Fetch-Site, which no page can set, but only to addresses that they
    trust (https, localhost). Over plain http in a network they send the page's Origin with every
    POST, and the routes accept nothing else. A foreign name that leads to this machine (DNS
    rebinding) passes, as in ComfyUI: no server can list all names that its user gives it."""
    fetch_site = request.headers.get("Sec-Fetch-Site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    try:
        return bool(origin) and bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no address
        return False


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OTHER_PAGE = "only this server's own page may ask"


def file_reading_route(
    handler: Callable[[web.Request, str], Awaitable[web.StreamResponse]],
) -> Handler:
    """Wrap a handler of file requests with checks of their origin and answers to errors.

    An img or video element sends no Origin, so only Sec-Fetch-Site is checked, if the browser
    sends it."""

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return refuse(403, OTHER_PAGE)
        try:
            return await handler(request, request.query.get("file", ""))
        except EgoXInputError as error:
            return refuse(400, str(error))

    return route


def file_receiving_route(handler: Handler) -> Handler:
    """Wrap a handler of uploads (multipart/form-data) with checks and answers to errors."""

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.StreamResponse:
        if not request.content_type.startswith("multipart/"):
            return refuse(400, "send multipart/form-data")
        return await handler(request)

    return file_writing_route(route)


def file_writing_route(handler: Handler) -> Handler:
    """Wrap a handler that writes files with checks of the request's origin and answers to errors.

    Status 400: the handler's error, or a body that breaks off. 403: another page asks. 413:
    above ComfyUI's limit. 507: the disk refuses."""

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.StreamResponse:
        if not is_same_origin(request):
            return refuse(403, OTHER_PAGE)
        try:
            return await handler(request)
        except EgoXInputError as error:
            return refuse(400, str(error))
        except NAME_CLASHES as error:
            return refuse(400, f"one name for a file and a folder ({error.strerror})")
        except web.HTTPRequestEntityTooLarge:
            return refuse(
                413,
                f"this server takes at most {request.client_max_size / 2**20:.0f} MB at once: "
                "start it with a larger --max-upload-size (MB)",
            )
        except OSError as error:
            return refuse(507, f"the server's disk does not take it ({error.strerror or error})")

    return route


async def read_body(request: web.Request, limit: int) -> dict:
    """Read the request's JSON object.

    Raises:
        EgoXInputError: not JSON, no object.
        web.HTTPRequestEntityTooLarge: over ``limit`` bytes.
    """
    content_length = request.content_length or 0
    if content_length > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=content_length)
    body_bytes = bytearray()
    with intact(
        "request", BAD_BODIES, expected="a body that matches its headers", fix="send it again"
    ):
        async for part in request.content.iter_chunked(65536):
            body_bytes += part
            if len(body_bytes) > limit:
                raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=len(body_bytes))
    if len(body_bytes) < SHORT_BODY:
        return json_object(bytes(body_bytes))
    return await asyncio.to_thread(json_object, bytes(body_bytes))  # a long one takes seconds


def json_object(raw: bytes, label: str = "request") -> dict:
    """Read the JSON object that a page sent as bytes, with ``label`` as its name in errors.

    Raises:
        EgoXInputError: not JSON, no object, texts that are no text: a NUL, half a surrogate pair.
    """
    json_body = parse_json(raw, label)
    if not isinstance(json_body, dict):
        raise EgoXInputError(
            label, got=type(json_body).__name__, expected="a JSON object", fix="send one"
        )
    if b"\\u" in raw:  # neither can be in it without an escape
        with intact(
            label,
            (UnicodeEncodeError, RecursionError),
            expected="texts of Unicode",
            fix="correct them",
        ):
            raw_text = json.dumps(json_body, ensure_ascii=False).encode("utf-8")
        if ESCAPED_NUL.search(raw_text):
            raise EgoXInputError(
                label, got="a NUL in a text", expected="plain texts", fix="leave it out"
            )
    return json_body


def refuse_incomplete() -> AbstractContextManager:
    """Refuse an upload that breaks off inside this block."""
    expected_body = "whole multipart/form-data"
    return intact("request", BAD_BODIES, expected=expected_body, fix="send it again")


async def iterate_parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Read the parts of a multipart request.

    Raises:
        EgoXInputError: cut off, without a boundary, parts within parts.
    """
    with refuse_incomplete():
        multipart_reader = await request.multipart()
    while True:
        with refuse_incomplete():
            part = await multipart_reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise EgoXInputError(
                "request", got="parts within a part", expected="files", fix="send them plainly"
            )
        yield part


async def iterate_blocks(part: BodyPartReader, size: int) -> AsyncIterator[bytes]:
    """Read the content of a part in blocks of at most ``size`` bytes.

    Raises:
        EgoXInputError: cut off.
    """
    while True:
        with refuse_incomplete():
            content_block = await part.read_chunk(size)
        if not content_block:
            return
        yield content_block


def whole_field(body: dict, key: str, low: int, high: int, default: int | None = None) -> int:
    """Read an integer field of a request, and refuse values out of range.

    Raises:
        EgoXInputError: missing without a default, no integer, outside.
    """
    return _require_in_range(body.get(key, default), key, low, high, "a whole number", int)


def number(body: dict, key: str, low: float, high: float) -> float:
    """Read a number field of a request, and refuse values out of range.

    Raises:
        EgoXInputError: missing, no number, outside.
    """
    return float(_require_in_range(body.get(key), key, low, high, "a number", (int, float)))


def _require_in_range(
    value: Any, key: str, low: float, high: float, type_words: str, types: Any
) -> Any:
    if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
        raise EgoXInputError(
            key,
            got=repr(value)[:40],
            expected=f"{type_words} from {low} to {high}",
            fix=f"send {key}",
        )
    return value
