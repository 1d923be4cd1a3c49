"""A shipped graph made small on the canvas itself, by its widgets, so that it runs in seconds."""

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


def make_small(page: PageUnderTest) -> None:
    for kind, name, value in values(FRAMES, HEIGHT, WIDTH, STEPS):
        page.set_widget(kind, name, value)
