"""Load the nodes' schemas for the tools that write their texts to other files."""

from typing import Any

from tools.rigs.pack_in_process import pack_on_host


def pack_schemas() -> list[Any]:
    """List the schemas of all nodes in the pack's order, with ComfyUI and the pack imported into
    this process.

    Raises:
        SystemExit: there is no host to import, or a node that can't be.
    """
    with pack_on_host("make texts") as (_, pack):
        extension = pack.nodes.extension
        if lost_count := sum(map(len, extension.NODE_FILES.values())) - len(extension.NODES):
            raise SystemExit(
                f"{lost_count} nodes can't be imported (see above): their texts would go"
            )
        return [node.GET_SCHEMA() for node in extension.NODES]
