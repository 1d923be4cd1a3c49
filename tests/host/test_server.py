"""The harness itself: the real server, the pack in it, its API and its websocket."""

import pytest

from tools.setup.api_client import PromptRefused
from tools.setup.host import MINIMUM_VERSION, find_host
from tools.setup.layout import SetupError
from tools.setup.server import Server, check_port


def test_the_server_is_the_real_one(client):
    host = find_host()
    assert client.version() == host.version_text
    assert tuple(int(part) for part in client.version().split(".")) >= MINIMUM_VERSION


def test_a_refused_prompt_says_which_node(client):
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": -5, "height": 64, "batch_size": 1, "color": 0},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(PromptRefused, match=r"(?s)node 1 \(EmptyImage\).*width"):
        client.run(prompt)


def test_a_prompt_that_is_valid_in_part_only_is_refused(client):
    """The host would run the valid outputs and drop the others without a word in the result."""
    image = {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
    }
    prompt = {
        "1": image,
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "EmptyImage", "inputs": {**image["inputs"], "width": -5}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    with pytest.raises(PromptRefused, match=r"(?s)a part of the graph.*node 3 \(EmptyImage\)"):
        client.run(prompt)
    assert client.run({"1": image, "2": prompt["2"]}).status == "success"


def test_a_busy_port_is_refused(server):
    with pytest.raises(SetupError, match=f"Port {server.port} can't be used"):
        check_port(server.port)


def test_a_server_that_cannot_start_says_why(server, tmp_path):
    broken = Server(
        server.environment, server.base, tmp_path / "log.txt", arguments=("--no-such-option",)
    )
    with pytest.raises(SetupError, match="(?s)ended while starting.*no-such-option"):
        broken.start()
    assert not broken.is_running()


def simple_prompt(seed: int) -> dict:
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": seed},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
