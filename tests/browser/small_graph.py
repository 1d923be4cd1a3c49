"""A shipped graph made small on the canvas itself, by its widgets, so that it runs in seconds."""

from tests.browser.page import PageUnderTest

FRAMES, HEIGHT, WIDTH, STEPS = 5, 128, 224, 2


def make_small(page: PageUnderTest, sampler: str = "EgoXWanSampler") -> None:
    for kind, name, value in (
        ("EgoXLoadExoVideo", "frame_count", FRAMES),
        ("EgoXLoadExoVideo", "height", HEIGHT),
        ("EgoXLoadExoVideo", "width", WIDTH),
        (sampler, "steps", STEPS),
    ):
        page.set_widget(kind, name, value)
