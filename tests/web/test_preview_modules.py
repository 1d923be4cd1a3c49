"""Test the preview's JavaScript modules in Node."""


def test_the_preview_modules_tests_pass(run_node_tests):
    assert run_node_tests("previews.test.mjs") >= 10
