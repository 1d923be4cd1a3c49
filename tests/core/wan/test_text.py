"""Prompt sections and their cleaning."""

from __future__ import annotations

import pytest

from egox_core.errors import EgoXInputError
from egox_core.wan.text import clean_prompt, escape_emphasis, join_sections, split_sections


def test_sections_come_apart_and_together() -> None:
    prompt = "[Exo view]\n**Scene:** a kitchen.\n\n[Ego view]\n**Scene:** two hands."
    assert split_sections(prompt) == ("**Scene:** a kitchen.", "**Scene:** two hands.")
    assert join_sections(*split_sections(prompt)) == "[Exo view] **Scene:** a kitchen. [Ego view] **Scene:** two hands."
    assert split_sections("a kitchen") == ("a kitchen", "")
    assert split_sections("[ego view] hands") == ("", "hands")
    assert join_sections("", " hands ") == "[Ego view] hands" and join_sections("", "") == ""


@pytest.mark.parametrize("prompt", ["[Ego view] a [Exo view] b", "[Exo view] a [Exo view] b"])
def test_muddled_sections_are_refused(prompt: str) -> None:
    with pytest.raises(EgoXInputError, match="exo first"):
        split_sections(prompt)


def test_cleaning() -> None:
    assert clean_prompt(" tea &amp;amp; cake\n\n\tnow ") == "tea & cake now"
    assert escape_emphasis("a (red) cup \\(plain\\)") == "a \\(red\\) cup \\(plain\\)"
