"""Load ComfyUI's extra nodes as its server does: by path, which becomes the module's name."""

import asyncio
import sys
from pathlib import Path
from types import ModuleType


def load_by_path(file: Path) -> ModuleType:
    """Load a file or folder of nodes into this process with ComfyUI's own loader."""
    import nodes as host_nodes

    module_name = (
        str(file).replace(".", "_x_") if file.is_dir() else str(file.with_suffix(""))
    )  # as the loader names it
    if module_name not in sys.modules:
        assert asyncio.run(host_nodes.load_custom_node(str(file), module_parent=file.parent.name))
    return sys.modules[module_name]


def extra_nodes(name: str) -> ModuleType:
    """Load one of ComfyUI's files of extra nodes."""
    import nodes as host_nodes

    return load_by_path(Path(host_nodes.__file__).resolve().parent / "comfy_extras" / f"{name}.py")
