"""The server started with another host's models beside its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tools.setup.base_dir import make_base_dir, share_models
from tools.setup.host import Host
from tools.setup.server import Server


def test_the_users_models_show_in_the_loaders(server: Server, tmp_path: Path) -> None:
    theirs = Host(tmp_path / "theirs", (0, 30, 0), "test", owned=False)
    for kind in ("vae", "diffusion_models"):
        (theirs.root / "models" / kind).mkdir(parents=True)
        (theirs.root / "models" / kind / "of_the_user.safetensors").write_bytes(b"")
    base = make_base_dir(tmp_path / "base", server.environment.layout)
    second = Server(replace(server.environment), base, tmp_path / "log.txt", arguments=share_models(theirs, base))
    with second:
        info = second.client.object_info()
    assert "of_the_user.safetensors" in info["VAELoader"]["input"]["required"]["vae_name"][0]
    assert "of_the_user.safetensors" in info["UNETLoader"]["input"]["required"]["unet_name"][0]
    assert not second.is_running()
