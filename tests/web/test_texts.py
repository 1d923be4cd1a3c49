"""Test in Node how the page fills placeholders in texts and replaces missing translations."""


def test_the_text_modules_tests_pass(run_node_tests):
    assert run_node_tests("texts.test.mjs") == 2
