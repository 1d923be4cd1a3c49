"""The harness itself: the real server, the pack in it, its API and its websocket."""

import http.server
import threading

import pytest

from tools.setup.api_client import ApiClient, PromptRefused
from tools.setup.base_dir import BaseDir
from tools.setup.host import MINIMUM_VERSION, find_host
from tools.setup.layout import SetupError
from tools.setup.server import Server, check_port


def test_the_server_is_the_real_one(client):
    host = find_host()
    assert client.version() == host.version_text
    assert tuple(int(part) for part in client.version().split(".")) >= MINIMUM_VERSION


def image(width: int, color: int = 0) -> dict:
    values = {"width": width, "height": 64, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": values}


def shown(node: str) -> dict:
    return {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}


def test_a_refused_prompt_says_which_node(client):
    with pytest.raises(PromptRefused, match=r"(?s)node 1 \(EmptyImage\).*width"):
        client.run({"1": image(-5), "2": shown("1")})


def test_a_prompt_that_is_valid_in_part_only_is_refused(client):
    """The host would run the valid outputs and drop the others without a word in the result."""
    valid = {"1": image(64), "2": shown("1")}
    with pytest.raises(PromptRefused, match=r"(?s)a part of the graph.*node 3 \(EmptyImage\)"):
        client.run(valid | {"3": image(-5), "4": shown("3")})
    assert client.run(valid).status == "success"


def test_a_busy_port_is_refused(server):
    with pytest.raises(SetupError, match=f"Port {server.port} can't be used"):
        check_port(server.port)


def test_the_loser_of_a_port_does_not_take_the_winners_server(server, tmp_path):
    """Both found it free. A host that can't have its port ends later than the other one answers."""
    loser = Server(server.environment, BaseDir(tmp_path / "base"), tmp_path / "log.txt")
    loser.port, loser.client = server.port, server.client
    with pytest.raises(SetupError, match=f"Port {server.port} was taken by another server"):
        loser.start()
    assert not loser.is_running() and server.client.is_up()


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"system": {"argv": null}}'])
def test_another_programs_server_has_no_command_line(answer):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        assert ApiClient(f"http://127.0.0.1:{page.server_port}").arguments() == []
        page.shutdown()


def test_a_server_that_cannot_start_says_why(server, tmp_path):
    broken = Server(
        server.environment, server.base, tmp_path / "log.txt", arguments=("--no-such-option",)
    )
    with pytest.raises(SetupError, match="(?s)ended while starting.*no-such-option"):
        broken.start()
    assert not broken.is_running()
