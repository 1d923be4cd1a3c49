"""Generate first-person (ego) video from third-person (exo) video in ComfyUI."""

import logging
from pathlib import Path

WEB_DIRECTORY = "./web/js"


async def comfy_entrypoint():
    """Create the pack's extension, which ComfyUI calls to load the nodes."""
    from .nodes.host.names import log_missing_names
    from .nodes.host.opencv import make_empty_extension, missing_opencv

    if missing_opencv():
        return make_empty_extension()
    log_missing_names()  # before the imports below, which such a host may fail
    from .nodes.extension import EgoXExtension

    return EgoXExtension()


def _copy_before() -> Path | None:
    """Find another copy of this pack that ComfyUI has loaded already."""
    try:
        import folder_paths  # noqa: F401  only a host has it; elsewhere `nodes` is this pack's folder

        from nodes import EXTENSION_WEB_DIRS
    except ImportError:
        return None
    webs = map(Path, EXTENSION_WEB_DIRS.values())
    return next((w.parents[1] for w in webs if (w / "docs" / "EgoXModelPatch.md").is_file()), None)


if _copy := _copy_before():
    # With this the host asks for nothing else: a route or a node twice would end its start.
    WEB_DIRECTORY = None
    NODE_CLASS_MAPPINGS = {}
    logging.warning(
        "[EgoX] Two copies in custom_nodes: %s is in use, %s is left out. Remove one of them.",
        _copy,
        Path(__file__).parent,
    )
else:
    from .nodes.host.opencv import WEB_FOLDER, missing_opencv

    if missing_opencv():
        WEB_DIRECTORY = WEB_FOLDER
