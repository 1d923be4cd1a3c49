"""The previews' modules that need no page, run by Node."""

from __future__ import annotations


def test_the_modules_own_tests(run_node_tests) -> None:
    assert run_node_tests("previews.test.mjs") >= 11
