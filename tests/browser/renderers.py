"""Choice of the host's renderer for a test: always in one, in the other by ``run.py
test --all``."""

import pytest

CLASSIC = [
    pytest.param(False, id="classic nodes"),
    pytest.param(True, id="newer nodes", marks=pytest.mark.slow),
]
NEWER = [
    pytest.param(False, id="classic nodes", marks=pytest.mark.slow),
    pytest.param(True, id="newer nodes"),
]
