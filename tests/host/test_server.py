"""The harness itself: the real server, the pack in it, its API and its websocket."""

from __future__ import annotations

import pytest

from tools.setup.api_client import PromptRefused, WebSocket
from tools.setup.base_dir import make_base_dir, share_models
from tools.setup.host import MINIMUM_VERSION, Host, find_host
from tools.setup.layout import SetupError
from tools.setup.server import Server, check_port

from .prompts import ran


def test_the_server_is_the_real_one(client):
    host = find_host()
    assert client.version() == host.version_text
    assert tuple(int(part) for part in client.version().split(".")) >= MINIMUM_VERSION


def test_the_pack_was_imported_without_complaint(server):
    log = server.log.read_text(encoding="utf-8")
    assert "comfyui-egox" in log and "egox_standin_nodes" in log
    assert "IMPORT FAILED" not in log


def test_standin_loaders_run(client):
    prompt = {
        "1": {
            "class_type": "EgoXTestsLoadTextEncoder",
            "inputs": {"clip_name": "egox_standin_umt5.safetensors"},
        },
        "2": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["1", 0], "text": "a person pours tea"},
        },
        "3": {
            "class_type": "EgoXTestsLoadClipVision",
            "inputs": {"clip_name": "egox_standin_clip_vision.safetensors"},
        },
        "4": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
        },
        "5": {
            "class_type": "CLIPVisionEncode",
            "inputs": {"clip_vision": ["3", 0], "image": ["4", 0], "crop": "none"},
        },
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}},
    }
    events: list[str] = []
    client.forget_results()  # other tests load the same files
    outcome = ran(client, prompt, lambda event: events.append(event[0]))
    assert set(outcome.ran) == set(prompt)
    assert "execution_success" in events and "progress_state" in events
    assert set(outcome.outputs) == {"6", "7"}


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


@pytest.mark.parametrize("heard", [0, 1, 3])
def test_a_lost_websocket_loses_no_result(client, monkeypatch, heard):
    received, calls = WebSocket.receive, []

    def lost(self, timeout):
        calls.append(timeout)
        return (
            received(self, timeout) if len(calls) <= heard + 1 else None
        )  # the first is the greeting

    monkeypatch.setattr(WebSocket, "receive", lost)
    outcome = client.run(simple_prompt(1000 + heard), timeout=60)
    assert outcome.status == "success" and set(outcome.outputs) == {"2"}


def test_another_hosts_models_show_and_a_server_that_dies_is_noticed(server, tmp_path):
    """One start for both."""
    theirs = Host(tmp_path / "theirs", (0, 30, 0), "test", owned=False)
    for kind in ("vae", "diffusion_models"):
        (theirs.root / "models" / kind).mkdir(parents=True)
        (theirs.root / "models" / kind / "of_the_user.safetensors").write_bytes(b"")
    base = make_base_dir(tmp_path / "base", server.environment.layout)
    with Server(
        server.environment, base, tmp_path / "log.txt", arguments=share_models(theirs, base)
    ) as second:
        info = second.client.object_info()
        assert "of_the_user.safetensors" in info["VAELoader"]["input"]["required"]["vae_name"][0]
        assert "of_the_user.safetensors" in info["UNETLoader"]["input"]["required"]["unet_name"][0]
        killed = []

        def kill(event) -> None:
            if not killed:
                killed.append(second.process.pid)
                second.process.kill()

        with pytest.raises(ConnectionError):
            second.client.run(simple_prompt(7), kill, timeout=60)
        assert killed
    assert not second.is_running()
