"""Requests that the pack's own routes answer: those of the host's own page, with a body that is
small enough."""

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
"""In JSON; after an odd backslash the six characters are the text itself."""
BAD_BODIES = (
    AssertionError,
    HttpProcessingError,
    LookupError,
    RuntimeError,
    ValueError,
    web.RequestPayloadError,
)
"""Raised by aiohttp at bodies that their headers do not fit: no boundary, no gzip, cut off."""


def refuse(status: int, reason: str) -> web.Response:
    """Make an answer that says why not."""
    return web.json_response({"reason": reason}, status=status)


def unkept(
    body: bytes, kind: str = "image/jpeg", headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an answer that no browser keeps."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return web.Response(body=body, content_type=kind, headers=headers)


def is_same_origin(request: web.Request) -> bool:
    """Check whether a page of this server asks.

    Browsers say so in Sec-Fetch-Site, which no page can set, but only to addresses that they trust
    (https, localhost); over plain http in a network they send the page's Origin with every POST,
    and the routes take nothing else. A stranger's name that leads to this machine (DNS rebinding)
    passes, as with the host: no server knows all names that its user gives it."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    try:
        return bool(origin) and bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no address
        return False


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OTHER_PAGE = "only this server's own page may ask"


def reads_file(
    handler: Callable[[web.Request, str], Awaitable[web.StreamResponse]],
) -> Handler:
    """Turn a handler of ``?file=…`` into a route's handler: 403 where another page asks, else 400
    and what the handler says.

    An img or video element sends no Origin; what a browser says of the asking page counts where it
    says anything."""

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return refuse(403, OTHER_PAGE)
        try:
            return await handler(request, request.query.get("file", ""))
        except EgoXInputError as error:
            return refuse(400, str(error))

    return route


def takes_files(handler: Handler) -> Handler:
    """Turn a handler of multipart/form-data into a route's handler, answering as
    :func:`writes_files`."""

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.StreamResponse:
        if not request.content_type.startswith("multipart/"):
            return refuse(400, "send multipart/form-data")
        return await handler(request)

    return writes_files(route)


def writes_files(handler: Handler) -> Handler:
    """Turn a handler that writes files into a route's handler: who may ask, and what a failure
    answers.

    400: what the handler says, a body that breaks off, 403: another page asks, 413: over the host's
    limit, 507: the disk refuses.
    """

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
                f"this server takes at most {request.client_max_size / 2**20:.0f} MB at once: start it "
                "with a larger --max-upload-size (MB)",
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
    length = request.content_length or 0
    if length > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=length)
    raw = bytearray()
    with intact(
        "request", BAD_BODIES, expected="a body that matches its headers", fix="send it again"
    ):
        async for part in request.content.iter_chunked(65536):
            raw += part
            if len(raw) > limit:
                raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=len(raw))
    if len(raw) < SHORT_BODY:
        return json_object(bytes(raw))
    return await asyncio.to_thread(json_object, bytes(raw))  # a long one takes seconds


def json_object(raw: bytes, what: str = "request") -> dict:
    """Read the JSON object that a page sent as bytes, with ``what`` as its name in errors.

    Raises:
        EgoXInputError: not JSON, no object, texts that are no text: a NUL, half a surrogate pair.
    """
    body = parse_json(raw, what)
    if not isinstance(body, dict):
        raise EgoXInputError(
            what, got=type(body).__name__, expected="a JSON object", fix="send one"
        )
    if b"\\u" in raw:  # neither can be in it without an escape
        with intact(
            what,
            (UnicodeEncodeError, RecursionError),
            expected="texts of Unicode",
            fix="correct them",
        ):
            raw_text = json.dumps(body, ensure_ascii=False).encode("utf-8")
        if ESCAPED_NUL.search(raw_text):
            raise EgoXInputError(
                what, got="a NUL in a text", expected="plain texts", fix="leave it out"
            )
    return body


def whole() -> AbstractContextManager:
    """Refuse a multipart body that breaks off in this block."""
    expected = "whole multipart/form-data"
    return intact("request", BAD_BODIES, expected=expected, fix="send it again")


async def parts_of(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Read the parts of a multipart request.

    Raises:
        EgoXInputError: cut off, without a boundary, parts within parts.
    """
    with whole():
        reader = await request.multipart()
    while True:
        with whole():
            part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise EgoXInputError(
                "request", got="parts within a part", expected="files", fix="send them plainly"
            )
        yield part


async def blocks_of(part: BodyPartReader, size: int) -> AsyncIterator[bytes]:
    """Read the content of a part in blocks of at most ``size`` bytes.

    Raises:
        EgoXInputError: cut off.
    """
    while True:
        with whole():
            block = await part.read_chunk(size)
        if not block:
            return
        yield block


def whole_number(body: dict, key: str, low: int, high: int, default: int | None = None) -> int:
    """Read an integer field within bounds.

    Raises:
        EgoXInputError: missing without a default, no integer, outside.
    """
    return _within(body.get(key, default), key, low, high, "a whole number", int)


def number(body: dict, key: str, low: float, high: float) -> float:
    """Read a number field within bounds.

    Raises:
        EgoXInputError: missing, no number, outside.
    """
    return float(_within(body.get(key), key, low, high, "a number", (int, float)))


def _within(value: Any, key: str, low: float, high: float, words: str, kinds: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise EgoXInputError(
            key,
            got=repr(value)[:40],
            expected=f"{words} from {low} to {high}",
            fix=f"send {key}",
        )
    return value
