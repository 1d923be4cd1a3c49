"""Test that the notes of graphs can be read in every theme and both kinds of nodes."""

import io

import numpy as np
import pytest
from PIL import Image

from .test_editor import THEME_SCRIPT

MIN_CONTRAST = 4.5  # of WCAG 2, for text of usual size
# The boxes of a note's words of each kind, in px of the page.
_WORDS_SCRIPT = """() => {
  const note = [...document.querySelectorAll('.comfy-markdown, .comfy-markdown-content')].find((e) => e.offsetParent
    && e.innerText.includes('28 GB'));
  return Object.fromEntries(['code', 'a', 'h3', 'li', 'strong', 'em'].map((kind) => {
    const range = document.createRange();
    range.selectNodeContents(note.querySelector(kind));
    const { left, top, width, height } = range.getBoundingClientRect();
    return [kind, [left, top, width, height]];
  }));
}"""


def measure_contrast(pixels: np.ndarray) -> float:
    """Compute the contrast of words by WCAG 2: their strongest pixels against the commonest."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    shares = colours / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    ground = luminance[counts.argmax()]
    return float(
        max((np.maximum(luminance, ground) + 0.05) / (np.minimum(luminance, ground) + 0.05))
    )


@pytest.mark.parametrize("vue_nodes", [False, True])
def test_a_notes_words_stand_out_from_their_ground(open_page, read_shipped, vue_nodes):
    page = open_page(size=(1200, 700), stays_open=True, vue_nodes=vue_nodes)
    page.load(read_shipped("egox_basic"))
    page.show(page.node_bounds("MarkdownNote"))
    page.wait_until(f"() => {{ try {{ return ({_WORDS_SCRIPT})(); }} catch {{ return null; }} }}")
    for theme in ("dark", "light"):
        page.evaluate(THEME_SCRIPT, theme)
        page.settle(10)
        picture = np.array(Image.open(io.BytesIO(page.picture())).convert("RGB"))
        contrast_of_kind = {}
        for kind, (left, top, width, height) in page.evaluate(_WORDS_SCRIPT).items():
            rows = slice(round(top), round(top + height))
            pixels = picture[rows, round(left) : round(left + width)]
            assert pixels.shape[0] > 8 and pixels.shape[1] > 8, kind
            contrast_of_kind[kind] = measure_contrast(pixels)
        assert min(contrast_of_kind.values()) >= MIN_CONTRAST, (theme, contrast_of_kind)
