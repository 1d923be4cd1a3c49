"""Tell ComfyUI's own code from the code of other node packs.

ComfyUI names the module of an extra node by its path, as it does for packs, so only the file of
the code says whose it is."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import folder_paths

HOST_FOLDER = Path(folder_paths.__file__).resolve().parent
PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})
"""Folders of pip packages, which may lie in a virtual environment under ComfyUI's folder."""


class CodeSource(NamedTuple):
    """Name a module and the file that its code is in, which is None if there is none."""

    module: str
    file: str | None

    @property
    def is_hosts_own(self) -> bool:
        """Check whether ComfyUI or torch wrote the code."""
        if self.module.split(".")[0] == "torch":
            return True
        pack_folders = tuple(folder_paths.get_folder_paths("custom_nodes"))
        return self.file is not None and _is_hosts_file(self.file, pack_folders)


@lru_cache(maxsize=1024)
def _is_hosts_file(file: str, pack_folders: tuple[str, ...]) -> bool:
    """Check whether a file is ComfyUI's own, links resolved.

    A pack's folder may be a link to anywhere, and the folder of packs another one, so a file is
    a pack's if either form of its path lies there.
    """
    stated_file, real_file = Path(file).absolute(), Path(file).resolve()
    if not real_file.is_relative_to(HOST_FOLDER) or PACKAGE_FOLDERS & {*real_file.parts}:
        return False
    return not any(
        path.is_relative_to(folder)
        for path in (stated_file, real_file)
        for pack_folder in map(Path, pack_folders)
        for folder in (pack_folder.absolute(), pack_folder.resolve())
    )


def list_sources(code: Any) -> list[CodeSource]:
    """List the module that code states, and the module that it was written in.

    They differ behind ``functools.wraps`` and ``torch.compile``.
    """
    while isinstance(code, partial):
        code = code.func
    function = getattr(code, "__func__", code)  # of a bound method
    stated_module = getattr(code, "__module__", None)
    sources = [_module_source(stated_module)] if stated_module else []
    if isinstance(function, FunctionType):
        module = function.__globals__.get("__name__", "")
        sources.append(CodeSource(module, function.__code__.co_filename))
    elif not isinstance(function, (type, BuiltinFunctionType)):
        sources.append(_module_source(type(code).__module__))
    return sources or [_module_source(type(code).__module__)]


def _module_source(module: str) -> CodeSource:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # no module has this name, or it has no file
        spec = None
    return CodeSource(module, None if spec is None else spec.origin)


def is_hosts_own(code: Any) -> bool:
    """Check whether a function or an object's class is ComfyUI's own or torch's."""
    return all(source.is_hosts_own for source in list_sources(code))


def module_of(code: Any) -> str:
    """Name the module of a function or of an object's class, another pack's first."""
    return min(list_sources(code), key=lambda source: source.is_hosts_own).module


def name_code(code: Any) -> str:
    """Name code for people, without the path by which ComfyUI names a module."""
    short_name = re.split(r"[\\/]", module_of(code))[-1]
    return f"ComfyUI's {short_name}" if is_hosts_own(code) else short_name
