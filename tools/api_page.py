"""Write docs/api.md, the list of egox_core's public names, from the source files."""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from .setup.layout import REPO_ROOT

CORE = REPO_ROOT / "egox_core"
PAGE = REPO_ROOT / "docs" / "api.md"
PUBLIC = {
    "stages": "load_clip align path adapt_path scene prior condition judge Clip Judgement",
    "take": "load_take Take.read_exo,frames,facts",
    "takes": "read_meta",
    "types": (
        "FrameSelection TakeMeta.exo_camera DepthVideo.frames PointCloud.frames,points "
        "PointSet CameraTrajectory.frames EgoPrior.depth Canvas GgaGeometry.tokens"
    ),
    "cameras": ("CameraModel.from_intrinsics,pinhole CameraPath.of_exo,camera,pose,at"),
    "frames": "Frames.of_count,timed,stated",
    "prior": "PRIOR_PRESETS",
    "wan": "Encoders.encode,decode,embed Conditioned.model_input",
    "gga": "GgaOptions gga_attention gga_geometry",
    "scene": "viewer_ply",
    "remarks": "Remark StageReport.text",
    "errors": "EgoXInputError",
}
"""Names that stay, by file or room: the stages, what README, examples and pages use beside them,
and the payloads that these take and return, each with the methods behind its dot."""
HEAD = """# API of egox_core

For whoever calls EgoX from Python. These names, with their parameters and fields, stay as they are
between minor versions; all else in `egox_core` may change. Begin with [docs/examples](examples).
An `Array` is a numpy array or a torch tensor. Made by `python3 run.py make api`, not by hand.

"""


def write_page() -> str:
    """Write the whole page, in the order of PUBLIC."""
    parts = []
    for name, public_names in PUBLIC.items():
        is_room = (CORE / name).is_dir()
        file = CORE / name / "__init__.py" if is_room else CORE / f"{name}.py"
        parts.append(f"## egox_core.{name}")
        for entry in public_names.split():
            public_name, _, methods = entry.partition(".")
            defining_file = _defining_file(file, public_name)
            parts += _format_entry(defining_file, public_name, methods.split(","))
    return HEAD + "\n\n".join(filter(None, parts)) + "\n"


def _defining_file(file: Path, name: str) -> Path:
    """Find the file that defines a name which ``file`` defines or imports from its room."""
    for node in ast.parse(file.read_text("utf-8")).body:
        is_imported = isinstance(node, ast.ImportFrom) and name in {a.name for a in node.names}
        if is_imported and node.level == 1 and file.name == "__init__.py":
            return file.with_name(f"{node.module}.py")
    return file


def _format_entry(file: Path, public_name: str, methods: list[str]) -> Iterator[str]:
    """Format source and purpose of a name that a file defines, with some methods of a class.

    Raises:
        KeyError: it defines no such name.
    """
    source_text = file.read_text("utf-8")
    for node in ast.parse(source_text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)
        if getattr(target, "name", getattr(target, "id", "_")) == public_name:
            break
    else:
        raise KeyError(public_name)
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        source = _definition_lines(node, source_text.splitlines(), methods)
        docstring = ast.get_docstring(node)
    else:
        source = re.split(r" = .\n", ast.get_source_segment(source_text, node) or "")[:1]
        docstring = ""
    yield "\n".join([f"### {public_name}", "", "```python", *source, "```"])
    yield _first_paragraph(docstring)


def _definition_lines(
    node: ast.FunctionDef | ast.ClassDef, lines: list[str], methods: Collection[str] = ()
) -> list[str]:
    """List the source lines of a definition down to its docstring, with the fields of a class and
    the heads of some of its methods."""
    docstring = node.body[0]
    head_lines = lines[node.lineno - 1 : docstring.lineno - 1]
    if isinstance(node, ast.ClassDef):
        field_lines = [
            member.end_lineno
            for member in node.body
            if isinstance(member, ast.AnnAssign) and "init=False" not in ast.unparse(member)
        ]
        head_lines += filter(None, lines[docstring.end_lineno : max(field_lines, default=0)])
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name in methods:
                head_lines += _definition_lines(member, lines)
    return head_lines


def _first_paragraph(docstring: str | None) -> str:
    """Format a docstring's first paragraph as Markdown."""
    return re.sub(r":\w+:(?=`)", "", (docstring or "").split("\n\n")[0]).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(write_page(), "utf-8")
