"""Import ComfyUI and the pack into this process, for tests and benchmarks."""

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.setup.host import Host, find_host
from tools.setup.layout import REPO_ROOT

HOST_FOLDERS = ("input", "output", "temp", "models", "custom_nodes", "user")


def import_host(root: Path, base: Path, **options: Any) -> None:
    """Import ComfyUI from its folder, with its own folders below ``base``.

    This must come before any other import of ComfyUI, which reads its command line then, and
    must be told if there is no GPU. ``options`` are further command-line options
    (``reserve_vram=2.0``)."""
    import torch

    # The repository root is on the path too and has a folder ``nodes``; the host's nodes.py must
    # win.
    sys.path.insert(0, str(root))
    from comfy.cli_args import args

    for name in HOST_FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    args.cpu = not torch.cuda.is_available()
    args.base_directory = str(base)
    for name, value in options.items():
        if not hasattr(args, name):
            raise AttributeError(f"the host has no command-line option {name}")
        setattr(args, name, value)
    importlib.import_module("folder_paths")
    host_nodes = importlib.import_module("nodes")
    if Path(host_nodes.__file__).name != "nodes.py":
        raise ImportError("the pack's folder `nodes` was imported before the host's nodes.py")


def load_root(name: str) -> ModuleType:
    """Import the repository as a package, as ComfyUI does."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, REPO_ROOT / "__init__.py", submodule_search_locations=[str(REPO_ROOT)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def load_pack(name: str = "egox_pack") -> ModuleType:
    """Load the pack and its nodes."""
    pack_module = load_root(name)
    importlib.import_module(f"{name}.nodes.extension")
    importlib.import_module(f"{name}.egox_core")
    return pack_module


@contextmanager
def pack_on_host(command: str, **options: Any) -> Iterator[tuple[Host, ModuleType]]:
    """Load the installed ComfyUI and the pack into this process, with temporary folders.

    ``command`` is the command of ``run.py`` for the error message, and ``options`` are those of
    :func:`import_host`.

    Raises:
        SystemExit: there is no host.
    """
    host = find_host()
    if host is None:
        sys.exit(f"needs ComfyUI: run it as `python3 run.py {command}`, or set COMFYUI_DIR")
    with tempfile.TemporaryDirectory() as base:
        import_host(host.root, Path(base), **options)
        yield host, load_pack()
