"""The pack imports the way the host imports it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor


def test_entrypoint_gives_the_extension(pack) -> None:
    # In a thread of its own: the browser tests' Playwright leaves an event loop running in the main one.
    with ThreadPoolExecutor(1) as pool:
        extension = pool.submit(lambda: asyncio.run(pack.comfy_entrypoint())).result()
        listed = pool.submit(lambda: asyncio.run(extension.get_node_list())).result()
    assert tuple(listed) == pack.nodes.extension.NODES


def test_pack_is_one_package(pack) -> None:
    assert pack.nodes.__name__ == "egox_pack.nodes"
    assert pack.egox_core.__name__ == "egox_pack.egox_core"
