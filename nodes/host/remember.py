"""Memory between runs.

Results of a function's last calls, for a node that runs again because another input changed. What
pictures were drawn from. Nodes that have to run again.
"""

import functools
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from torch.utils.weak import WeakTensorKeyDictionary

DRAWN_FROM = WeakTensorKeyDictionary()
"""Pictures of Render Ego Prior -> the ``scene`` and ``trajectory`` that they were drawn from, and the
classes of their pixels, ``seen``, by name. EgoX Conditioning sends them along with the ego latent."""
RENEWALS = Counter[str]()
"""Node id -> how often a page found its scene dropped: the node's next run must keep it again, and
not come from the host's cache. Under a file's name: how often a page put one beside a video that a
run may have used without it."""


def remembered(slots: int) -> Callable[[Callable], Callable]:
    """Decorate a function, so that a call with the very same objects and equal plain values, among
    the last ``slots``, gives the same result again. Arguments are not kept alive. Results, which
    nobody may change, are."""

    def decorate(function: Callable) -> Callable:
        last_calls: deque[tuple[tuple, Any]] = deque(maxlen=slots)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            for last_arguments, result in last_calls:
                if len(last_arguments) == len(args) and all(map(_same, last_arguments, args)):
                    return result
            result = function(*args)
            last_calls.append((tuple(map(_reference, args)), result))
            return result

        return call

    return decorate


def _reference(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:  # a plain value
        return value


def _same(before: Any, now: Any) -> bool:
    return before() is now if isinstance(before, weakref.ref) else before == now
