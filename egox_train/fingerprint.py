"""A short name for everything that something was made from."""

import hashlib
import json
from typing import Any


def fingerprint(parts: Any) -> str:
    """Compute 64 hex digits of everything in ``parts``, numbers and text in lists and mappings. The
    order of keys doesn't matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
