"""Doors of the rooms: an ``__init__`` lists its names for type checkers; each is imported when asked for."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def door(room: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a room whose ``if TYPE_CHECKING`` says ``from .module import name``."""
    homes = {
        alias.name: f".{node.module}"
        for node in ast.walk(ast.parse(Path(file).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(import_module(homes[name], room), name)

    return get, lambda: sorted(homes)
