"""Contact sheets: which items are shown of many. What stands where: test_evaluate.py."""

import pytest

from egox_train.contact_sheet import spread


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (1, 4, [0]), (10, 1, [0]), (0, 3, [])],
)
def test_what_is_shown_spreads_over_all(count, most, expected):
    assert spread(count, most) == expected
