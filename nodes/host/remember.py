"""Cache results of functions between runs of a graph.

These are results of a function's last calls, for a node that runs again because another input
changed, the sources of rendered pictures, and nodes that have to run again.
"""

import functools
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from torch.utils.weak import WeakTensorKeyDictionary

PRIOR_SOURCES = WeakTensorKeyDictionary()
"""For pictures of Render Ego Prior: the ``scene`` and ``trajectory`` that they were rendered from,
and their pixels' classes ``seen``. EgoX Conditioning passes them on with the ego latent."""
STRAIGHTENED = WeakTensorKeyDictionary()
"""For ego frames that were turned back to their path: what was done, in ``words``, and which of
their pixels were ``filled``."""
RENEWAL_COUNTS = Counter[str]()
"""For a node id: how often a page found its scene dropped, so that the next run stores it again
instead of using the cache. For a file's name: how often a page put such a file beside a video after
a run."""


def remembered(slots: int) -> Callable[[Callable], Callable]:
    """Decorate a function so that equal calls return its cached result.

    The last ``slots`` calls are remembered. Arguments are not kept alive. Results are, and must
    not be changed."""

    def decorate_function(function: Callable) -> Callable:
        last_calls: deque[tuple[tuple, Any]] = deque(maxlen=slots)

        @functools.wraps(function)
        def call_once(*args: Any) -> Any:
            for last_arguments, result in last_calls:
                if len(last_arguments) == len(args) and all(map(_is_same, last_arguments, args)):
                    return result
            result = function(*args)
            last_calls.append((tuple(map(_weak_reference, args)), result))
            return result

        return call_once

    return decorate_function


def _weak_reference(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:  # a plain value
        return value


def _is_same(earlier_argument: Any, argument: Any) -> bool:
    return (
        earlier_argument() is argument
        if isinstance(earlier_argument, weakref.ref)
        else earlier_argument == argument
    )
