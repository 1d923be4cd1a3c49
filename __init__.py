"""EgoX for ComfyUI: exocentric video in, egocentric video out."""

import logging
from pathlib import Path

WEB_DIRECTORY = "./web/js"


async def comfy_entrypoint():
    """Give the host the pack's extension, imported only here, so that tools import the repository
    without a host."""
    from .nodes.host.names import log_missing_names

    log_missing_names()  # before the imports below, which such a host may fail
    from .nodes.extension import EgoXExtension

    return EgoXExtension()


def _copy_before() -> Path | None:
    """Folder of another copy of this pack that the host has loaded already."""
    try:
        import folder_paths  # noqa: F401  only a host has it; elsewhere `nodes` is this pack's folder

        from nodes import EXTENSION_WEB_DIRS
    except ImportError:
        return None
    webs = map(Path, EXTENSION_WEB_DIRS.values())
    return next((w.parents[1] for w in webs if (w / "docs" / "EgoXModelPatch.md").is_file()), None)


if _copy := _copy_before():
    # With this the host asks for nothing else: a route or a node twice would end its start.
    WEB_DIRECTORY, NODE_CLASS_MAPPINGS = None, {}
    logging.warning(
        "[EgoX] Two copies in custom_nodes: %s is in use, %s is left out. Remove one of them.",
        _copy,
        Path(__file__).parent,
    )
