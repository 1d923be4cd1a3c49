"""A shipped graph made small on the canvas itself, by its widgets, so that it runs in seconds."""

from __future__ import annotations

from devtools.comfy_page import ComfyPage

FRAMES, HEIGHT, WIDTH, STEPS = 5, 128, 224, 2


def make_small(page: ComfyPage, *, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH,
               steps: int = STEPS) -> None:
    for kind, name, value in (("EgoXLoadExoVideo", "frame_count", frames), ("EgoXLoadExoVideo", "height", height),
                              ("EgoXLoadExoVideo", "width", width), ("EgoXEgoPoseInput", "size", height),
                              ("EgoXRenderEgoPrior", "size", height), ("EgoXWanSampler", "steps", steps)):
        page.set_widget(kind, name, value)
