"""Each help page has a picture, which is there, small, named in words, packaged, and made by the script."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.help_pictures import PICTURES, SAMPLED
from tools.help_pictures.__main__ import FOLDER
from tools.help_pictures.__main__ import LIMIT_BYTES as ALL_BYTES
from tools.help_pictures.sheet import LIMIT_BYTES, STRIP, WIDTH, curves, marked, save_small, sheet
from tools.texts.help_slots import PAGES

NODES = sorted(path.stem for path in PAGES.rglob("*.md") if path.parent == PAGES)


def pictures_of(page: Path) -> list[tuple[str, str]]:
    """(words, address) of each."""
    return re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


def test_every_page_has_its_picture_before_the_first_section() -> None:
    for node in NODES:
        found = pictures_of(PAGES / f"{node}.md")
        assert [address for _, address in found] == [f"img/{node}.webp"], node
        text = (PAGES / f"{node}.md").read_text(encoding="utf-8")
        assert text.index("![") < text.index("\n## "), f"{node}: below what most people read"


def test_pages_in_other_languages_show_the_same_picture() -> None:
    """The front end would take them from ``docs/<node>/<language>.md``, and any address from ``docs/`` on."""
    for page in PAGES.glob("*/*.md"):
        assert [address for _, address in pictures_of(page)] == [f"img/{page.parent.name}.webp"], page


def test_pictures_are_named_in_words() -> None:
    for page in PAGES.rglob("*.md"):
        for words, _ in pictures_of(page):
            assert 40 <= len(words) <= 160, f"{page.name}: {words!r}"
            # The front end writes the words into the HTML as they are.
            assert not set(words) & set('"<>&'), f"{page.name}: {words!r}"


def test_pictures_are_small_and_whole() -> None:
    together = 0
    for node in NODES:
        data = (FOLDER / f"{node}.webp").read_bytes()
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and picture.shape[1] == WIDTH and 150 < picture.shape[0] < 900, node
        assert len(data) <= LIMIT_BYTES, node
        assert picture.std() > 20, f"{node}: an empty picture"
        together += len(data)
    assert together <= ALL_BYTES


def test_the_script_makes_every_picture_and_no_other_lies_there() -> None:
    assert not set(PICTURES) & set(SAMPLED)
    assert sorted((*PICTURES, *SAMPLED)) == NODES == sorted(path.stem for path in FOLDER.iterdir())


def test_nothing_keeps_them_out_of_the_package(repo_root: Path) -> None:
    """What the registry's packer takes: what git doesn't ignore, less .comfyignore."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    files = [str((FOLDER / f"{node}.webp").relative_to(repo_root)) for node in NODES]
    ignore = repo_root / ".comfyignore"
    extra = ["-c", f"core.excludesFile={ignore}"] if ignore.is_file() else []
    found = subprocess.run(["git", *extra, "check-ignore", "--no-index", *files], cwd=repo_root, capture_output=True,
                           text=True)
    if found.returncode == 128:
        pytest.skip("not a git checkout")
    assert found.returncode == 1 and not found.stdout, found.stdout


def test_a_sheet_shows_all_of_its_tiles() -> None:
    red, blue = np.zeros((40, 80, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    made = sheet([("red", red), ("blue", blue)], [("", red)])
    assert made.shape[1] == WIDTH
    row = made[STRIP + 5].astype(int)
    shares = [(row[:, channel] > 200).sum() for channel in (0, 2)]
    assert sum(shares) >= WIDTH - 6 and shares[0] == pytest.approx(2 * shares[1], abs=6)
    assert made[:STRIP].max() > 150, "the names"
    assert (made[-5, :, 0] > 200).all(), "a row without names is as wide as the sheet"


def test_a_picture_that_is_too_rich_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (800, WIDTH, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="show less"):
        save_small(tmp_path / "noise.webp", noise)
    assert not list(tmp_path.iterdir())
    assert save_small(tmp_path / "plain.webp", np.full((64, WIDTH, 3), 90, np.uint8)) < 2000


def test_marks_and_curves_stand_where_they_should() -> None:
    cross = marked(np.zeros((80, 80, 3), np.uint8), (60, 20))
    lit = np.argwhere(cross[..., 0] > 200).mean(0)
    assert lit == pytest.approx([20.5 * 448 / 80, 60.5 * 448 / 80], abs=2)
    drawn = curves({"rising": [0.0, 1.0]}, "over", (0, 1), height=200)
    ink = np.argwhere((drawn[50:160].astype(int) - drawn[50:160, :1]).min(-1) < -60)
    assert np.corrcoef(ink[:, 0], ink[:, 1])[0, 1] < -0.9, "upwards to the right"
