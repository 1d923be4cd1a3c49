"""Test prompt sections: splitting, joining, cleaning and cutting."""

import pytest

from egox_core.wan.prompt import (
    clean_prompt,
    cut_place,
    cut_tokens,
    join_sections,
    split_sections,
)
from tests.refusals import refuses


def test_sections_are_split_and_joined():
    prompt = "[Exo view]\n**Scene:** a kitchen.\n\n[Ego view]\n**Scene:** two hands."
    assert split_sections(prompt) == ("**Scene:** a kitchen.", "**Scene:** two hands.")
    assert (
        join_sections(*split_sections(prompt))
        == "[Exo view] **Scene:** a kitchen. [Ego view] **Scene:** two hands."
    )
    assert split_sections("a kitchen") == ("a kitchen", "")
    assert split_sections("[ego view] hands") == ("", "hands")
    assert join_sections("", " hands ") == "[Ego view] hands"
    assert join_sections("", "") == ""


@pytest.mark.parametrize("prompt", ["[Ego view] a [Exo view] b", "[Exo view] a [Exo view] b"])
def test_sections_in_wrong_order_are_refused(prompt):
    with refuses("exo first"):
        split_sections(prompt)


def test_prompt_is_cleaned_of_entities_and_white_space():
    assert clean_prompt(" tea &amp;amp; cake\n\n\tnow ") == "tea & cake now"


def test_cut_tokens_keep_the_end_mark():
    assert cut_tokens([5, 6, 7, 1], limit=4) == [5, 6, 7, 1]
    assert cut_tokens([5, 6, 7, 8, 1], limit=4) == [5, 6, 7, 1]
    long_tokens = cut_tokens([*range(2, 700), 1])
    assert (
        len(long_tokens) == 512
        and long_tokens[-1] == 1
        and long_tokens[:511] == list(range(2, 513))
    )


@pytest.mark.parametrize(
    ("limit", "expected_place"),
    [
        (9, "inside [Ego view]"),
        (7, "inside [Exo view] and all of [Ego view]"),
        (6, "inside [Exo view] and all of [Ego view]"),
    ],
)
def test_section_of_a_cut_is_named(limit, expected_place):
    """Check that the prompt section in which a token limit cuts the text is named."""
    prompt = "[Exo view] one two three four [Ego view] five six seven"
    assert cut_place(prompt, lambda text: len(text.split()), limit) == expected_place
    assert cut_place("no sections at all", lambda text: len(text.split()), 2) == ""
