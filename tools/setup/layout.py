"""Define the paths of everything that run.py makes, and its error class."""

from pathlib import Path

REPO_ROOT = Path(__file__).absolute().parent.parent.parent
"""Folder of the repository, not resolved, so that a link in a ComfyUI's custom_nodes counts as its
place."""


class Layout:
    """Paths of the folders that run.py makes in a checkout."""

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
    """Error that something needed for the setup is missing, with advice.

    A program that doesn't catch it ends with this message and without a traceback."""
