"""Check that the documentation names only commands, files, modules and links that exist."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import egox_core
from tests.paths import ROOT
from tools.texts.locales import HELP

from .test_imports import SOURCE_TREES

CITATION = re.compile(
    r"\bquirks?\s+(\d+(?:(?:,\s*|\s+and\s+|\s+to\s+|\s*[-–]\s*)\d+)*)", re.IGNORECASE
)
FOLDERS = "|".join(
    (*SOURCE_TREES, "docs", "web", "workflows", "configs", "sample", "locales", "subgraphs")
)
PATH_PATTERN = re.compile(rf"(?<![\w/.<*…-])(?:{FOLDERS})/[\w./*…<>$-]*\w")
MODULE_PATTERN = re.compile(rf"(?<![\w/.])(?:{'|'.join(SOURCE_TREES)})(?:\.\w+)+")
GPU_RESULTS = "benchmarks/results/gpu_"  # what `run.py bench gpu` makes on a machine with a GPU


def tracked_texts(*suffixes: str) -> Iterator[tuple[Path, str]]:
    """Yield the contents of all text files under version control."""
    file_names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for path in (ROOT / name for name in file_names if name.endswith(suffixes)):
        if path.is_file() and "vendor" not in path.parts:
            text = path.read_text("utf-8")
            yield path, re.split(r"(?m)^## ", text)[1] if path.name == "CHANGELOG.md" else text


def test_every_cited_quirk_has_an_entry():
    quirks_text = (ROOT / "docs" / "model-path.md").read_text("utf-8")
    quirk_numbers = [int(number) for number in re.findall(r"(?m)^(\d+)\. \S", quirks_text)]
    assert quirk_numbers == list(range(1, len(quirk_numbers) + 1)) and quirk_numbers
    for path, text in tracked_texts(".py", ".md", ".mjs", ".js", ".yaml", ".toml"):
        # A citation may run on in the next comment line.
        for citation in CITATION.findall(re.sub(r"\n[ \t]*(?:#|//|\*)?[ \t]*", " ", text)):
            for first_number, last_number in re.findall(
                r"(\d+)(?:\s*(?:to|[-–])\s*(\d+))?", citation
            ):
                assert {int(first_number), int(last_number or first_number)} <= set(
                    quirk_numbers
                ), f"{path}: quirks {citation}"


def is_link_alive(target: str, file: Path) -> bool:
    if re.match(r"[a-z]+:", target):  # another place of the network
        return True
    name, _, anchor = target.partition("#")
    # ComfyUI's page takes the pictures of a translated help page from where the English one is.
    page_file = (HELP if HELP in file.parents else file.parent) / name if name else file
    if not anchor or not page_file.exists():
        return page_file.exists()
    headings = re.findall(r"(?m)^#+ (.+)$", page_file.read_text("utf-8"))
    return anchor in {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


def path_exists(name: str) -> bool:
    glob_pattern = re.sub(r"<\w+>|…|\$\w+", "*", name)
    return any(ROOT.glob(glob_pattern)) if "*" in glob_pattern else (ROOT / glob_pattern).exists()


def is_module_or_member(name: str) -> bool:
    """Check whether a dotted name is an importable module or a member of one."""
    module_path = ROOT.joinpath(*name.split("."))
    files = (
        module_path.parent.with_suffix(".py"),
        module_path.parent / "__init__.py",
    )
    source_text = "\n".join(file.read_text("utf-8") for file in files if file.is_file())
    return (
        module_path.is_dir()
        or module_path.with_suffix(".py").is_file()
        or module_path.name in source_text
    )


def test_pages_name_only_what_exists():
    dead_names = []
    for file, text in (
        *tracked_texts(".md"),
        (ROOT / "egox_core" / "__init__.py", egox_core.__doc__),
    ):
        if "results" not in file.parts:
            dead_names += [
                (file, link)
                for link in re.findall(r"\]\(([^)\s]+)\)", text)
                if not is_link_alive(link, file)
            ]
            text_without_links = re.sub(r"\]\([^)\s]+\)", " ", text)
            dead_names += [
                (file, name)
                for name in PATH_PATTERN.findall(text_without_links)
                if not path_exists(name)
            ]
            dead_names += [
                (file, name)
                for name in MODULE_PATTERN.findall(text_without_links)
                if not is_module_or_member(name)
            ]
            dead_names += [
                (file, f"{name} in {source_name}")
                for name, source_name in re.findall(
                    r"`([A-Z]\w+)`\s+(?:in |\()`([\w/]+\.py)`", text
                )
                if not re.search(rf"\b{name}\b", (ROOT / source_name).read_text("utf-8"))
            ]
    assert not [(file, name) for file, name in dead_names if not name.startswith(GPU_RESULTS)]


def test_pip_commands_in_pages_are_quoted_for_every_shell():
    """Check that pip commands in the documentation are quoted so that every shell accepts them."""
    pip_commands = [
        pip_command
        for _, text in tracked_texts(".md")
        for pip_command in re.findall(r"pip install [^`\n]+", text)
    ]
    unquoted_pattern = re.compile(r"'|[\[<>](?![^\"]*\")")
    assert pip_commands and not [
        pip_command for pip_command in pip_commands if unquoted_pattern.search(pip_command)
    ]


def test_comments_name_only_source_files_that_exist():
    comment_pattern = re.compile(r'(?s)"""(.*?)"""|(?m:#(.*)$)|/\*(.*?)\*/|(?m:(?<!:)//(.*)$)')
    dead_names = [
        (path, name)
        for path, text in tracked_texts(".py", ".mjs", ".js")
        for comment in comment_pattern.findall(text)
        for name in PATH_PATTERN.findall("".join(comment))
        if name.endswith((".py", ".mjs", ".js")) and not path_exists(name)
    ]
    assert not dead_names


class Definition(NamedTuple):
    """Docstring of a module, class or function, and the names that it may describe."""

    name: str  # "": the module
    docstring: str
    arguments: frozenset[str]  # of a class its fields, and what its functions take


class PythonFile(NamedTuple):
    text: str
    definitions: list[Definition]
    names: set[str]  # that it defines, imports or sets


DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def python_files() -> dict[Path, PythonFile]:
    """Read what all tracked Python files define, once for all tests."""
    files = {}
    for path, text in tracked_texts(".py"):
        tree = ast.parse(text)
        files[path] = file = PythonFile(text, [], set())
        file.definitions.append(Definition("", ast.get_docstring(tree) or "", frozenset()))
        for node in ast.walk(tree):
            if isinstance(node, DEFINITIONS):
                file.names.add(node.name)
                docstring = ast.get_docstring(node) or ""
                arguments = argument_names(node) if "Args:" in docstring else ()
                file.definitions.append(Definition(node.name, docstring, frozenset(arguments)))
            elif isinstance(node, ast.arg):
                file.names.add(node.arg)
            elif isinstance(node, ast.alias):
                file.names.update((*node.name.split("."), node.asname or node.name))
            elif isinstance(getattr(node, "ctx", None), ast.Store):
                file.names.add(getattr(node, "id", getattr(node, "attr", "")))
    return files


def argument_names(definition: ast.AST) -> set[str]:
    return {part.arg for part in ast.walk(definition) if isinstance(part, ast.arg)} | {
        part.target.id
        for part in definition.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }


def test_docstrings_have_no_semicolon_and_no_question_word_first():
    """Check that docstrings contain no semicolon and start with no question word."""
    first_paragraphs = [
        (path, definition.docstring.split("\n\n")[0])
        for path, file in python_files().items()
        for definition in file.definitions
    ]
    assert not [
        (path, paragraph)
        for path, paragraph in first_paragraphs
        if ";" in paragraph or paragraph.startswith(("(", "[", "What ", "How "))
    ]


def test_docstrings_describe_only_arguments_that_exist():
    sections = [
        (path, definition, section[1])
        for path, file in python_files().items()
        for definition in file.definitions
        if (section := re.search(r"(?m)^Args:\n((?: {4}.*\n?|\n)+)", definition.docstring))
    ]
    assert not [
        (path, definition.name, name)
        for path, definition, section in sections
        for described in re.findall(r"(?m)^ {4}(\w[\w, ]*):", section)
        for name in described.split(", ")
        if name not in definition.arguments
    ]


def test_docstrings_refer_only_to_names_that_exist():
    """Check that a reference names something of its file or, with a dot, of any file."""
    files = python_files()
    module_names = {name for path in files for name in (path.stem, path.parent.name)}
    all_names = module_names.union(*(file.names for file in files.values()))
    assert not [
        (path, name)
        for path, file in files.items()
        for name in re.findall(r":(?:data|func|meth|attr|class|mod):`~?([\w.]+)`", file.text)
        if name.split(".")[-1] not in (all_names if "." in name else file.names | module_names)
    ]


def test_docstrings_of_exported_names_are_in_google_form():
    """Check by ruff that the docstrings of public names have Google's form."""
    exported_names = {ROOT / "egox_core" / f"{name}.py": None for name in ("stages", "take")}
    for init_file in (ROOT / "egox_core").glob("*/__init__.py"):
        for node in ast.parse(init_file.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                names_of_file = exported_names.setdefault(
                    init_file.parents[node.level - 1] / f"{node.module}.py", set()
                )
                names_of_file.update(alias.name for alias in node.names)
    ruff_command = (
        "-m ruff check --isolated --select=D --ignore=D105,D107,D417 --output-format=json".split()
    )
    google_convention = '--config=lint.pydocstyle.convention="google"'
    ruff_result = subprocess.run(
        [sys.executable, *ruff_command, google_convention, *exported_names], stdout=subprocess.PIPE
    )
    ruff_faults = json.loads(ruff_result.stdout)
    for path, names_of_file in exported_names.items():
        definition_lines = [
            range(node.lineno, node.end_lineno + 1)
            for node in ast.parse(path.read_text("utf-8")).body
            if getattr(node, "name", None) and (names_of_file is None or node.name in names_of_file)
        ]
        exported_faults = [
            (ruff_fault["location"]["row"], ruff_fault["message"])
            for ruff_fault in ruff_faults
            if Path(ruff_fault["filename"]) == path
            and any(ruff_fault["location"]["row"] in line_range for line_range in definition_lines)
        ]
        assert not exported_faults, f"{path}: {exported_faults}"


def test_every_weight_that_a_graph_links_has_a_size_in_the_message_of_missing_files():
    page_text = (ROOT / "web" / "js" / "missing_files.mjs").read_text("utf-8")
    size_by_stem = dict(re.findall(r'(?m)^ +"?([\w.]+)"?: \[([\d.]+), "\w+", ', page_text))
    linked_names = {
        name
        for path, text in tracked_texts(".json")
        if "workflows" in path.parts
        for name in re.findall(r"https://huggingface\.co/[\w./-]+/([\w.-]+)\.safetensors", text)
    }
    assert linked_names
    for name in linked_names:
        sizes = [float(size) for stem, size in size_by_stem.items() if name.startswith(stem)]
        assert len(sizes) == 1 and sizes[0] > 0, name
