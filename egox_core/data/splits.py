"""Train, validation and test by take: a take's place follows from its name alone, so no take leaks.

A new take never moves an old one: each name is hashed to a number in [0, 1) and the numbers are cut at fixed places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from ..errors import EgoXInputError

SPLITS = ("train", "validation", "test")


def split_of(take: str, fractions: Mapping[str, float], seed: int = 0) -> str:
    """The split that a take belongs to."""
    place = int.from_bytes(hashlib.sha256(f"{seed}:{take}".encode()).digest()[:8], "big") / 2**64
    for name in ("test", "validation"):
        if place < fractions.get(name, 0.0):
            return name
        place -= fractions.get(name, 0.0)
    return "train"


def check_fractions(fractions: Mapping[str, float]) -> Mapping[str, float]:
    """The fractions of validation and test, if they leave something to train on.

    Raises:
        EgoXInputError: unknown split, negative, or together 1 or more.
    """
    unknown = set(fractions) - {"validation", "test"}
    if unknown or any(f < 0 for f in fractions.values()) or sum(fractions.values()) >= 1:
        raise EgoXInputError("split fractions", got=dict(fractions), expected="validation and test, together under 1",
                             fix="for example validation 0.05, test 0.05; the rest is train")
    return fractions


def split_lists(clips_of_take: Mapping[str, Iterable[str]], fractions: Mapping[str, float],
                seed: int = 0) -> dict[str, list[str]]:
    """Clip names of each split, sorted."""
    lists: dict[str, list[str]] = {name: [] for name in SPLITS}
    for take, clips in clips_of_take.items():
        lists[split_of(take, fractions, seed)].extend(clips)
    return {name: sorted(clips) for name, clips in lists.items()}
