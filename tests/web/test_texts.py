"""Test the translation of texts in JavaScript modules, in Node."""


def test_the_text_modules_tests_pass(run_node_tests):
    assert run_node_tests("texts.test.mjs") == 3
