"""Load the schemas of all nodes."""

from typing import Any

from tools.rigs.pack_in_process import pack_on_host


def pack_schemas() -> list[Any]:
    """Load ComfyUI and the pack, and list the schemas of all nodes.

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
