"""Test safe file access: size limits, no unpickling, zip members, and atomic writing."""

import io
import os
import pickle
import re
import runpy
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from egox_core.archives import open_zip, read_npy_header, unpack_zip
from egox_core.safe_files import (
    atomic_write,
    parse_json,
    read_json,
    read_json_object,
    refuse_pickled,
    replace_folder,
    require_writable,
    safe_name,
    whole_number,
    write_json,
)
from tests.full_disk import limit_file_size
from tests.refusals import refuses


def test_checking_a_writable_folder_leaves_no_files(tmp_path):
    for folder in (tmp_path, tmp_path / "new" / "deeper"):
        require_writable(folder, "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux' own")
@pytest.mark.parametrize("case", ["a file", "a file above", "a full disk", "read-only", "no name"])
def test_unwritable_folder_is_refused_with_the_cause(tmp_path, case):
    """Check that a folder that can't be written gives an error that states the cause."""
    (tmp_path / "file").write_text("x")
    folder, expected_cause = {
        "a file": (tmp_path / "file", "Not a directory"),
        "a file above": (tmp_path / "file" / "out", "Not a directory"),
        "a full disk": (tmp_path / "out", "File too large"),
        "read-only": (Path("/proc/self/out"), "No such file"),
        "no name": (tmp_path / ("x" * 300), "File name too long"),
    }[case]
    with limit_file_size(100 if case == "a full disk" else 10**6):
        place = re.escape(f"out: got '{folder}', where nothing can be written (")
        with refuses(place + expected_cause):
            require_writable(folder, "out")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_too_large_and_invalid_json_is_refused(tmp_path):
    path = tmp_path / "meta.json"
    write_json(path, {"prompt": "ä", "x": [1, 2]})
    assert read_json(path) == {"prompt": "ä", "x": [1, 2]}
    with refuses("at most 0 MB"):
        read_json(path, limit=8)
    path.write_bytes(b"\xef\xbb\xbf[1]")  # a byte order mark, as Windows editors write it
    assert read_json(path) == [1]
    for broken_content in (b"{", b"\xff\xfe\x00", b"[" * 100_000):
        path.write_bytes(broken_content)
        with refuses("not JSON|no Unicode"):
            read_json(path)
    with refuses("not there"):
        read_json(tmp_path / "none.json")
    with refuses("a folder"):
        read_json(tmp_path)
    with refuses("keyframes"):
        parse_json("[1,", "keyframes")
    path.write_bytes(b"[]")
    with refuses("with a list"):
        read_json_object(path, "settings")
    assert (whole_number("007"), whole_number("9" * 5000), whole_number("-1")) == (7, None, None)


def write_zip(path: Path, *members: str | zipfile.ZipInfo, content: bytes = b"1") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../outside.npy",
        "/absolute.npy",
        "..\\outside.npy",
        "C:\\x.npy",
        "a/../../b.npy",
        "nameless",
    ],
)
def test_zip_members_outside_the_folder_are_refused(tmp_path, name):
    path = write_zip(tmp_path / "depth.zip", name)
    path.write_bytes(path.read_bytes().replace(b"nameless", bytes(8)))
    with refuses("tree"), open_zip(path):
        pass


def test_zip_bombs_are_refused(tmp_path):
    path = write_zip(tmp_path / "depth.zip", "00000.npy", content=bytes(4 * 2**20))
    with refuses("unpacking"), open_zip(path, limit=2**20):
        pass
    with open_zip(path) as archive:
        assert archive.namelist() == ["00000.npy"]
    # A header that claims what deflate can't do.
    zip_bytes = path.read_bytes()
    forged_zip_bytes = zip_bytes.replace(
        (4 * 2**20).to_bytes(4, "little"), (2**30).to_bytes(4, "little")
    )
    assert forged_zip_bytes != zip_bytes
    path.write_bytes(forged_zip_bytes)
    with refuses("times"), open_zip(path):
        pass
    path.write_bytes(b"no zip")
    with refuses("expected a zip archive"), open_zip(path):
        pass


def test_pickled_and_damaged_numpy_files_are_refused():
    def read_header(content: bytes):
        return read_npy_header(io.BytesIO(content), "depth", len(content))

    def npy_content(array: np.ndarray) -> bytes:
        np.save(stream := io.BytesIO(), array)
        return stream.getvalue()

    npy_bytes = npy_content(np.arange(6, dtype=np.float16).reshape(2, 3))
    assert read_header(npy_bytes) == ((2, 3), np.dtype(np.float16))
    for content, message in (
        (npy_content(np.array([{"a": 1}], dtype=object)), "pickled"),
        (pickle.dumps([1, 2, 3]), "expected a numpy array"),
        (npy_bytes[:-4], "8 bytes.*with 12 bytes"),
        (npy_bytes + b"1", "13 bytes"),
        (npy_content(np.zeros((2, 3)).T), "column order"),
    ):
        with refuses(message):
            read_header(content)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".bin", ".ckpt", ".pth", ".PT"])
def test_pickled_weights_are_refused_with_the_conversion_command(suffix):
    with refuses(r"save_file: .*weights"):
        refuse_pickled(Path("weights" + suffix), "LoRA")
    refuse_pickled(Path("weights.safetensors"), "LoRA")


def test_conversion_command_writes_safetensors(tmp_path, repo_root, monkeypatch):
    lora_file = tmp_path / "lora.bin"
    tensors = {"a.lora_A.weight": torch.randn(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}
    torch.save({"state_dict": tensors, "step": 3}, lora_file)
    monkeypatch.setattr(sys, "argv", ["", str(lora_file)])

    def exit_code() -> int:
        with pytest.raises(SystemExit) as exit_error:
            runpy.run_path(
                str(repo_root / "tools" / "convert_to_safetensors.py"), run_name="__main__"
            )
        return exit_error.value.code

    assert exit_code() == 0
    converted_tensors = load_file(tmp_path / "lora.safetensors")
    assert converted_tensors.keys() == tensors.keys() and all(
        torch.equal(converted_tensors[k], v) for k, v in tensors.items()
    )
    assert exit_code() == 1  # never overwrites


def test_atomic_write_leaves_the_old_file_on_failure(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with pytest.raises(OSError, match="No space left.*a.txt"), atomic_write(path):
        raise OSError(28, "No space left on device")  # as a file's own write says it
    with atomic_write(path) as temporary_file:
        temporary_file.write_text("done", "utf-8")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic_write(path) as temporary_file:
        temporary_file.write_text("half", "utf-8")
        raise RuntimeError
    assert path.read_text("utf-8") == "done"
    assert len(list(path.parent.iterdir())) == 1
    with pytest.raises(ValueError):
        write_json(path, {"x": float("nan")})
    assert path.read_text("utf-8") == "done"


@pytest.mark.parametrize(
    ("file_name", "expected_name"),
    [
        ("depth.npz", "depth.npz"),
        ("../../etc/passwd", "passwd"),
        ("C:\\takes\\exo.mp4", "exo.mp4"),
        ("con.npz", "_con.npz"),
        ("LPT1", "_LPT1"),
        ("com¹.json", "_com¹.json"),
        ("console.npz", "console.npz"),
        ('a<b>:"|?*.zip', "a_b______.zip"),
        ("name. ", "name"),
        ("..", "_"),
        ("", "_"),
        ("x\0y.npz", "x_y.npz"),
        ("部屋.mp4", "部屋.mp4"),
        ("x" * 400 + ".npz", "x" * 116 + ".npz"),
    ],
)
def test_file_names_are_made_valid_on_every_system(file_name, expected_name):
    assert safe_name(file_name) == expected_name == safe_name(expected_name)


def unpack_and_list(path: Path, **limits: int) -> list[str]:
    folder = path.parent / "out"
    unpack_zip(path, folder, (".npy", ".json"), **{"most_bytes": 2**20, "most_files": 10} | limits)
    return sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )


def test_only_files_of_useful_types_are_unpacked(tmp_path):
    path = write_zip(
        tmp_path / "take.zip",
        "take/",
        "take/depth/0001.npy",
        "take/meta.json",
        "take/run.exe",
        "__MACOSX/take/meta.json",
        "take/.DS_Store",
        "take/.hidden.json",
        "windows\\made.json",
        "e\u0301/macos.json",  # two characters, which are one
    )
    expected_files = [
        "take/depth/0001.npy",
        "take/meta.json",
        "windows/made.json",
        "\u00e9/macos.json",
    ]
    assert unpack_and_list(path) == expected_files


def test_zip_links_and_windows_device_names_are_refused(tmp_path):
    link_info = zipfile.ZipInfo("meta.json")
    link_info.external_attr = 0o120777 << 16
    for number, (member, message) in enumerate(
        (
            (link_info, "a link"),
            ("aux.json", "Windows"),
            ("a /b.json", "Windows"),
            ("nul/b.json", "Windows"),
            ("b?.json", "Windows"),
        )
    ):
        path = write_zip(tmp_path / f"{number}.zip", member)
        with refuses(message):
            unpack_and_list(path)
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.iterdir())) == 5
    with refuses("twice, ignoring case"):
        unpack_and_list(write_zip(tmp_path / "twice.zip", "\u00e9.json", "E\u0301.json"))


def test_zip_contents_are_limited_while_unpacking(tmp_path, monkeypatch):
    with refuses("11 members"):
        unpack_and_list(write_zip(tmp_path / "many.zip", *(f"{i}.npy" for i in range(11))))
    with refuses("unpacking"):
        unpack_and_list(write_zip(tmp_path / "bomb.zip", "a.npy", content=bytes(2**20 + 1)))
    # The sizes in the headers are the stranger's word: here they say nothing of what comes out.
    path = write_zip(tmp_path / "liar.zip", "a.npy", "b.npy", content=bytes(2**20))
    monkeypatch.setattr(
        "egox_core.archives.open_zip", lambda path, label, limit: zipfile.ZipFile(path)
    )
    with refuses("more than its header states"):
        unpack_and_list(path)
    damaged_zip = write_zip(tmp_path / "damaged.zip", "d.npy", content=bytes(range(256)) * 64)
    zip_bytes = bytearray(damaged_zip.read_bytes())
    zip_bytes[60:80] = bytes(20)
    damaged_zip.write_bytes(zip_bytes)
    with refuses("damaged"):
        unpack_and_list(damaged_zip)


def test_replacing_a_folder_succeeds_or_changes_nothing(tmp_path, monkeypatch):
    """Check that a failed folder replacement, as on Windows with open files, keeps the old
    folder."""
    new_folder, old_folder = tmp_path / "new", tmp_path / "old"
    for folder in (new_folder, old_folder):
        folder.mkdir()
        (folder / "file").write_text(folder.name, "utf-8")
    original_replace = os.replace

    for blocked_folder in (old_folder, new_folder):

        def replace_or_raise(
            source: Path, target: Path, blocked_folder: Path = blocked_folder
        ) -> None:
            if Path(source) == blocked_folder:
                raise PermissionError(5, "Access is denied")
            original_replace(source, target)

        monkeypatch.setattr(os, "replace", replace_or_raise)
        with pytest.raises(PermissionError):
            replace_folder(new_folder, old_folder)
        assert (old_folder / "file").read_text("utf-8") == "old"
        assert (new_folder / "file").is_file()
    monkeypatch.undo()
    replace_folder(new_folder, old_folder)
    assert (old_folder / "file").read_text("utf-8") == "new" and list(tmp_path.iterdir()) == [
        old_folder
    ]


def test_numpy_headers_are_parsed_by_one_thread_at_a_time(monkeypatch):
    """Check that a lock prevents concurrent header parsing, which fails in Python 3.11."""
    npy_buffer = io.BytesIO()
    np.save(npy_buffer, np.zeros((3, 4), np.float32))
    npy_bytes = npy_buffer.getvalue()
    original_read = np.lib.format.read_array_header_1_0
    active_changes = []

    def slow_read(stream):
        active_changes.append(+1)
        assert sum(active_changes) == 1
        time.sleep(0.02)
        active_changes.append(-1)
        return original_read(stream)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", slow_read)
    with ThreadPoolExecutor(4) as pool:
        header_futures = [
            pool.submit(read_npy_header, io.BytesIO(npy_bytes), "depth", len(npy_bytes))
            for _ in range(4)
        ]
        assert {header_future.result()[0] for header_future in header_futures} == {(3, 4)} and len(
            active_changes
        ) == 8
