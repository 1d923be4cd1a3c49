"""Connect the core's progress callback to ComfyUI's progress bar on the running node, and to its
Cancel button."""

import comfy.model_management
import comfy.utils

from ...egox_core.progress import Progress


def host_progress(total: int = 1) -> Progress:
    """Make a progress callback for one run of one node.

    ``total`` is the bar's initial length. Every report has its own total, because a node often
    calls several core functions in turn. The callback raises ComfyUI's
    ``InterruptProcessingException`` after the user pressed Cancel, which the core passes on."""
    bar = comfy.utils.ProgressBar(max(total, 1))

    def report(count: int, total: int, stage: str) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(count, max(total, 1))

    return report
