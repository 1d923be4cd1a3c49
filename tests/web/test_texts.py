"""What the page says, run by Node: complete in every language, one way to say it."""

from __future__ import annotations


def test_the_texts_own_tests(run_node_tests) -> None:
    assert run_node_tests("texts.test.mjs") >= 5
