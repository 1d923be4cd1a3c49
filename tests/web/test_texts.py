"""Texts of the page, said by Node: gaps and fall-backs."""


def test_the_texts_own_tests(run_node_tests):
    assert run_node_tests("texts.test.mjs") == 2
