"""A websocket client as far as the host's progress messages need one (RFC 6455, text and binary, no extensions)."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import time
from urllib.parse import urlsplit

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # fixed by the standard
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_MESSAGE_BYTES = 256 * 1024**2


class WebSocketError(ConnectionError):
    """The other side does not speak the protocol, or went away."""


class WebSocket:
    """One client connection; ``receive`` gives whole messages."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        """Connect to ``ws://host:port/path``.

        Raises:
            WebSocketError: refused, or not a websocket.
        """
        parts = urlsplit(address)
        if parts.scheme != "ws":
            raise WebSocketError(f"only ws:// addresses, not {address}")
        port = parts.port or 80
        self._pending = b""
        try:
            self._socket = socket.create_connection((parts.hostname, port), timeout=timeout)
        except OSError as error:
            raise WebSocketError(f"can't connect to {address}: {error}") from error
        key = base64.b64encode(os.urandom(16)).decode()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            self._socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {parts.hostname}:{port}\r\nUpgrade: websocket\r\n"
                                  f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                                  "Sec-WebSocket-Version: 13\r\n\r\n").encode())
            self._check_answer(key)
        except BaseException:
            self._socket.close()
            raise

    def _check_answer(self, key: str) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = self._socket.recv(4096)
            if not chunk or len(head) > 65536:
                raise WebSocketError("no websocket answer")
            head += chunk
        head, self._pending = head.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        expected = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        if " 101 " not in lines[0] + " " or fields.get("sec-websocket-accept") != expected:
            raise WebSocketError(f"not a websocket: {lines[0]}")

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """The next message: text as str, binary as bytes; None when the other side closed.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds. The connection stays usable.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        kind, parts = None, []
        while True:
            final, code, payload = self._frame(deadline)
            if code == _PING:
                self._send(_PONG, payload)
            elif code == _CLOSE:
                self._send(_CLOSE, payload[:2])
                return None
            elif code in (_TEXT, _BINARY, _CONTINUATION):
                kind = code if code != _CONTINUATION else kind
                parts.append(payload)
                if final:
                    message = b"".join(parts)
                    return message.decode("utf-8", errors="replace") if kind == _TEXT else message
            elif code != _PONG:
                raise WebSocketError(f"unknown frame {code}")

    def send_text(self, text: str) -> None:
        self._send(_TEXT, text.encode())

    def close(self) -> None:
        try:
            self._send(_CLOSE, struct.pack(">H", 1000))
        except OSError:
            pass
        self._socket.close()

    def _frame(self, deadline: float | None) -> tuple[bool, int, bytes]:
        # A frame is taken from the buffer only when it is complete, so a timeout in its midst loses nothing.
        while True:
            parsed = self._parse()
            if parsed is not None:
                return parsed
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as error:
                raise WebSocketError(str(error)) from error
            if not chunk:
                raise WebSocketError("the server closed the connection")
            self._pending += chunk

    def _parse(self) -> tuple[bool, int, bytes] | None:
        data = self._pending
        if len(data) < 2:
            return None
        size, start = data[1] & 0x7F, 2
        if data[1] & 0x80:
            raise WebSocketError("a server must not mask its frames")
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(data) < 2 + width:
                return None
            size, start = int.from_bytes(data[2:2 + width], "big"), 2 + width
        if size > MAX_MESSAGE_BYTES:
            raise WebSocketError(f"frame of {size} bytes")
        if len(data) < start + size:
            return None
        self._pending = data[start + size:]
        return bool(data[0] & 0x80), data[0] & 0x0F, data[start:start + size]

    def _send(self, code: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | code, 0x80 | size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | code, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | code, 0x80 | 127, size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.settimeout(20.0)
        self._socket.sendall(head + mask + masked)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
