"""Test that the test server runs with this pack."""

import pytest

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


def test_a_busy_port_is_refused(server):
    with pytest.raises(SetupError, match=f"Port {server.port} can't be used"):
        check_port(server.port)


def test_a_server_that_cannot_start_says_why(server, tmp_path):
    failing_server = Server(
        server.environment, server.base, tmp_path / "log.txt", arguments=("--no-such-option",)
    )
    with pytest.raises(SetupError, match="(?s)ended while starting.*no-such-option"):
        failing_server.start()
    assert not failing_server.is_running()
