"""The EgoX nodes: thin translations from host types to ``egox_core`` and back."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

NODES: tuple[type[io.ComfyNode], ...] = ()


class EgoXExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
