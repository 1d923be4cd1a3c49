"""A shipped graph made small on the canvas itself, by its widgets, so that it runs in seconds."""

import copy
from typing import Any

from tests.browser.page import PageUnderTest

FRAMES, HEIGHT, WIDTH, STEPS = 5, 128, 224, 2


def values(frames: int, height: int, width: int, steps: int) -> tuple[tuple[str, str, int], ...]:
    """(node type, input, value)."""
    return (
        ("EgoXLoadExoVideo", "frame_count", frames),
        ("EgoXLoadExoVideo", "height", height),
        ("EgoXLoadExoVideo", "width", width),
        ("EgoXWanSampler", "steps", steps),
    )


def make_small(
    page: PageUnderTest,
    *,
    frames: int = FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
    steps: int = STEPS,
) -> None:
    for kind, name, value in values(frames, height, width, steps):
        page.set_widget(kind, name, value)


def small_prompt(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same for a prompt of the API."""
    prompt = copy.deepcopy(prompt)
    for kind, name, value in values(FRAMES, HEIGHT, WIDTH, STEPS):
        for node in prompt.values():
            if node["class_type"] == kind:
                node["inputs"][name] = value
    return prompt
