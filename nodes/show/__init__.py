"""Show the nodes' results in the browser page.

``result_views`` has a function for each kind of result. In a ComfyUI that was started by
``python -X egox_show=0``, for runs that nobody looks at, it is None, and nothing that it needs is
imported. Images that are outputs of a node come from here too."""

import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from ...egox_core.page import attention_view, depth_preview, draw_head_path, plot_report


def _import_results() -> ModuleType | None:
    if sys._xoptions.get("egox_show") == "0":
        return None
    try:
        from . import results
    except (ImportError, AttributeError) as error:  # a host that moved a name: nodes go on without
        logging.error("[EgoX] Nodes won't show their results on this ComfyUI (%s).", error)
        return None
    return results


if TYPE_CHECKING:
    from . import results as result_views
else:
    result_views = _import_results()
