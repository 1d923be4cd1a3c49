"""Read from the name of an array what the numbers of its depth maps are."""

import re

from ..facts import UNITS_M, Statement

KIND_WORDS = {
    "inverse": ("inverse", "inv", "invdepth", "disparity", "disparities", "disp"),
    "ray": ("ray", "distance", "distances", "dist", "range", "euclidean", "radial"),
}
"""Words of a name that say another kind than z depth."""


def states_depth(key: str) -> bool:
    """Check whether the name of an array says that it holds depth."""
    words = _words(key)
    return "depth" in key.lower() or any(word in words for word in sum(KIND_WORDS.values(), ()))


def statements_of_key(key: str, file: str) -> tuple[Statement, ...]:
    """List what the name of an array states of its maps."""
    words = _words(key)
    by = f"the name {key} in {file}"
    statements = [
        Statement("depth.kind", kind, by, "name")
        for kind, kind_words in KIND_WORDS.items()
        # A distance to the image plane is z depth.
        if any(word in words for word in kind_words) and not (kind == "ray" and "plane" in words)
    ]
    if len(words) > 1 and words[-1] in UNITS_M:
        statements.append(Statement("depth.unit", UNITS_M[words[-1]], by, "name"))
    return tuple(statements)


def _words(key: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())
