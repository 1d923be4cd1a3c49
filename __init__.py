"""EgoX for ComfyUI: exocentric video in, egocentric video out."""

WEB_DIRECTORY = "./web/js"


async def comfy_entrypoint():
    """Give the host the pack's extension; imported only here, so that tools import the repository without a host."""
    from .nodes import EgoXExtension
    from .nodes.host.paths import add_model_folders

    add_model_folders()
    return EgoXExtension()
