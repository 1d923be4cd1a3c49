"""The websocket client against a plain socket that speaks the other side."""

from __future__ import annotations

import base64
import hashlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from tools.setup.websocket import WebSocket, WebSocketError


def frame(code: int, payload: bytes, final: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if final else 0) | code])
    if size < 126:
        return head + bytes([size]) + payload
    if size < 65536:
        return head + b"\x7e" + struct.pack(">H", size) + payload
    return head + b"\x7f" + struct.pack(">Q", size) + payload


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    head = connection.recv(2)
    size = head[1] & 0x7F
    assert head[1] & 0x80, "a client must mask"
    if size == 126:
        size = struct.unpack(">H", connection.recv(2))[0]
    mask = connection.recv(4)
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return head[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


@pytest.fixture
def serve():
    """``serve(talk)``: address of a one-shot websocket server that shakes hands, then calls ``talk(connection)``."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []
    errors: list[BaseException] = []

    def start(talk: Callable[[socket.socket], None], accept: str | None = None) -> str:
        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                lines = request.split(b"\r\n")
                key = next(line.split(b": ")[1] for line in lines if line.startswith(b"Sec-WebSocket-Key"))
                digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
                answer = accept or base64.b64encode(digest).decode()
                # The first frame may come in one packet with the handshake.
                head = f"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {answer}\r\n\r\n"
                connection.sendall(head.encode())
                try:
                    talk(connection)
                except BaseException as error:
                    errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        threads.append(thread)
        return f"ws://127.0.0.1:{listener.getsockname()[1]}/ws?clientId=x"

    yield start
    for thread in threads:
        thread.join(timeout=10)
    listener.close()
    assert not errors, errors


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_messages_of_every_length_form(serve, size: int) -> None:
    with WebSocket(serve(lambda c: c.sendall(frame(1, b"a" * size) + frame(2, b"\x00" * size)))) as client:
        assert client.receive(timeout=10) == "a" * size
        assert client.receive(timeout=10) == b"\x00" * size


def test_fragments_are_joined_with_a_ping_between(serve) -> None:
    answered = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(frame(1, b"one ", final=False) + frame(9, b"alive?") + frame(0, b"message"))
        answered.append(read_frame(connection))

    with WebSocket(serve(talk)) as client:
        assert client.receive(timeout=10) == "one message"
        for _ in range(200):  # the answer is on its way to the other thread
            if answered:
                break
            time.sleep(0.05)
    assert answered == [(0xA, b"alive?")]


def test_a_timeout_amid_a_frame_loses_nothing(serve) -> None:
    go = threading.Event()

    def talk(connection: socket.socket) -> None:
        whole = frame(1, b"x" * 1000)
        connection.sendall(whole[:500])
        go.wait(10)
        connection.sendall(whole[500:])

    with WebSocket(serve(talk)) as client:
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.2)
        go.set()
        assert client.receive(timeout=10) == "x" * 1000


def test_close_is_answered_and_ends(serve) -> None:
    answers: queue.Queue = queue.Queue()

    def talk(connection: socket.socket) -> None:
        connection.sendall(frame(8, struct.pack(">H", 1000)))
        answers.put(read_frame(connection))

    with WebSocket(serve(talk)) as client:
        assert client.receive(timeout=10) is None
    assert answers.get(timeout=10)[0] == 8  # the server's thread may read it after the client has gone


def test_what_is_sent_is_masked_and_whole(serve) -> None:
    got = []
    with WebSocket(serve(lambda c: (got.append(read_frame(c)), c.sendall(frame(1, b"ok"))))) as client:
        client.send_text("grüße" * 50)
        assert client.receive(timeout=10) == "ok"
    assert got[0] == (1, ("grüße" * 50).encode())


def test_a_wrong_handshake_is_refused(serve) -> None:
    with pytest.raises(WebSocketError, match="not a websocket"):
        WebSocket(serve(lambda c: None, accept="nonsense"))


def test_a_lost_connection_is_told(serve) -> None:
    client = WebSocket(serve(lambda c: None))
    with pytest.raises(WebSocketError):
        client.receive(timeout=10)


def test_nobody_listening() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(WebSocketError, match="can't connect"):
        WebSocket(f"ws://127.0.0.1:{port}/ws", timeout=5)
