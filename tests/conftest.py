"""Fixtures that every test may use: where things are, the host in this process, and the pack inside
it."""

import asyncio
import io
import os
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

# Before torch is imported: threads that wait for each other make small tensor operations slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from filelock import FileLock

from tools.rigs.pack_in_process import import_host, load_pack
from tools.setup.environment import Environment
from tools.setup.host import PINNED, find_host, read_version
from tools.setup.layout import Layout, SetupError

REPO_ROOT = Path(__file__).resolve().parent.parent
SHARED = REPO_ROOT.parent / "shared"


@dataclass(frozen=True)
class ComfyHost:
    """The host imported into the test process, with folders of its own."""

    root: Path
    # its base directory: base/input, base/models/loras, ... as ``folder_paths`` sees them
    base: Path

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def models(self) -> Path:
        return self.base / "models"


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Seed torch, so that every test draws the same random tensors, whatever ran before it."""
    torch.manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="cpu",
        help="where tests put their tensors; on another than the CPU (cuda) run those alone that can",
    )


@pytest.fixture(scope="session")
def device(pytestconfig) -> torch.device:
    """Give the device of ``--device``, for tests of what takes tensors of any."""
    return torch.device(pytestconfig.getoption("device"))


@pytest.fixture(scope="session")
def rounding(device) -> float:
    """Give the factor on float32's tolerance on a CPU. A card adds in another order, takes exp and
    log to 2 bits, and our kernel there is held to 1e-5 of the largest value, where a CPU's is 1e-6.
    """
    return 1.0 if device.type == "cpu" else 10.0


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def environment(host_root) -> Environment:
    """Find the host, to run under the Python that runs the tests."""
    try:
        return Environment(find_host(), Path(sys.executable), Layout())
    except SetupError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Find the development data beside the checkout. A user's checkout has none."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data in ../shared, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def add_sound() -> Callable[[Path, np.ndarray, int], None]:
    """Give add_sound(video file, waveform [1, N] -1...1, samples a second), which adds sound to the
    file and keeps its picture."""
    av = pytest.importorskip("av", reason="decodes video")

    def add(video: Path, waveform: np.ndarray, rate: int) -> None:
        silent = io.BytesIO(video.read_bytes())
        with av.open(silent) as source, av.open(str(video), "w") as target:
            picture = target.add_stream_from_template(source.streams.video[0])
            sound = target.add_stream("aac", rate=rate, layout="mono")
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = picture
                    target.mux(packet)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(waveform, np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = rate, 0
            target.mux(sound.encode(frame))
            target.mux(sound.encode(None))

    return add


@pytest.fixture(scope="session")
def read_ply() -> Callable[[IO[bytes]], tuple[np.ndarray, np.ndarray]]:
    """Give read_ply(file) -> (xyz [N, 3] float32, rgb [N, 3] uint8), for a PLY file of positions
    and colours."""
    vertex = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])

    def read(file: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
        header, body = file.read().split(b"end_header\n", 1)
        vertices = np.frombuffer(body, dtype=vertex)
        assert f"element vertex {len(vertices)}\n".encode() in header
        return vertices["xyz"], vertices["rgb"]

    return read


@pytest.fixture(scope="session")
def host_root() -> Path:
    """Find the ComfyUI folder, without importing anything from it."""
    try:
        host = find_host()
    except SetupError as error:
        pytest.fail(str(error))
    if host is None:
        pytest.skip("needs ComfyUI: run the tests with `python3 run.py test`, or set COMFYUI_DIR")
    return host.root


@pytest.fixture(scope="session")
def is_pinned_host(host_root) -> bool:
    """Check for the pinned release, of whose page tests expect more than of an older one's."""
    return read_version(host_root) == PINNED.version


@pytest.fixture(scope="session")
def pinned_host(host_root, is_pinned_host) -> None:
    """Skip tests that hold on one release only: they compare with a table made from it, or with
    what its page can do."""
    if not is_pinned_host:
        pytest.skip(
            f"holds on ComfyUI {PINNED.tag}; this is v{'.'.join(map(str, read_version(host_root)))}"
        )


@pytest.fixture(scope="session")
def comfy_host(host_root, tmp_path_factory) -> ComfyHost:
    """Make the host importable in this process (``import comfy``, ``import folder_paths``), on the
    CPU if there is no GPU."""
    base = tmp_path_factory.mktemp("host_base")
    import_host(host_root, base)
    return ComfyHost(root=host_root, base=base)


@pytest.fixture(scope="session")
def pack(comfy_host) -> ModuleType:
    """Import the pack as the host does: one package, here named ``egox_pack``."""
    return load_pack("egox_pack")


@pytest.fixture(params=["as they are", "blank"])
def wordless(request, monkeypatch) -> bool:
    """Blank all remarks in one of two cases, so that a test shows that nothing else depends on
    their words."""
    if blank := request.param == "blank":
        blanked = property(lambda _: "", lambda *_: None)
        for name, module in list(sys.modules.items()):  # the pack has a copy of the core
            if name.endswith("egox_core.remarks"):
                monkeypatch.setattr(module.Remark, "text", blanked)
    return blank


@pytest.fixture
def awaited() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Give ``awaited(coroutine)``, which runs it in a thread of its own, because the browser tests'
    Playwright leaves an event loop running in the main one."""

    def result(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, coroutine).result()

    return result


@pytest.fixture(scope="session")
def standins(tmp_path_factory) -> Path:
    """Make a models folder with all stand-in weights once for all processes of a run. Tests copy
    from it."""
    from tools.rigs.standins import main

    base_folder = tmp_path_factory.getbasetemp()
    folder = (
        base_folder.parent if "PYTEST_XDIST_WORKER" in os.environ else base_folder
    ) / "standins"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            main(["--all", "--out", str(part)])
            part.rename(folder)
    return folder


ONE_PROCESS = ("browser", "host", "nodes")
"""Folders whose tests share what takes long to start: a server, a browser, the imported host."""


def group(nodeid: str) -> str:
    """Group the tests that stay together if several processes run them: a folder of
    ``ONE_PROCESS``, else a file."""
    file = nodeid.split("::")[0]
    folder = file.split("/")[1]
    return folder if folder in ONE_PROCESS else file


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest groups, so that none is left to one process at the end, and leave slow
    tests to ``run.py test --all``, unless the call selects by marker or names them itself."""
    items.sort(key=lambda item: group(item.nodeid) not in ONE_PROCESS)
    if config.option.device != "cpu":
        elsewhere = [item for item in items if "device" not in item.fixturenames]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if "device" in item.fixturenames]
    device_chosen = (
        os.environ.get("EGOX_TEST_ALL") == "1"
        or config.option.markexpr
        or any("::" in a for a in config.args)
    )
    if device_chosen:
        return
    skip = pytest.mark.skip(reason="slow: run `python3 run.py test --all`")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
