"""Send HTTP requests to the pack's routes."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tools.setup.api_client import ApiClient

DIRECT_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body or b"null")  # the host refuses some by itself, without a word


def request(client: ApiClient, path: str, data: bytes | None = None, **headers: str) -> Answer:
    """Send an HTTP request to one of the pack's routes."""
    all_headers = {"Origin": client.address} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    http_request = urllib.request.Request(
        f"{client.address}{path}", data, {k: v for k, v in all_headers.items() if v}
    )
    try:
        with DIRECT_OPENER.open(http_request, timeout=120) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), dict(error.headers))


def multipart(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """Build the arguments of a multipart request from headers and contents."""
    body = b"".join(
        b"--B\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), content)
        for head, content in parts
    )
    return {"data": body + b"--B--\r\n", "Content_Type": "multipart/form-data; boundary=B"}


class Page:
    """Record the texts and messages that nodes send to a page."""

    client_id = "page"

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.sent_messages: list[tuple] = []

    def attach_node(self, monkeypatch, node: type, *modules: object) -> None:
        """Run a node class as node 7 of a graph whose messages go to this page."""
        hidden = type("Hidden", (), {"unique_id": "7", "prompt": {}})
        monkeypatch.setattr(node, "hidden", hidden, raising=False)
        for module in modules:
            monkeypatch.setattr(module, "running_server", lambda: self)

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.texts.append((node_id, text))

    def send_sync(self, event: str, data: dict, sid: str) -> None:
        self.sent_messages.append((event, data, sid))
