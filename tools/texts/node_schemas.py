"""The nodes' own schemas, for the tools that write what is said about them outside of Python."""

from typing import Any

from tools.rigs.pack_in_process import pack_on_host


def pack_schemas() -> list[Any]:
    """List all nodes' schemas (the host's type) in the order in which the pack lists them, with the
    host and the pack imported into this process.

    Raises:
        SystemExit: there is no host to import, or a node that can't be.
    """
    with pack_on_host("make texts") as (_, pack):
        extension = pack.nodes.extension
        if lost := sum(map(len, extension.NODE_FILES.values())) - len(extension.NODES):
            raise SystemExit(f"{lost} nodes can't be imported (see above): their texts would go")
        return [node.GET_SCHEMA() for node in extension.NODES]
