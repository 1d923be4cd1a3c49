"""Pages and comments name what exists: entries of docs/quirks.md, files, modules, links,
headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import egox_core
from tests.paths import ROOT

from .test_imports import PACKAGES, ROOMS, TREES

NOT_OURS = frozenset({"node_modules", "output", "vendor", "__pycache__"})
CITATION = re.compile(
    r"\bquirks?\s+(\d+(?:(?:,\s*|\s+and\s+|\s+to\s+|\s*[-–]\s*)\d+)*)", re.IGNORECASE
)
PATH_SUFFIXES = (
    ".py",
    ".md",
    ".mjs",
    ".js",
    ".json",
    ".jsonl",
    ".yaml",
    ".toml",
    ".txt",
    ".jpg",
    ".png",
    ".webp",
    ".mp4",
    ".npz",
    ".npy",
    ".safetensors",
)
ELSEWHERE = (
    "output/*",  # what run.py makes
    "ComfyUI/*",
    "comfyui-egox/*",  # the user's own host, and the pack in it
    "data/*",
    "runs/*",
    "out/*",
    "models/diffusion_models/wan*",
    "SET/*",
    "OTHER/*",  # where an example's files lie on the user's disk
    "annotations/*",
    "takes/*",
    "videos/*",
    "depth_maps/*",  # inside recordings, in their own layouts
    "benchmarks/results/gpu_*",  # what `run.py bench gpu` makes on a machine with a GPU
    "clips/",
    "splits/*",
    "rows/",  # inside a data set or report that train_egox.py makes
)
"""Patterns of paths that pages may name although the repository has no such file."""
OF_OTHERS = frozenset(
    {
        "main.py",
        "nodes.py",
        "nodes_depth_anything_3.py",
        "nodes_moge.py",
        "comfyui_version.py",
        "site.py",
    }
)
"""Files of the host and of Python that comments name."""


def files(folder: Path, *suffixes: str) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in NOT_OURS:
            continue
        if path.is_dir():
            yield from files(path, *suffixes)
        elif path.suffix in suffixes:
            yield path


SOURCES = {path: path.read_text(encoding="utf-8") for path in files(ROOT, ".py", ".mjs", ".js")}
NAMES = [f"/{path.relative_to(ROOT).as_posix()}" for path in SOURCES]


def test_every_cited_quirk_has_an_entry():
    page = (ROOT / "docs" / "quirks.md").read_text(encoding="utf-8")
    known = [int(number) for number in re.findall(r"(?m)^(\d+)\. \S", page)]
    assert known == list(range(1, len(known) + 1)) and known
    for path in files(ROOT, ".py", ".md", ".mjs", ".js", ".yaml", ".toml"):
        # A citation may run on in the next comment line.
        text = re.sub(r"\n[ \t]*(?:#|//|\*)?[ \t]*", " ", path.read_text(encoding="utf-8"))
        for citation in CITATION.findall(text):
            for first, last in re.findall(r"(\d+)(?:\s*(?:to|[-–])\s*(\d+))?", citation):
                assert {int(first), int(last or first)} <= set(known), f"{path}: quirks {citation}"


def pages() -> Iterator[tuple[Path, str]]:
    """(file, text) of all that must be true of this checkout; of the changelog, what is newest."""
    docs = sorted((ROOT / "docs").glob("*.md"))
    for path in (*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *docs):
        yield path, path.read_text(encoding="utf-8")
    changelog = ROOT / "CHANGELOG.md"
    yield changelog, re.split(r"(?m)^## ", changelog.read_text(encoding="utf-8"))[1]
    yield ROOT / "egox_core" / "__init__.py", egox_core.__doc__


def dead_names(text: str, file: Path) -> Iterator[str]:
    """Links, paths and modules of a page that lead nowhere; paths count from the root or the page's
    folder."""
    yield from (t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not _is_link_alive(t, file))
    for raw in re.findall(r"[^\s`|\"'(),;]+", re.sub(r"\]\([^)\s]+\)", " ", text)):
        word = raw.lstrip("[").rstrip("].:!?")
        if _is_path(word):
            if not any(fnmatch(word, pattern) for pattern in ELSEWHERE) and not _is_there(
                word, file
            ):
                yield word
        elif (
            re.fullmatch(r"\w+(\.\w+)+", word)
            and word.split(".")[0] in TREES
            and not _is_module(word)
        ):
            yield word


def _is_link_alive(target: str, file: Path) -> bool:
    if re.match(r"[a-z]+:", target):  # another place of the network
        return True
    name, _, anchor = target.partition("#")
    page = file.parent / name if name else file
    if not anchor or not page.exists():
        return page.exists()
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _is_path(word: str) -> bool:
    if "://" in word or not re.search(r"\w", word):
        return False
    if "/" not in word:
        return word.endswith((".py", ".mjs")) and not word.startswith(".")
    first = word.split("/")[0]
    return word.endswith(("/", *PATH_SUFFIXES)) or (
        first.isidentifier() and (ROOT / first).is_dir()
    )


def _is_there(word: str, file: Path) -> bool:
    pattern = re.sub(r"…|\$\w+", "*", word).rstrip("/")
    if "/" not in word:  # a module by its bare name, in whatever room
        return any(name.endswith(f"/{word}") for name in NAMES)
    if "*" in pattern:
        return any(ROOT.glob(pattern))
    return (ROOT / pattern).exists() or (file.parent / pattern).exists()


def _is_module(word: str) -> bool:
    """A package, a module, or a name that one of them says."""
    place = ROOT.joinpath(*word.split("."))
    if place.is_dir() or place.with_suffix(".py").is_file():
        return True
    said = [SOURCES.get(place.parent.with_suffix(".py")), SOURCES.get(place.parent / "__init__.py")]
    return any(text is not None and re.search(rf"\b{place.name}\b", text) for text in said)


def test_pages_name_only_what_exists():
    dead = [
        f"{file.relative_to(ROOT)}: {name}"
        for file, text in pages()
        for name in dead_names(text, file)
    ]
    assert dead == [], "\n".join(dead)


COMMENTS = {".py": re.compile(r'(?s)"""(.*?)"""|(#[^\n]*)')} | dict.fromkeys(
    (".js", ".mjs"), re.compile(r"(?s)/\*(.*?)\*/|(?<!:)(//[^\n]*)")
)


def test_comments_name_only_source_files_that_exist():
    """By a whole path, by one from the room's own folder, or bare."""
    dead = []
    for path, text in SOURCES.items():
        said = "\n".join(map("".join, COMMENTS[path.suffix].findall(text)))
        for name in re.findall(r"(?<![\w./*…>-])(?:\w+/)*\w+\.(?:py|mjs)\b", said):
            here = (ROOT / name).is_file() or any(there.endswith(f"/{name}") for there in NAMES)
            if not here and name not in OF_OTHERS:
                dead.append(f"{path.relative_to(ROOT)}: {name}")
    assert dead == [], "\n".join(dead)


def test_pages_list_every_room_in_the_order_of_imports():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package, rooms in PACKAGES.items():
        chapter = page.split(f"## The rooms of {package}")[1].split("\n## ")[0]
        listed = re.findall(rf"`{package}/(\w+)(?:/|\.py)`", chapter)
        assert listed == list(reversed(rooms))
    listing = [
        line
        for line in egox_core.__doc__.split("The pipeline")[0].splitlines()
        if line.startswith("    ")
    ]
    named = [
        name
        for line in listing
        for name in re.findall(
            r"\w+", line.split(":")[0] if "," in line.split()[0] else line.split()[0]
        )
    ]
    assert tuple(named) == ROOMS
