"""The uploads' modules that need no page, run by Node."""

from egox_core.wan.chunks import plan_chunks


def test_the_modules_own_tests(run_node_tests):
    assert run_node_tests("uploads.test.mjs") >= 4


def test_the_pages_count_of_chunks_is_that_of_the_plan():
    """The table of ``uploads.test.mjs``, where 49 frames, which fit, are told nothing of chunks."""
    frames = (49, 53, 93, 97, 193)
    assert [len(plan_chunks(count, 49, 5)) for count in frames] == [1, 2, 2, 3, 5]
    assert len(plan_chunks(33, 17, 1)) == 2
