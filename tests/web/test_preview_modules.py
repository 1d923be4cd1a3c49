"""The previews' modules that need no page, run by Node."""


def test_the_modules_own_tests(run_node_tests):
    assert run_node_tests("previews.test.mjs") >= 10
