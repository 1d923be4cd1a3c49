"""The pack imports the way the host imports it."""

from __future__ import annotations


def test_entrypoint_gives_the_extension(pack, awaited) -> None:
    listed = awaited(awaited(pack.comfy_entrypoint()).get_node_list())
    assert tuple(listed) == pack.nodes.extension.NODES


def test_pack_is_one_package(pack) -> None:
    assert pack.nodes.__name__ == "egox_pack.nodes"
    assert pack.egox_core.__name__ == "egox_pack.egox_core"
