"""Texts of the page, said by Node: gaps and fall-backs."""

from __future__ import annotations


def test_the_texts_own_tests(run_node_tests) -> None:
    assert run_node_tests("texts.test.mjs") == 2
