"""Where everything that run.py makes lies (below the repository, all of it ignored by git), and run.py's own error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).absolute().parent.parent.parent
"""Not resolved: when the pack is linked into a ComfyUI's custom_nodes, the link's place is what counts."""
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")


@dataclass(frozen=True)
class Layout:
    """Folders of one checkout. Nothing is created by asking."""

    repo: Path = REPO_ROOT

    @property
    def venv(self) -> Path:
        return self.repo / ".venv"

    @property
    def state(self) -> Path:
        """Everything made by run.py that is no Python environment and no result."""
        return self.repo / ".egox"

    @property
    def host(self) -> Path:
        """The host that run.py fetched itself."""
        return self.state / "host" / "ComfyUI"

    @property
    def hosts(self) -> Path:
        """Other releases and frontends, each with its layer of packages: for the tests."""
        return self.state / "hosts"

    @property
    def base(self) -> Path:
        """The host's base directory: its models, input, output, custom_nodes and user folders."""
        return self.state / "base"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def output(self) -> Path:
        """Where results are left for the user."""
        return self.repo / "output"


class SetupError(RuntimeError):
    """Something outside this code is not as needed; the message says what, and what to do. No traceback is shown."""
