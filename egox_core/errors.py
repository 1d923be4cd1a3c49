"""Define EgoXInputError, which tells a user what was given, what is expected, and how to fix it."""

import re
import sys
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

MAX_SHOWN = 1000
"""Characters of a value that a message shows."""
NO_NUMBERS = (OverflowError, RuntimeError, TypeError, ValueError)
"""Raised by float, numpy.asarray and torch.as_tensor at what is no regular array of numbers."""
WORDS: dict[str, str] = {}
"""Words of a program around the core that advice uses in place of ours, as a node's name for a
function's; set once, at its start."""


_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\\/:*?\"'<>|(),\n]+[\\/])+")
"""Of an absolute path in a library's words: a message is passed on, and its user's name isn't."""


def is_oom(error: BaseException) -> bool:
    """Check whether an exception of torch, CUDA or Triton means that memory ran out."""
    if "out of memory" in str(error).lower():
        return True
    import torch  # here, since what is refused is refused before torch is imported

    return isinstance(error, torch.OutOfMemoryError)


def in_words(advice: str, words: Mapping[str, str] = WORDS) -> str:
    """Replace terms of this package in advice by those of the program that uses it."""
    for core_term, program_term in words.items():
        advice = advice.replace(core_term, program_term)
    return advice


class EgoXInputError(ValueError):
    """Bad input, reported before any long work has started.

    The message always has the same three parts, so that it can be acted on without reading code.
    """

    def __init__(self, what: str, *, got: object, expected: object, fix: str) -> None:
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        got_text = str(got)
        got_text = got_text if len(got_text) <= MAX_SHOWN else f"{got_text[:MAX_SHOWN]}…"
        super().__init__(f"{what}: got {got_text}; " + in_words(f"expected {expected}. Fix: {fix}"))

    def __reduce__(self) -> tuple:
        """Make this error picklable, so that it can be sent to another process."""
        return partial(
            type(self), self.what, got=self.got, expected=self.expected, fix=self.fix
        ), ()


def check_choice(
    what: str, value: object, choices: Collection[str], fix: str = "choose one"
) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        EgoXInputError: names them.
    """
    if value not in list(choices):  # a value from a file may fit no set
        raise EgoXInputError(
            what, got=repr(value), expected=f"one of {', '.join(choices)}", fix=fix
        )


@contextmanager
def needs_package(name: str, what: str, *, expected: str, instead: str = "") -> Generator[None]:
    """Catch the ImportError of an optional package, and say how to install it.

    Args:
        what: the user's action that needs the package.
        expected: the extra that brings it, or the package itself.
        instead: another way, appended to the advice to install it.

    Raises:
        EgoXInputError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise EgoXInputError(
            what,
            got=f"{name} is not installed",
            expected=expected,
            fix=f"{this_python()} -m pip install {name}{instead}",
        ) from error


def this_python() -> str:
    """Shorten the Python executable's path, whose first folders may contain a user name."""
    return str(Path(*Path(sys.executable).parts[-3:]))


@contextmanager
def intact(
    what: str,
    errors: tuple[type[Exception], ...],
    *,
    expected: str = "an intact file",
    fix: str = "copy or write it again",
) -> Generator[None]:
    """Convert a library's exceptions about damaged data to EgoXInputError, as a context manager.

    Only the call belongs inside: errors of our own code would be hidden as well.

    Args:
        what: names the data.
        errors: of the library, at damaged data.

    Raises:
        EgoXInputError: one of ``errors``.
    """
    try:
        yield
    except EgoXInputError:
        raise
    except errors as error:
        raise EgoXInputError(
            what,
            got=f"damaged data ({type(error).__name__}: {_FOLDERS.sub('', str(error))[:200]})",
            expected=expected,
            fix=fix,
        ) from error
