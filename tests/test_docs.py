"""The pages name what exists: entries of docs/quirks.md that are cited, files, modules, links and headings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parent.parent
QUIRKS = "docs/quirks.md"
CITING = frozenset({".py", ".md", ".mjs", ".js", ".yaml", ".toml"})
"""Suffixes of the files that may cite a quirk."""
NOT_OURS = frozenset({"node_modules", "output", "vendor", "__pycache__"})
CITATION = re.compile(r"\bquirks?\s+(\d+(?:(?:,\s*|\s+and\s+|\s+to\s+|\s*[-–]\s*)\d+)*)", re.IGNORECASE)

PATH_SUFFIXES = (".py", ".md", ".mjs", ".js", ".json", ".jsonl", ".yaml", ".toml", ".txt", ".jpg", ".png", ".webp",
                 ".mp4", ".npz", ".npy", ".safetensors")
PACKAGES = frozenset({"egox_core", "nodes", "tools", "benchmarks", "tests"})
ELSEWHERE = (
    "output/*",  # what run.py makes
    "ComfyUI/*",  # the user's own host
    "data/*", "runs/*", "SET/*", "OTHER/*",  # where an example's files lie on the user's disk
    "annotations/*", "takes/*", "videos/*", "depth_maps/*",  # inside recordings, in their own layouts
    "benchmarks/results/gpu_*",  # what `run.py bench gpu` makes on a machine with a GPU
    "clips/", "splits/*", "rows/",  # inside a data set or report that train_egox.py makes
)
"""Patterns of paths that pages may name although the repository has no such file."""


# Citations of quirks

def cited_numbers(text: str) -> set[int]:
    """Numbers of all citations: one number, numbers between commas, or a range."""
    numbers: set[int] = set()
    one_line = re.sub(r"\n[ \t]*(?:#|//|\*)?[ \t]*", " ", text)  # a citation may run on in the next comment line
    for citation in CITATION.findall(one_line):
        for first, last in re.findall(r"(\d+)(?:\s*(?:to|[-–])\s*(\d+))?", citation):
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def entries(page: str) -> list[int]:
    return [int(number) for number in re.findall(r"(?m)^(\d+)\. \S", page)]


def citing_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.name in NOT_OURS:
            continue
        if path.is_dir():
            yield from citing_files(path)
        elif path.suffix in CITING:
            yield path


def citations_without_entry(root: Path) -> list[str]:
    """``file: number`` of each citation that docs/quirks.md has nothing on."""
    known = set(entries((root / QUIRKS).read_text(encoding="utf-8")))
    return [f"{path.relative_to(root).as_posix()}: {number}" for path in citing_files(root)
            for number in sorted(cited_numbers(path.read_text(encoding="utf-8")) - known)]


def test_every_cited_quirk_has_an_entry() -> None:
    assert citations_without_entry(REPO_ROOT) == []


def test_entries_are_numbered_without_gaps() -> None:
    numbers = entries((REPO_ROOT / QUIRKS).read_text(encoding="utf-8"))
    assert len(numbers) >= 41 and numbers == list(range(1, len(numbers) + 1))


def test_citations_are_read_in_every_form() -> None:
    text = ("(quirks 7 to 9): K\nquirk 39. Quirks 25, 30). quirks 31 to 33, 36, 38\nand quirks 3-5\n"
            "x = 1  # as in quirks 12 and\n       # 14: a comment of two lines")
    assert cited_numbers(text) == {7, 8, 9, 39, 25, 30, 31, 32, 33, 36, 38, 3, 4, 5, 12, 14}
    assert cited_numbers("quirks, LoRA key names; 8 quirks; trainer's quirks of 1 kind") == set()


def test_a_citation_without_entry_is_seen(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / QUIRKS).write_text("# Quirks\n\n1. One.\n2. Two,\n   in two lines.\n", encoding="utf-8")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "good.py").write_text('"""As released (quirks 1, 2)."""\n', encoding="utf-8")
    assert citations_without_entry(tmp_path) == []
    (tmp_path / "room" / "bad.py").write_text("x = 1  # quirks 2 to 4, 1\n", encoding="utf-8")
    assert citations_without_entry(tmp_path) == ["room/bad.py: 3", "room/bad.py: 4"]


# Paths, modules and links

def pages(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, text) of all that must be true of this checkout; of the changelog, what is newest."""
    for path in (root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))):
        yield path, path.read_text(encoding="utf-8")
    changelog = root / "CHANGELOG.md"
    yield changelog, re.split(r"(?m)^## ", changelog.read_text(encoding="utf-8"))[1]
    package = root / "egox_core" / "__init__.py"
    yield package, ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""


def dead_names(text: str, file: Path, root: Path) -> list[str]:
    """Links, paths and modules of a page that lead nowhere. Paths count from the root or from the page's folder."""
    dead = [f"link {target}" for target in re.findall(r"\]\(([^)\s]+)\)", text) if not _is_link_alive(target, file)]
    for raw in re.findall(r"[^\s`|\"'(),;]+", re.sub(r"\]\([^)\s]+\)", " ", text)):
        word = raw.lstrip("[").rstrip("].:!?")
        if _is_path(word, root):
            if not any(fnmatch(word, pattern) for pattern in ELSEWHERE) and not _is_there(word, file.parent, root):
                dead.append(f"path {word}")
        elif _is_module(word) and not _is_module_there(word.split("."), root):
            dead.append(f"module {word}")
    return dead


def _is_link_alive(target: str, file: Path) -> bool:
    if re.match(r"[a-z]+:", target):  # another place of the network
        return True
    name, _, anchor = target.partition("#")
    page = file.parent / name if name else file
    return page.exists() and (not anchor or anchor in anchors(page.read_text(encoding="utf-8")))


def anchors(page: str) -> set[str]:
    """The addresses that a page's headings get on GitHub."""
    headings = re.findall(r"(?m)^#+ (.+)$", page)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _is_path(word: str, root: Path) -> bool:
    if "://" in word or not re.search(r"\w", word):
        return False
    if "/" not in word:
        return word.endswith((".py", ".mjs")) and not word.startswith(".")
    first = word.split("/")[0]
    return word.endswith(("/", *PATH_SUFFIXES)) or (first.isidentifier() and (root / first).is_dir())


def _is_there(word: str, folder: Path, root: Path) -> bool:
    pattern = word.replace("…", "*").rstrip("/")
    if "/" not in word:  # a module by its bare name, in whatever room
        return any(path.name == word for path in citing_files(root))
    if "*" in pattern:
        return any(root.glob(pattern))
    return (root / pattern).exists() or (folder / pattern).exists()


def _is_module(word: str) -> bool:
    return re.fullmatch(r"\w+(\.\w+)+", word) is not None and word.split(".")[0] in PACKAGES


def _is_module_there(parts: list[str], root: Path) -> bool:
    """A package, a module, or a name that one of them says."""

    def file_of(names: list[str]) -> Path | None:
        place = root.joinpath(*names)
        return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)

    if file_of(parts) or root.joinpath(*parts).is_dir():
        return True
    module = file_of(parts[:-1])
    return module is not None and re.search(rf"\b{parts[-1]}\b", module.read_text(encoding="utf-8")) is not None


def test_pages_name_only_what_exists() -> None:
    dead = [f"{file.relative_to(REPO_ROOT).as_posix()}: {name}" for file, text in pages(REPO_ROOT)
            for name in dead_names(text, file, REPO_ROOT)]
    assert dead == [], "\n".join(dead)


def test_the_architecture_lists_every_room_from_the_ground_up() -> None:
    walk = ast.parse((REPO_ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    rooms = next(ast.literal_eval(node.value) for node in walk.body if isinstance(node, ast.Assign)
                 and [getattr(target, "id", "") for target in node.targets] == ["ROOMS"])
    page = (REPO_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"`egox_core/(\w+)(?:/|\.py)`", page.split("## The rooms")[1].split("\n## ")[0])
    assert listed == list(reversed(rooms))


def test_every_page_is_read() -> None:
    names = [file.relative_to(REPO_ROOT).as_posix() for file, _ in pages(REPO_ROOT)]
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "egox_core/__init__.py", QUIRKS, "docs/conventions.md",
            "docs/architecture.md"} <= set(names)
    assert all(len(text) > 50 for _, text in pages(REPO_ROOT))


def test_dead_names_are_seen(tmp_path: Path) -> None:
    for name in ("egox_core/gga/bias.py", "tools/convert.py", "docs/other.md", "models/demo/card.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# A heading, λ_g\n\nanswer = 42\n", encoding="utf-8")
    file = tmp_path / "docs" / "page.md"
    good = ("See [other](other.md#a-heading-λ_g) or [below](#here), `egox_core/gga/bias.py`, `models/*/card.md`,\n"
            "`python tools/convert.py IN`, `egox_core/…`, bias.py, `egox_core.gga.bias.answer`, (`docs/`), and/or.\n"
            "Made later: `output/x/{ego,prior}.mp4`, `takes/<take>/x.json`. Away: https://example.org/x.md.\n## Here\n")
    file.write_text(good, encoding="utf-8")
    assert dead_names(good, file, tmp_path) == []
    for bad, name in (("[other](lost.md)", "link lost.md"), ("[other](other.md#lost)", "link other.md#lost"),
                      ("[below](#lost)", "link #lost"), ("![picture](img/lost.jpg)", "link img/lost.jpg"),
                      ("`egox_core/lost.py`", "path egox_core/lost.py"), ("run `python tools/lost.py IN`,",
                      "path tools/lost.py"), ("**`models/lost`**", "path models/lost"), ("`lost/`.", "path lost/"),
                      ("`models/*/lost_*.md`", "path models/*/lost_*.md"), ("in `lost.py`:", "path lost.py"),
                      ("`python -m tools.lost --all`", "module tools.lost"),
                      ("`egox_core.gga.attention.bias.lost`", "module egox_core.gga.attention.bias.lost")):
        assert dead_names(good + bad, file, tmp_path) == [name], bad
