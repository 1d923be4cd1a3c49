"""Test that the test server runs with this pack."""

import pytest

from tools.setup.base_dir import make_base_dir
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


@pytest.mark.slow
def test_without_opencv_the_pack_starts_and_says_how_to_get_it(environment, tmp_path):
    """Check the log's line and the page's script where ``import cv2`` fails."""
    blocked_folder = tmp_path / "blocked"
    blocked_folder.mkdir()
    (blocked_folder / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')", "utf-8")
    base = make_base_dir(tmp_path / "base", environment.layout)
    variables = {"PYTHONPATH": str(blocked_folder)}
    with Server(environment, base, tmp_path / "log.txt", variables=variables) as running_server:
        client = running_server.client
        assert not [name for name in client.object_info() if name.startswith("EgoX")]
        (script,) = [name for name in client.get("/extensions") if "egox" in name]
        assert script.endswith("/no_opencv.js")
        text = client.get("/egox/opencv")["text"]
    lines = [line for line in running_server.log.read_text("utf-8").splitlines() if "EgoX" in line]
    assert len(lines) == 1 and lines[0].endswith(f"[EgoX] {text}")
    install_file = environment.layout.repo / "install.py"
    assert "libGL.so.1 is missing" in text
    assert f'"{environment.python}" "{install_file}"' in text
