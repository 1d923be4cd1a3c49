"""The page's scripts as the formatter leaves them; the configuration is ``.prettierrc.json``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def test_prettier_has_nothing_to_change(repo_root: Path) -> None:
    prettier = shutil.which("prettier", path=str(repo_root / "node_modules" / ".bin")) or shutil.which("prettier")
    if prettier is None:
        pytest.skip("needs prettier 3: npm install prettier@3, here or globally")
    version = subprocess.run([prettier, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    if not re.match(r"3\.", version):
        pytest.skip(f"needs prettier 3, there is {version or 'one that does not run'}")
    check = subprocess.run([prettier, "--check", "web/js", "tests/web"], cwd=repo_root, capture_output=True, text=True,
                           encoding="utf-8", timeout=120)
    assert check.returncode == 0, check.stdout[-4000:] + check.stderr[-4000:]
