"""Display of the nodes' results, the only place that draws or judges one.

``shown`` has a function for each kind of result. A host that was started by ``python -X
egox_show=0``, for runs that nobody looks at, makes it None, and nothing that it needs is imported.
Images that are outputs of a node come from here too."""

import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from ...egox_core.page import attention_view, depth_preview, draw_head_path, plot_report


def _results() -> ModuleType | None:
    if sys._xoptions.get("egox_show") == "0":
        return None
    try:
        from . import results
    except (ImportError, AttributeError) as error:  # a host that moved a name: nodes go on without
        logging.error("[EgoX] Nodes won't show their results on this ComfyUI (%s).", error)
        return None
    return results


if TYPE_CHECKING:
    from . import results as shown
else:
    shown = _results()
