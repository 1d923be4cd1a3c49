"""Icon and banner: what the registry takes, and what is committed is what the tool draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import brand


@pytest.mark.parametrize(("name", "size"), [("icon", (400, 400)), ("banner", (1260, 540))])
def test_the_committed_picture_is_the_drawn_one(repo_root: Path, tmp_path: Path, name: str, size: tuple) -> None:
    assert brand.main(["--out", str(tmp_path)]) == 0
    committed = repo_root / "docs" / "img" / f"{name}.png"
    with Image.open(committed) as there, Image.open(tmp_path / f"{name}.png") as drawn:
        assert there.size == drawn.size == size
        difference = np.abs(np.asarray(there.convert("RGB"), int) - np.asarray(drawn.convert("RGB"), int))
    # Another Pillow may place letters and choose palette entries a little differently.
    assert difference.mean() < 2, f"run.py make brand draws another {name}"
    assert committed.stat().st_size < 100_000


def test_the_shapes_are_the_registrys() -> None:
    assert max(brand.ICON_PX) <= 400 and brand.ICON_PX[0] == brand.ICON_PX[1]
    assert brand.BANNER_PX[0] * 9 == brand.BANNER_PX[1] * 21
