"""The host's HTTP API: queue a prompt, follow it over the websocket, read what came of it."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .layout import REPO_ROOT

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the user has set for the network knows nothing of this machine's loopback."""

Event = tuple[str, dict[str, Any]]
"""A message of the host: its type and its data."""
ENDS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


def read_prompt(name: str, repo: Path = REPO_ROOT) -> dict[str, Any]:
    """A shipped workflow in the API form."""
    return json.loads((repo / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


class PromptRefused(RuntimeError):
    """The host did not accept a prompt; ``node_errors`` is its own account, by node id."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.node_errors: dict[str, Any] = answer.get("node_errors") or {}
        said = [str((answer.get("error") or {}).get("message", "refused"))]
        for node_id, account in self.node_errors.items():
            said += [
                f"node {node_id} ({account.get('class_type')}): {error.get('message')}: {error.get('details')}"
                for error in account.get("errors", [])
            ]
        super().__init__("\n".join(said))


@dataclass
class Outcome:
    """Outcome of one prompt."""

    prompt_id: str
    status: str  # success | error | interrupted
    outputs: dict[str, Any] = field(
        default_factory=dict
    )  # node id -> what the node gave to the interface
    ran: list[str] = field(default_factory=list)  # node ids, in the order of running
    cached: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None  # the host's execution_error data

    @property
    def error_text(self) -> str:
        if self.error is None:
            return ""
        return f"{self.error.get('node_type')}: {self.error.get('exception_message', 'interrupted')}".strip()


class WebSocket:
    """Messages of the host to one client, read in a thread; use as a context manager.

    A test's browser may have an event loop in the main thread.
    """

    def __init__(self, address: str, client_id: str) -> None:
        self.address = f"{address}/ws?clientId={client_id}"
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._reading = self._loop.create_task(self._read())

    def __enter__(self) -> WebSocket:
        threading.Thread(target=self._work, daemon=True).start()
        if self.receive(timeout=30) is None:  # the host's greeting: now it knows the client
            raise ConnectionError(f"no websocket at {self.address}")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # ended before
            self._loop.call_soon_threadsafe(self._reading.cancel)

    def receive(self, timeout: float) -> str | bytes | None:
        """The next message, or None where none came in time or the connection was lost."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def _work(self) -> None:
        with suppress(asyncio.CancelledError, aiohttp.ClientError, OSError):
            self._loop.run_until_complete(self._reading)
        self._loop.close()
        self._messages.put(None)

    async def _read(self) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self.address, max_msg_size=0) as socket,
        ):
            async for message in socket:
                self._messages.put(message.data)


class ApiClient:
    """Plain HTTP to one server."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def get(self, path: str, timeout: float = 60.0) -> Any:
        return json.loads(_read(self.address + path, timeout))

    def post(self, path: str, body: dict[str, Any], timeout: float = 60.0) -> Any:
        request = urllib.request.Request(
            self.address + path,
            json.dumps(body).encode("utf-8"),
            {"Content-Type": "application/json"},
        )
        text = _read(request, timeout)
        return json.loads(text) if text else None

    def is_up(self) -> bool:
        try:
            self.get("/system_stats", timeout=2.0)
        except (OSError, ValueError):
            return False
        return True

    def version(self) -> str:
        return str(self.get("/system_stats")["system"].get("comfyui_version", "unknown"))

    def object_info(self) -> dict[str, Any]:
        """Every node type that the server has, with its inputs."""
        return self.get("/object_info", timeout=120.0)

    def queue(self, prompt: dict[str, Any], client_id: str) -> str:
        """Queue an API prompt; its id.

        Raises:
            PromptRefused: the host found it invalid, or a part of it (the host would run the rest).
        """
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": client_id})
        except urllib.error.HTTPError as error:
            raise PromptRefused(json.loads(error.read().decode("utf-8"))) from None
        if answer.get("node_errors"):
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            self.interrupt(answer["prompt_id"])
            raise PromptRefused({"error": {"message": "a part of the graph is invalid"}, **answer})
        return answer["prompt_id"]

    def history(self, prompt_id: str) -> dict[str, Any]:
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def interrupt(self, prompt_id: str) -> None:
        self.post("/interrupt", {"prompt_id": prompt_id})

    def forget_results(self) -> None:
        """Unload models and drop cached results, so that the next prompt runs every node.

        The host's worker hears the wish when it waits for a prompt or has ended one, and says
        nothing of it: with a small prompt between, it has heard it before the next prompt begins.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        self.run(
            {
                "1": {
                    "class_type": "EmptyImage",
                    "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
                },
                "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
            },
            timeout=600,
        )

    def run(
        self,
        prompt: dict[str, Any],
        on_event: Callable[[Event], None] | None = None,
        timeout: float = 3600.0,
    ) -> Outcome:
        """Queue ``prompt`` and follow it to its end.

        ``on_event`` sees every message that belongs to it. In silence the history is asked: it has
        the end also where the connection was lost.

        Raises:
            PromptRefused, TimeoutError, ConnectionError (the server is gone).
        """
        client_id, deadline = uuid.uuid4().hex, time.monotonic() + timeout
        with WebSocket(self.address, client_id) as socket:
            outcome = Outcome(self.queue(prompt, client_id), "")
            while not outcome.status:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"prompt {outcome.prompt_id} did not end in {timeout:.0f} s")
                message = socket.receive(timeout=1.0)
                if message is None:
                    status = self.history(outcome.prompt_id).get("status", {})
                    for kind, data in status.get("messages", []):
                        _note(outcome, kind, data)
                elif isinstance(message, str):
                    parsed = json.loads(message)
                    kind, data = parsed.get("type", ""), parsed.get("data") or {}
                    if data.get("prompt_id", outcome.prompt_id) == outcome.prompt_id:
                        _note(outcome, kind, data)
                        if on_event is not None:
                            on_event((kind, data))
        # The last message is sent a moment before the history is written.
        while not (entry := self.history(outcome.prompt_id)) and time.monotonic() < deadline:
            time.sleep(0.02)
        outcome.outputs = entry.get("outputs", {})
        return outcome


def _read(request: str | urllib.request.Request, timeout: float) -> str:
    try:
        with _DIRECT.open(request, timeout=timeout) as answer:
            return answer.read().decode("utf-8")
    except urllib.error.HTTPError:
        raise  # it answered
    except urllib.error.URLError as error:
        raise ConnectionError(f"no answer from the server: {error.reason}") from error


def _note(outcome: Outcome, kind: str, data: dict[str, Any]) -> None:
    """Enter one message into ``outcome``."""
    if kind == "executing" and data.get("node") and data["node"] not in outcome.ran:
        outcome.ran.append(data["node"])
    elif kind == "execution_cached":
        outcome.cached = list(data.get("nodes", []))
    elif kind in ENDS:
        outcome.status = ENDS[kind]
        outcome.error = None if outcome.status == "success" else data
