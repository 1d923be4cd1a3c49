"""EgoX for ComfyUI: exocentric video in, egocentric video out."""

WEB_DIRECTORY = "./web/js"


async def comfy_entrypoint():
    """Give the host the pack's extension; imported only here, so that tools import the repository without a host."""
    from .nodes.host.names import say_missing

    say_missing()  # before the imports below, which such a host may fail
    from .nodes.extension import EgoXExtension

    return EgoXExtension()
