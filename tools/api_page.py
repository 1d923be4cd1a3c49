"""Write docs/api.md, the list of egox_core's public names, from the source files."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .setup.layout import REPO_ROOT

CORE = REPO_ROOT / "egox_core"
PAGE = REPO_ROOT / "docs" / "api.md"
FIRST = ("stages", "take", "types", "errors", "sizes", "progress")
"""Files and rooms that begin the page."""
HEAD = """# API of egox_core

All that files and rooms of `egox_core` hand out. Made by `python3 run.py make api`, not written by
hand.

"""


def write_page() -> str:
    """Write the whole page: those that begin it, then all other rooms."""
    parts = []
    rooms = {path.parent.name for path in CORE.glob("*/__init__.py")}
    for name in (*FIRST, *sorted(rooms - {*FIRST})):
        is_room = (CORE / name).is_dir()
        file = CORE / name / "__init__.py" if is_room else CORE / f"{name}.py"
        tree = ast.parse(file.read_text("utf-8"))
        parts += [
            f"## egox_core.{name}",
            _first_paragraph(ast.get_docstring(tree)),
            *_format_entries(file),
        ]
        for node in tree.body:
            if is_room and isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
                parts += _format_entries(file.with_name(f"{node.module}.py"), names)
    return HEAD + "\n\n".join(filter(None, parts)) + "\n"


def _format_entries(file: Path, names: set[str] | None = None) -> Iterator[str]:
    """Format source and purpose of each of the names, or of all public ones, that a file
    defines."""
    source_text = file.read_text("utf-8")
    for node in ast.parse(source_text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)
        name = getattr(target, "name", getattr(target, "id", "_"))
        if name.startswith("_") if names is None else name not in names:
            continue
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            source = _definition_lines(node, source_text.splitlines())
            docstring = ast.get_docstring(node)
        else:
            source = re.split(r" = .\n", ast.get_source_segment(source_text, node) or "")[:1]
            docstring = ""
        yield "\n".join([f"### {name}", "", "```python", *source, "```"])
        yield _first_paragraph(docstring)


def _definition_lines(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> list[str]:
    """List the source lines of a definition down to its docstring, with fields and methods of a
    class."""
    docstring = node.body[0]
    head_lines = lines[node.lineno - 1 : docstring.lineno - 1]
    if isinstance(node, ast.ClassDef):
        field_lines = [
            member.end_lineno for member in node.body if isinstance(member, ast.AnnAssign)
        ]
        head_lines += filter(None, lines[docstring.end_lineno : max(field_lines, default=0)])
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name[0] != "_":
                head_lines += _definition_lines(member, lines)
    return head_lines


def _first_paragraph(docstring: str | None) -> str:
    """Format a docstring's first paragraph as Markdown."""
    return re.sub(r":\w+:(?=`)", "", (docstring or "").split("\n\n")[0]).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(write_page(), "utf-8")
