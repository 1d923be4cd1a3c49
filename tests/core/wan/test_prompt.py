"""Prompt sections and their cleaning."""

import pytest

from egox_core.wan.prompt import (
    clean_prompt,
    cut_place,
    cut_tokens,
    join_sections,
    split_sections,
)
from tests.refusals import refuses


def test_sections_come_apart_and_together():
    prompt = "[Exo view]\n**Scene:** a kitchen.\n\n[Ego view]\n**Scene:** two hands."
    assert split_sections(prompt) == ("**Scene:** a kitchen.", "**Scene:** two hands.")
    assert (
        join_sections(*split_sections(prompt))
        == "[Exo view] **Scene:** a kitchen. [Ego view] **Scene:** two hands."
    )
    assert split_sections("a kitchen") == ("a kitchen", "")
    assert split_sections("[ego view] hands") == ("", "hands")
    assert join_sections("", " hands ") == "[Ego view] hands" and join_sections("", "") == ""


@pytest.mark.parametrize("prompt", ["[Ego view] a [Exo view] b", "[Exo view] a [Exo view] b"])
def test_muddled_sections_are_refused(prompt):
    with refuses("exo first"):
        split_sections(prompt)


def test_cleaning():
    assert clean_prompt(" tea &amp;amp; cake\n\n\tnow ") == "tea & cake now"


def test_a_cut_keeps_the_end_mark():
    assert cut_tokens([5, 6, 7, 1], limit=4) == [5, 6, 7, 1]
    assert cut_tokens([5, 6, 7, 8, 1], limit=4) == [5, 6, 7, 1]
    long = cut_tokens([*range(2, 700), 1])
    assert len(long) == 512 and long[-1] == 1 and long[:511] == list(range(2, 513))


@pytest.mark.parametrize(
    ("limit", "place"),
    [
        (9, "inside [Ego view]"),
        (7, "inside [Exo view] and all of [Ego view]"),
        (6, "inside [Exo view] and all of [Ego view]"),
    ],
)
def test_a_cut_is_placed_in_its_section(limit, place):
    """A word is a token. The [Ego view] mark is tokens 7 and 8, and the end mark takes one of the
    limit."""
    prompt = "[Exo view] one two three four [Ego view] five six seven"
    assert cut_place(prompt, lambda text: len(text.split()), limit) == place
    assert cut_place("no sections at all", lambda text: len(text.split()), 2) == ""
