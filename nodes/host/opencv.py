"""Start without nodes where OpenCV is missing, and say in the log and on the page how to get it."""

from __future__ import annotations

import logging
import sys
from functools import cache
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
ROUTE = "/egox/opencv"
WEB_FOLDER = "./web/no_opencv"
"""Folder for the page, which asks :data:`ROUTE` for the message."""


@cache
def missing_opencv() -> str:
    """Write what is missing and the command that installs it, or return ""."""
    try:
        import cv2  # noqa: F401
    except Exception as error:  # a broken one answers in any way
        cause = str(error) or type(error).__name__
        return (
            f"EgoX has no nodes because OpenCV can't be imported ({cause}). Run "
            f'"{sys.executable}" "{PACK / "install.py"}", then restart ComfyUI.'
        )
    return ""


def make_empty_extension():
    """Create an extension without nodes that tells the log and the page what is missing."""
    from aiohttp import web
    from comfy_api.latest import ComfyExtension
    from server import PromptServer

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"text": missing_opencv()})

    class EmptyExtension(ComfyExtension):
        async def on_load(self) -> None:
            logging.error("[EgoX] %s", missing_opencv())
            server = getattr(PromptServer, "instance", None)
            if server is not None:
                server.routes.get(ROUTE)(answer)

        async def get_node_list(self) -> list:
            return []

    return EmptyExtension()
