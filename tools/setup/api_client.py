"""Call ComfyUI's HTTP API to queue prompts and read their outputs."""

import asyncio
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from .layout import REPO_ROOT

# A proxy that the user has set for the network knows nothing of this machine's loopback.
DIRECT_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# A message of ComfyUI: its type and its data ("binary" with bytes).
Event = tuple[str, dict[str, Any]]
END_STATUS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


def prompt_file(name: str, repo: Path = REPO_ROOT) -> Path:
    """Return the path of a shipped workflow's API form."""
    return repo / "workflows" / "api" / f"{name}.json"


def read_prompt(name: str, repo: Path = REPO_ROOT) -> dict[str, Any]:
    """Read a shipped workflow in the API form."""
    return json.loads(prompt_file(name, repo).read_text("utf-8"))


class PromptRefused(RuntimeError):
    """Error that ComfyUI did not accept a prompt, with ComfyUI's messages and whole answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        error_lines = [
            str((answer.get("error") or {}).get("message", "a part of the graph is invalid"))
        ]
        for node_id, account in (answer.get("node_errors") or {}).items():
            error_lines += [
                (
                    f"node {node_id} ({account.get('class_type')}): {error.get('message')}: "
                    f"{error.get('details')}"
                )
                for error in account.get("errors", [])
            ]
        super().__init__("\n".join(error_lines))


@dataclass(frozen=True)
class Outcome:
    """Hold the status, outputs and executed nodes of one prompt."""

    status: str  # success | error | interrupted
    outputs: dict[str, Any]  # node id -> what the node gave to the interface
    executed_nodes: list[str]  # node ids, in the order of running
    error: dict[str, Any]  # the host's data of the end

    @property
    def error_text(self) -> str:
        message = self.error.get("exception_message", "interrupted")
        return f"{self.error.get('node_type')}: {message}"


class ApiClient:
    """Send HTTP requests to one server."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def get(self, path: str, timeout: float = 60.0) -> Any:
        return self._request(self.address + path, timeout)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        return self._request(
            urllib.request.Request(self.address + path, json.dumps(body).encode(), headers), 60.0
        )

    def _request(self, request: str | urllib.request.Request, timeout: float) -> Any:
        try:
            with DIRECT_OPENER.open(request, timeout=timeout) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError:
            raise  # it answered
        except (urllib.error.URLError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            raise ConnectionError(f"no answer from the server: {reason}") from error

    def is_up(self) -> bool:
        try:
            self.get("/system_stats", timeout=2.0)
        except (OSError, ValueError):
            return False
        return True

    def arguments(self) -> list[str]:
        """Read the command line with which the server was started."""
        answer = self.get("/system_stats")
        system_info = answer.get("system") if isinstance(answer, dict) else None
        server_arguments = system_info.get("argv") if isinstance(system_info, dict) else None
        return (
            [str(word) for word in server_arguments] if isinstance(server_arguments, list) else []
        )

    def version(self) -> str:
        return str(self.get("/system_stats")["system"].get("comfyui_version", "unknown"))

    def object_info(self) -> dict[str, Any]:
        """Read every node type of the server, with its inputs."""
        return self.get("/object_info", timeout=120.0)

    def queue(self, prompt: dict[str, Any], client_id: str) -> str:
        """Queue an API prompt, and return its id.

        Raises:
            PromptRefused: the host found it invalid, or a part of it (the host would run the rest).
        """
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": client_id})
        except urllib.error.HTTPError as error:
            raise PromptRefused(json.loads(error.read())) from None
        if answer.get("node_errors"):
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            self.interrupt(answer["prompt_id"])
            raise PromptRefused(answer)
        return answer["prompt_id"]

    def interrupt(self, prompt_id: str) -> None:
        self.post("/interrupt", {"prompt_id": prompt_id})

    def run(
        self,
        prompt: dict[str, Any],
        on_event: Callable[[Event], None] = lambda event: None,
        timeout: float = 3600.0,
    ) -> Outcome:
        """Queue a prompt and wait for its end.

        ``on_event`` gets, in a thread, every message that belongs to it.

        Raises:
            PromptRefused, TimeoutError, ConnectionError (the server is gone).
        """
        # In a thread, since a browser's test has an event loop in the main one.
        pool = ThreadPoolExecutor(1)
        try:
            outcome_task = asyncio.wait_for(self._follow(prompt, on_event), timeout)
            future = pool.submit(asyncio.run, outcome_task)
            # Windows hears Ctrl-C only between two waits.
            while not wait([future], timeout=1.0).done:
                pass
            return future.result()
        except asyncio.TimeoutError:  # no TimeoutError before Python 3.11
            raise TimeoutError(f"the prompt did not end in {timeout:.0f} s") from None
        except aiohttp.ClientError as error:
            raise ConnectionError(f"no answer from the server: {error}") from error
        finally:
            pool.shutdown(wait=False)

    async def _follow(self, prompt: dict[str, Any], on_event: Callable[[Event], None]) -> Outcome:
        client_id = uuid.uuid4().hex
        executed_nodes = []
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.address}/ws?clientId={client_id}", max_msg_size=0) as socket,
        ):
            await socket.receive()  # the host's greeting: now it knows the client
            prompt_id = self.queue(prompt, client_id)
            async for message in socket:
                event_type = "binary"
                data = {"bytes": message.data}
                if isinstance(message.data, str):
                    event = json.loads(message.data)
                    event_type = event.get("type", "")
                    data = event.get("data") or {}
                if data.get("prompt_id", prompt_id) != prompt_id:
                    continue
                if event_type == "executing" and data.get("node") not in (None, *executed_nodes):
                    executed_nodes.append(data["node"])
                on_event((event_type, data))
                if event_type in END_STATUS:
                    break
        # The last message comes a moment before the history has it; a lost connection ends here
        # too.
        while not (history_entry := self.get(f"/history/{prompt_id}").get(prompt_id)):
            await asyncio.sleep(0.05)
        messages = history_entry["status"]["messages"]
        ((status, error),) = [
            (END_STATUS[event_type], data)
            for event_type, data in messages
            if event_type in END_STATUS
        ]
        return Outcome(status, history_entry["outputs"], executed_nodes, error)
