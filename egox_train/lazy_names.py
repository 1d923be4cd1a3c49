"""Import a package's names when they are asked for.

A command line is checked before torch and its friends are imported, which takes seconds."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str,
    # Names by the module of the package that defines them.
    names: Mapping[str, tuple[str, ...]],
) -> Callable[[str], Any]:
    """Make the ``__getattr__`` (PEP 562) of a package that imports its names lazily."""
    modules = {name: module for module, defined in names.items() for name in defined}

    def get_name(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get_name
