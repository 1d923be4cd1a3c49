"""The page's scripts as the formatter leaves them; the configuration is ``.prettierrc.json``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDERS = ("web/js", "tests/web")
MOST = 120


def scripts(repo_root: Path) -> list[Path]:
    files = [path for folder in FOLDERS for path in (repo_root / folder).rglob("*") if path.suffix in (".js", ".mjs")]
    return sorted(path for path in files if "vendor" not in path.parts and "node_modules" not in path.parts)


def test_no_line_is_too_long(repo_root: Path) -> None:
    files = scripts(repo_root)
    assert len(files) > 40
    # Characters, as an editor counts them: the formatter breaks neither strings nor comments nor the style sheets.
    long = [f"{path.relative_to(repo_root).as_posix()}:{number}" for path in files
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if len(line) > MOST]
    assert not long


def test_prettier_has_nothing_to_change(repo_root: Path) -> None:
    prettier = shutil.which("prettier", path=str(repo_root / "node_modules" / ".bin")) or shutil.which("prettier")
    if prettier is None:
        pytest.skip("needs prettier 3: npm install prettier@3, here or globally")
    version = subprocess.run([prettier, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    if not re.match(r"3\.", version):
        pytest.skip(f"needs prettier 3, there is {version or 'one that does not run'}")
    check = subprocess.run([prettier, "--check", *FOLDERS], cwd=repo_root, capture_output=True, text=True,
                           encoding="utf-8", timeout=120)
    assert check.returncode == 0, check.stdout[-4000:] + check.stderr[-4000:]
