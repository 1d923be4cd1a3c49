"""Start and stop a real ComfyUI server."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from .api_client import ApiClient
from .base_dir import BaseDir
from .environment import Environment
from .layout import SetupError

START_TIMEOUT_S = 180.0


def find_free_port() -> int:
    """Find a loopback port that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_port(port: int) -> int:
    """Refuse a port that another program listens on."""
    with socket.socket() as probe:
        if os.name != "nt":  # there it would let two programs share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise SetupError(
                f"Port {port} can't be used: {error}. Another program (perhaps another ComfyUI) "
                "listens there. Give another --port, or none to have a free one chosen."
            ) from error
    return port


class Server:
    """Run a ComfyUI server in a separate process, as a context manager."""

    def __init__(
        self,
        environment: Environment,
        base: BaseDir,
        log: Path,
        *,
        port: int | None = None,
        arguments: tuple[str, ...] = (),
        variables: dict[str, str] | None = None,
    ) -> None:
        self.environment, self.base, self.log = environment, base, log
        self.port = check_port(port) if port is not None else find_free_port()
        self.arguments = arguments
        self.variables = variables or {}
        self.process: subprocess.Popen | None = None
        self.client = ApiClient(f"http://127.0.0.1:{self.port}")

    @property
    def address(self) -> str:
        return self.client.address

    def command(self) -> list[str]:
        """Build the command that starts ComfyUI.

        Its database is in memory, because it may not write beside the user's ComfyUI."""
        import torch

        device_arguments = [] if torch.cuda.is_available() else ["--cpu"]
        return [
            str(self.environment.python),
            str(self.environment.host.root / "main.py"),
            *device_arguments,
            "--base-directory",
            str(self.base.root),
            "--listen",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
            *self.arguments,
        ]

    def start(self) -> "Server":
        """Start the server and wait until it answers.

        Raises:
            SetupError: it ended, or did not answer in time; the end of its log is in the message.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # The repository must not be on the host's path: its folder `nodes` would hide the host's
        # nodes.py.
        path_variable = {"PYTHONPATH": os.environ.get("EGOX_PACKAGES", "")}
        variables = {
            **self.environment.variables(),
            **path_variable,
            "PYTHONUNBUFFERED": "1",
            **self.variables,
        }
        group_options = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        with open(self.log, "w", encoding="utf-8") as sink:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.environment.host.root,
                env=variables,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                **group_options,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SetupError(
                    f"ComfyUI ended while starting (exit code {self.process.returncode}). The end "
                    f"of {self.log}:\n{self.log_tail()}"
                )
            if self.client.is_up():
                if str(self.base.root) in self.client.arguments():
                    return
                raise SetupError(
                    f"Port {self.port} was taken by another server meanwhile. Give another --port, "
                    "or none to have a free one chosen."
                )
            time.sleep(0.15)
        raise SetupError(
            f"ComfyUI did not answer within {START_TIMEOUT_S:.0f} s. The end of {self.log}:\n"
            f"{self.log_tail()}"
        )

    def log_tail(self, lines: int = 25) -> str:
        text = self.log.read_text("utf-8", errors="replace") if self.log.is_file() else ""
        return "\n".join("  " + line for line in text.splitlines()[-lines:])

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_for_ctrl_c(self) -> None:
        """Wait until the user presses Ctrl-C or the server ends."""
        try:
            while self.is_running():
                time.sleep(0.3)
        except KeyboardInterrupt:
            pass

    def stop(self) -> None:
        """End the server and every process that it started."""
        process = self.process
        self.process = None
        if process is None:
            return
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
            process.wait(timeout=20)
            return
        for stop_signal, wait_limit_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 20.0)):
            try:
                os.killpg(process.pid, stop_signal)  # it leads its own group
            except ProcessLookupError:
                break
            try:
                process.wait(timeout=wait_limit_s)
            except subprocess.TimeoutExpired:
                continue
        process.wait(timeout=20)

    def __enter__(self) -> "Server":
        return self if self.is_running() else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
