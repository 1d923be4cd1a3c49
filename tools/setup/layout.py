"""Paths of everything that run.py makes, and run.py's own error."""

from pathlib import Path

REPO_ROOT = Path(__file__).absolute().parent.parent.parent
"""Not resolved: where the pack is linked into a ComfyUI's custom_nodes, the link's place counts."""


class Layout:
    """Folders of one checkout, all below it and ignored by git. Nothing is created by asking."""

    def __init__(self, repo: Path = REPO_ROOT) -> None:
        self.repo = repo
        self.venv = repo / ".venv"
        self.state = repo / ".egox"
        """Everything made by run.py that is no Python environment and no result."""
        self.host = self.state / "host" / "ComfyUI"
        """The host that run.py fetched itself."""
        self.base = self.state / "base"
        """The host's base directory: its models, input, output, custom_nodes and user folders."""
        self.logs = self.state / "logs"
        self.output = repo / "output"
        """Folder of results for the user."""


class SetupError(SystemExit):
    """Something outside this code is not as needed: what, and what to do. A program that lets it
    pass ends with that sentence and no traceback."""
