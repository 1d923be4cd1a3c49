"""Test that the test server runs with this pack."""

import http.server
import threading

import pytest

from tools.setup.api_client import ApiClient, PromptRefused
from tools.setup.base_dir import BaseDir
from tools.setup.host import MINIMUM_VERSION, find_host
from tools.setup.layout import SetupError
from tools.setup.server import Server, check_port


def test_the_server_is_the_installed_comfyui(client):
    host = find_host()
    assert client.version() == host.version_text
    assert tuple(int(part) for part in client.version().split(".")) >= MINIMUM_VERSION


def image_node(width: int, color: int = 0) -> dict:
    values = {"width": width, "height": 64, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": values}


def preview_node(node_id: str) -> dict:
    return {"class_type": "PreviewImage", "inputs": {"images": [node_id, 0]}}


def test_a_refused_prompt_names_the_node(client):
    with pytest.raises(PromptRefused, match=r"(?s)node 1 \(EmptyImage\).*width"):
        client.run({"1": image_node(-5), "2": preview_node("1")})


def test_a_partly_valid_prompt_is_refused(client):
    """Check that the test client refuses a prompt with an invalid part."""
    valid_prompt = {"1": image_node(64), "2": preview_node("1")}
    with pytest.raises(PromptRefused, match=r"(?s)a part of the graph.*node 3 \(EmptyImage\)"):
        client.run(valid_prompt | {"3": image_node(-5), "4": preview_node("3")})
    assert client.run(valid_prompt).status == "success"


def test_a_busy_port_is_refused(server):
    with pytest.raises(SetupError, match=f"Port {server.port} can't be used"):
        check_port(server.port)


def test_a_server_whose_port_is_taken_meanwhile_is_refused(server, tmp_path):
    """Check the error of a server whose port is already in use."""
    second_server = Server(server.environment, BaseDir(tmp_path / "base"), tmp_path / "log.txt")
    second_server.port, second_server.client = server.port, server.client
    with pytest.raises(SetupError, match=f"Port {server.port} was taken by another server"):
        second_server.start()
    assert not second_server.is_running()
    assert server.client.is_up()


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"system": {"argv": null}}'])
def test_another_programs_server_has_no_command_line(answer):
    class OtherProgram(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherProgram) as other_server:
        threading.Thread(target=other_server.serve_forever, daemon=True).start()
        assert ApiClient(f"http://127.0.0.1:{other_server.server_port}").arguments() == []
        other_server.shutdown()


def test_a_server_that_cannot_start_says_why(server, tmp_path):
    failing_server = Server(
        server.environment, server.base, tmp_path / "log.txt", arguments=("--no-such-option",)
    )
    with pytest.raises(SetupError, match="(?s)ended while starting.*no-such-option"):
        failing_server.start()
    assert not failing_server.is_running()
