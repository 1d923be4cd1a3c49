"""The pack imports the way the host imports it."""

from __future__ import annotations

import asyncio


def test_entrypoint_gives_the_extension(pack) -> None:
    extension = asyncio.run(pack.comfy_entrypoint())
    listed = asyncio.run(extension.get_node_list())
    assert tuple(listed) == pack.nodes.NODES


def test_pack_is_one_package(pack) -> None:
    assert pack.nodes.__name__ == "egox_pack.nodes"
    assert pack.egox_core.__name__ == "egox_pack.egox_core"
