"""The nodes' schemas as plain data, for the tools that write what is said about them outside of
Python."""

from types import ModuleType
from typing import Any

from egox_core.frozen import frozen
from tools.rigs.pack_in_process import pack_on_host


@frozen
class Slot:
    """One input or output as the front end knows it: outputs are distinguished by their place, not
    by an id."""

    id: str
    label: str
    tooltip: str


@frozen
class NodeSchema:
    """Texts of a node about itself."""

    id: str
    display_name: str
    description: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]


def node_schemas(pack: ModuleType) -> list[NodeSchema]:
    """All nodes of the imported pack, in the order in which it lists them."""
    return [_node_schema(node.GET_SCHEMA()) for node in pack.nodes.extension.NODES]


def pack_schemas() -> list[NodeSchema]:
    """As :func:`node_schemas`, with the host and the pack imported into this process.

    Raises:
        SystemExit: there is no host to import, or a node that can't be.
    """
    with pack_on_host("make texts") as (_, pack):
        schemas, listed = node_schemas(pack), pack.nodes.extension.NODE_FILES.values()
        if lost := sum(map(len, listed)) - len(schemas):
            raise SystemExit(f"{lost} nodes can't be imported (see above): their texts would go")
        return schemas


def _node_schema(schema: Any) -> NodeSchema:
    inputs = (part for declared in schema.inputs for part in declared.get_all())
    return NodeSchema(
        id=schema.node_id,
        display_name=schema.display_name,
        description=schema.description,
        inputs=tuple(
            Slot(
                id=entry.id,
                label=entry.as_dict().get("display_name") or entry.id,
                tooltip=entry.tooltip or "",
            )
            for entry in inputs
        ),
        outputs=tuple(
            Slot(
                id=out.display_name or out.id,
                label=out.display_name or out.id,
                tooltip=out.tooltip or "",
            )
            for out in schema.outputs
        ),
    )
