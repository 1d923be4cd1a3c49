"""Pages and comments name what exists: entries of docs/quirks.md, files, modules, links, headings."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import egox_core
from tests.paths import ROOT
from tools.texts.locales import HELP

from .test_imports import TREES

CITATION = re.compile(
    r"\bquirks?\s+(\d+(?:(?:,\s*|\s+and\s+|\s+to\s+|\s*[-–]\s*)\d+)*)", re.IGNORECASE
)
OURS = "|".join((*TREES, "docs", "web", "workflows", "configs", "sample", "locales", "subgraphs"))
PATH = re.compile(rf"(?<![\w/.<*…-])(?:{OURS})/[\w./*…<>$-]*\w")
MODULE = re.compile(rf"(?<![\w/.])(?:{'|'.join(TREES)})(?:\.\w+)+")
MADE = "benchmarks/results/gpu_"  # what `run.py bench gpu` makes on a machine with a GPU


def texts(*suffixes: str) -> Iterator[tuple[Path, str]]:
    """Yield the text of all tracked files, and of the changelog only the newest part."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for path in (ROOT / name for name in listed if name.endswith(suffixes)):
        if path.is_file() and "vendor" not in path.parts:
            text = path.read_text("utf-8")
            yield path, re.split(r"(?m)^## ", text)[1] if path.name == "CHANGELOG.md" else text


def test_every_cited_quirk_has_an_entry():
    page = (ROOT / "docs" / "quirks.md").read_text("utf-8")
    numbers = [int(number) for number in re.findall(r"(?m)^(\d+)\. \S", page)]
    assert numbers == list(range(1, len(numbers) + 1)) and numbers
    for path, text in texts(".py", ".md", ".mjs", ".js", ".yaml", ".toml"):
        # A citation may run on in the next comment line.
        for citation in CITATION.findall(re.sub(r"\n[ \t]*(?:#|//|\*)?[ \t]*", " ", text)):
            for first, last in re.findall(r"(\d+)(?:\s*(?:to|[-–])\s*(\d+))?", citation):
                assert {int(first), int(last or first)} <= set(numbers), (
                    f"{path}: quirks {citation}"
                )


def is_link_alive(target: str, file: Path) -> bool:
    if re.match(r"[a-z]+:", target):  # another place of the network
        return True
    name, _, anchor = target.partition("#")
    # ComfyUI's page takes the pictures of a translated help page from where the English one is.
    page = (HELP if HELP in file.parents else file.parent) / name if name else file
    if not anchor or not page.exists():
        return page.exists()
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def is_there(name: str) -> bool:
    pattern = re.sub(r"<\w+>|…|\$\w+", "*", name)
    return any(ROOT.glob(pattern)) if "*" in pattern else (ROOT / pattern).exists()


def is_module(name: str) -> bool:
    """Check that a name is a package, a module, or defined in one of them."""
    place = ROOT.joinpath(*name.split("."))
    files = (
        place.parent.with_suffix(".py"),
        place.parent / "__init__.py",
    )
    sources = "\n".join(file.read_text("utf-8") for file in files if file.is_file())
    return place.is_dir() or place.with_suffix(".py").is_file() or place.name in sources


def test_pages_name_only_what_exists():
    dead = []
    for file, text in (*texts(".md"), (ROOT / "egox_core" / "__init__.py", egox_core.__doc__)):
        if "results" not in file.parts:
            dead += [
                (file, t)
                for t in re.findall(r"\]\(([^)\s]+)\)", text)
                if not is_link_alive(t, file)
            ]
            plain = re.sub(r"\]\([^)\s]+\)", " ", text)
            dead += [(file, name) for name in PATH.findall(plain) if not is_there(name)]
            dead += [(file, name) for name in MODULE.findall(plain) if not is_module(name)]
    assert not [(file, name) for file, name in dead if not name.startswith(MADE)]


def test_installs_of_the_pages_are_quoted_for_every_shell():
    """Windows' cmd takes single quotes for part of the name, a bare > for a file to write to."""
    lines = [line for _, text in texts(".md") for line in re.findall(r"pip install [^`\n]+", text)]
    wrong = re.compile(r"'|[\[<>](?![^\"]*\")")
    assert lines and not [line for line in lines if wrong.search(line)]


def test_comments_name_only_source_files_that_exist():
    comments = re.compile(r'(?s)"""(.*?)"""|(?m:#(.*)$)|/\*(.*?)\*/|(?m:(?<!:)//(.*)$)')
    dead = [
        (path, name)
        for path, text in texts(".py", ".mjs", ".js")
        for comment in comments.findall(text)
        for name in PATH.findall("".join(comment))
        if name.endswith((".py", ".mjs", ".js")) and not is_there(name)
    ]
    assert not dead


def test_docstrings_say_one_thing_at_a_time():
    """Ruff's D401 checks the verb. A semicolon is a second sentence, or a comment at its line."""
    faults = []
    for path, text in texts(".py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first_paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
                if ";" in first_paragraph or first_paragraph.startswith(
                    ("(", "[", "What ", "How ")
                ):
                    faults.append(f"{path.relative_to(ROOT)}: {first_paragraph}")
    assert not faults


def test_docstrings_of_handed_out_names_are_in_google_form():
    """By ruff's pydocstyle, for the names that rooms of the core hand out. An argument that the
    signature explains needs no line."""
    handed = {ROOT / "egox_core" / f"{name}.py": None for name in ("stages", "take", "types")}
    for face in (ROOT / "egox_core").glob("*/__init__.py"):
        for node in ast.parse(face.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                names = handed.setdefault(face.with_name(f"{node.module}.py"), set())
                names.update(alias.name for alias in node.names)
    command = (
        "-m ruff check --isolated --select=D --ignore=D105,D107,D417 --output-format=json".split()
    )
    google = '--config=lint.pydocstyle.convention="google"'
    done = subprocess.run([sys.executable, *command, google, *handed], stdout=subprocess.PIPE)
    faults = json.loads(done.stdout)
    for path, names in handed.items():
        lines = [
            range(node.lineno, node.end_lineno + 1)
            for node in ast.parse(path.read_text("utf-8")).body
            if getattr(node, "name", None) and (names is None or node.name in names)
        ]
        wrong = [
            (fault["location"]["row"], fault["message"])
            for fault in faults
            if Path(fault["filename"]) == path
            and any(fault["location"]["row"] in part for part in lines)
        ]
        assert not wrong, f"{path}: {wrong}"
