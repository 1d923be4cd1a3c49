"""Provide pytest fixtures for all tests."""

import asyncio
import gc
import io
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

# Before torch and OpenCV are imported: threads that wait for each other make small operations slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import numpy as np
import pytest
import torch
from filelock import FileLock

from tests.shipped_files import list_shipped_files
from tools.rigs.pack_in_process import import_host, load_pack
from tools.setup.environment import Environment
from tools.setup.host import PINNED, find_host, read_version
from tools.setup.layout import Layout, SetupError

REPO_ROOT = Path(__file__).resolve().parent.parent
SHARED = REPO_ROOT.parent / "shared"


@dataclass(frozen=True)
class ComfyHost:
    """Folders of the ComfyUI that is imported into the test process."""

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
def seed_torch() -> None:
    """Seed torch before each test, so that random tensors don't depend on the test order."""
    torch.manual_seed(0)


gc.disable()  # until all modules are imported


def pytest_collection_finish() -> None:
    """Leave what was imported out of all later garbage collections, which take a third of a second
    each with it."""
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="cpu",
        help=(
            "where tests put their tensors; on another than the CPU (cuda) run those alone that can"
        ),
    )


@pytest.fixture(scope="session")
def device(pytestconfig) -> torch.device:
    """Provide the torch device that the option ``--device`` selects."""
    return torch.device(pytestconfig.getoption("device"))


@pytest.fixture(scope="session")
def tolerance_factor(device) -> float:
    """Provide the factor by which a GPU's float32 tolerance exceeds a CPU's."""
    return 1.0 if device.type == "cpu" else 10.0


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def environment(host_root) -> Environment:
    """Provide the environment variables for a ComfyUI process."""
    try:
        return Environment(find_host(), Path(sys.executable), Layout())
    except SetupError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """Unpack the files of the Registry's archive, as the Manager does."""
    folder = tmp_path_factory.mktemp("archive") / "egox"
    for name in list_shipped_files(REPO_ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPO_ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Provide the folder of development data, or skip the test if it is missing."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data in ../shared, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def add_sound() -> Callable[[Path, np.ndarray, int], None]:
    """Provide a function that adds a sound track to a video file and keeps its picture."""
    av = pytest.importorskip("av", reason="decodes video")

    def add_to_file(video: Path, waveform: np.ndarray, sample_rate: int) -> None:
        silent_bytes = io.BytesIO(video.read_bytes())
        with av.open(silent_bytes) as source, av.open(str(video), "w") as target:
            picture_stream = target.add_stream_from_template(source.streams.video[0])
            audio_stream = target.add_stream("aac", rate=sample_rate, layout="mono")
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = picture_stream
                    target.mux(packet)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(waveform, np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = sample_rate, 0
            target.mux(audio_stream.encode(frame))
            target.mux(audio_stream.encode(None))

    return add_to_file


@pytest.fixture(scope="session")
def read_ply() -> Callable[[IO[bytes]], tuple[np.ndarray, np.ndarray]]:
    """Provide a function that reads positions [N, 3] and colours [N, 3] from a PLY file."""
    vertex_type = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])

    def read_vertices(file: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
        header, body = file.read().split(b"end_header\n", 1)
        vertices = np.frombuffer(body, dtype=vertex_type)
        assert f"element vertex {len(vertices)}\n".encode() in header
        return vertices["xyz"], vertices["rgb"]

    return read_vertices


@pytest.fixture(scope="session")
def host_root() -> Path:
    """Provide the path of the ComfyUI folder."""
    try:
        host_folder = find_host()
    except SetupError as error:
        pytest.fail(str(error))
    if host_folder is None:
        pytest.skip("needs ComfyUI: run the tests with `python3 run.py test`, or set COMFYUI_DIR")
    return host_folder.root


@pytest.fixture(scope="session")
def is_pinned_host(host_root) -> bool:
    """Check whether the installed ComfyUI is the pinned release."""
    return read_version(host_root) == PINNED.version


@pytest.fixture(scope="session")
def pinned_host(host_root, is_pinned_host) -> None:
    """Skip the test unless the installed ComfyUI is the pinned release."""
    if not is_pinned_host:
        pytest.skip(
            f"holds on ComfyUI {PINNED.tag}; this is v{'.'.join(map(str, read_version(host_root)))}"
        )


@pytest.fixture(scope="session")
def comfy_host(host_root, tmp_path_factory) -> ComfyHost:
    """Make ComfyUI importable in the test process."""
    base_folder = tmp_path_factory.mktemp("host_base")
    import_host(host_root, base_folder)
    return ComfyHost(root=host_root, base=base_folder)


@pytest.fixture(scope="session")
def pack(comfy_host) -> ModuleType:
    """Import the node pack as ComfyUI does."""
    return load_pack("egox_pack")


@pytest.fixture(params=["as they are", "blank"])
def are_remarks_blank(request, monkeypatch) -> bool:
    """Run the test twice: with normal and with empty remark texts."""
    if is_blank := request.param == "blank":
        blank_text = property(lambda _: "", lambda *_: None)
        for name, module in list(sys.modules.items()):  # the pack has a copy of the core
            if name.endswith("egox_core.remarks"):
                monkeypatch.setattr(module.Remark, "text", blank_text)
    return is_blank


@pytest.fixture
def run_coroutine() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Provide a function that runs a coroutine in a separate thread."""

    def run_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, coroutine).result()

    return run_in_thread


@pytest.fixture(scope="session")
def standin_models(tmp_path_factory) -> Path:
    """Write a models folder with small stand-in weights."""
    from tools.rigs.standins import main

    base_folder = tmp_path_factory.getbasetemp()
    folder = (
        base_folder.parent if "PYTEST_XDIST_WORKER" in os.environ else base_folder
    ) / "standins"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            unfinished_folder = folder.with_suffix(".part")
            main(["--all", "--out", str(unfinished_folder)])
            unfinished_folder.rename(folder)
    return folder


ONE_PROCESS_FOLDERS = ("browser", "host", "nodes")
"""Folders whose tests share a server, a browser or the imported host, which start slowly."""


def process_group(nodeid: str) -> str:
    """Name the group of tests that run in the same process."""
    test_file = nodeid.split("::")[0]
    room_folder = test_file.split("/")[1]
    return room_folder if room_folder in ONE_PROCESS_FOLDERS else test_file


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return process_group(nodeid)

    return GroupScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the collected tests by duration, and skip slow tests unless selected."""
    first_groups = [*ONE_PROCESS_FOLDERS, "train"]  # at the end other processes would wait for them

    def sort_key(item: pytest.Item) -> int:
        room_folder = item.nodeid.split("/")[1]
        return first_groups.index(room_folder) if room_folder in first_groups else len(first_groups)

    items.sort(key=sort_key)
    if config.option.device != "cpu":
        cpu_only_items = [item for item in items if "device" not in item.fixturenames]
        config.hook.pytest_deselected(items=cpu_only_items)
        items[:] = [item for item in items if "device" in item.fixturenames]
    includes_slow_tests = (
        os.environ.get("EGOX_TEST_ALL") == "1"
        or config.option.markexpr
        or any("::" in argument for argument in config.args)
    )
    if includes_slow_tests:
        return
    skip_mark = pytest.mark.skip(reason="slow: run `python3 run.py test --all`")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip_mark)
