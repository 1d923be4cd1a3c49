"""Opens a folder that transformers saved a model into; four users, one way of failing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import EgoXInputError


def open_model_folder(folder: Path, *class_names: str, what: str, expected: str, where: str,
                      instead: str = "", **options: Any) -> tuple[Any, ...]:
    """One object of each transformers class, read from ``folder`` alone: nothing is fetched.

    Args:
        class_names: of transformers; all read the same folder.
        what: names the model in errors.
        expected: the kind of folder.
        where: where such a folder comes from.
        instead: what to do without transformers, appended to the advice to install it.
        options: for ``from_pretrained`` of the last class, the model.

    Raises:
        EgoXInputError: transformers missing, no configuration or weights there, files of another model.
    """
    try:
        import transformers

        classes = [getattr(transformers, name) for name in class_names]
    except (ImportError, AttributeError) as error:
        raise EgoXInputError(what, got="transformers is not installed, or too old", expected="the train extra",
                             fix=f"pip install --upgrade transformers{instead}") from error
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise EgoXInputError(what, got=f"{folder.name!r} without config.json or .safetensors", expected=expected,
                             fix=where)
    try:
        *others, last = classes
        return (*(c.from_pretrained(folder, local_files_only=True) for c in others),
                last.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options).eval())
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise EgoXInputError(f"{what} {folder.name}", got=str(error).splitlines()[0], expected=expected,
                             fix=where) from error
