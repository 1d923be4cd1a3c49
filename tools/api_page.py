"""Write docs/api.md, what egox_core hands out, from its sources: python3 run.py make api"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .setup.layout import REPO_ROOT

CORE = REPO_ROOT / "egox_core"
PAGE = REPO_ROOT / "docs" / "api.md"
FILES = ("stages", "take", "types", "errors", "sizes", "progress")
HEAD = """# API of egox_core

All that rooms and files of `egox_core` hand out. Made by `python3 run.py make api`, not written by hand.
"""
DEFINED = (ast.FunctionDef, ast.ClassDef)


def page() -> str:
    """The whole page: files, then rooms."""
    parts = [HEAD]
    for file in [*(CORE / f"{name}.py" for name in FILES), *sorted(CORE.glob("*/__init__.py"))]:
        tree = ast.parse(file.read_text("utf-8"))
        room = file.parent if file.name == "__init__.py" else None
        parts += [f"## egox_core.{(room or file).stem}", _first(ast.get_docstring(tree))]
        homes = (
            [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] if room else []
        )
        for home in homes:
            if home.level == 1:
                parts += _entries(room / f"{home.module}.py", {alias.name for alias in home.names})
        parts += [] if room else _entries(file)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _entries(file: Path, names: set[str] | None = None) -> Iterator[str]:
    """Each of the names, or all public ones, that a file defines: heading, source, purpose."""
    text = file.read_text("utf-8")
    body = ast.parse(text).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)
        name = getattr(target, "name", getattr(target, "id", "_"))
        if name.startswith("_") if names is None else name not in names:
            continue
        if isinstance(node, DEFINED):
            source, about = _head(node, text.splitlines()), ast.get_docstring(node)
        else:
            source = re.sub(r"(?s) = [^\n]*\n.*", "", ast.get_source_segment(text, node) or "")
            about = getattr(getattr(after, "value", None), "value", "")
        yield f"### {name}\n\n```python\n{source}\n```\n\n{_first(about)}"


def _head(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> str:
    """A definition down to its docstring; of a class fields and methods, too."""
    docstring = node.body[0]
    fields = [each.end_lineno for each in node.body if isinstance(each, ast.AnnAssign)]
    shown = lines[node.lineno - 1 : docstring.lineno - 1]
    shown += filter(None, lines[docstring.end_lineno : max(fields, default=0)])
    for each in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(each, ast.FunctionDef) and each.name[0] != "_":
            shown.append(f"    def {each.name}({ast.unparse(each.args)})")
    return "\n".join(shown)


def _first(docstring: object) -> str:
    """The first paragraph, in Markdown."""
    first = docstring.split("\n\n")[0] if isinstance(docstring, str) else ""
    return re.sub(r":\w+:(?=`)", "", first).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
