"""How much memory this process has used at most."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def peak_memory_bytes() -> int | None:
    """Peak resident memory of the process in bytes; None where the system can't say.

    Pages of files mapped into memory count while they are resident, though the system may drop them at any time.
    """
    if find_spec("resource") is not None:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak if sys.platform == "darwin" else peak * 1024)
    if find_spec("psutil") is not None:  # Windows; the host brings it
        import psutil

        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0)) or None
    return None
