"""Names in a workflow stay inside the host's folders and the pack's samples."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.refusals import refuses


@pytest.fixture
def paths(pack):
    from egox_pack.nodes.host import paths as host_paths

    return host_paths


def test_files_are_found_where_they_may_lie(paths, comfy_host, tmp_path, monkeypatch):
    inside = comfy_host.input / "takes" / "a"
    inside.mkdir(parents=True)
    (inside / "exo.mp4").write_bytes(b"1")
    (comfy_host.output / "path.json").write_text("{}", "utf-8")
    (comfy_host.models / "x.json").write_text("{}", "utf-8")
    sample = tmp_path / "sample"
    sample.mkdir()
    (sample / "exo.mp4").write_bytes(b"2")
    monkeypatch.setattr(paths, "PACK_ROOT", tmp_path)
    monkeypatch.setattr(paths, "SAMPLE", sample)
    assert paths.resolve("takes/a/exo.mp4", "video") == (inside / "exo.mp4").resolve()
    assert paths.resolve("takes\\a\\exo.mp4", "video") == (inside / "exo.mp4").resolve()
    for quoted in ('"takes/a/exo.mp4"', " 'takes\\a\\exo.mp4' ", '" takes/a/exo.mp4 "'):
        assert paths.resolve(quoted, "video") == (inside / "exo.mp4").resolve()
    (inside / "kids'").mkdir()
    assert paths.resolve("takes/a/kids'", "take", folder_too=True).name == "kids'"
    assert (
        paths.resolve("path.json [output]", "json") == (comfy_host.output / "path.json").resolve()
    )
    assert paths.resolve("sample/exo.mp4", "video").read_bytes() == b"2"
    assert paths.resolve("takes/a", "take", folder_too=True) == inside.resolve()
    assert not any("output" in name for name in paths.list_files((".json",)))
    listed = paths.list_files((".mp4",))
    assert listed[0] == "sample/exo.mp4" and "takes/a/exo.mp4" in listed
    if sys.platform == "linux":  # where names are bytes
        Path(os.fsdecode(os.fsencode(inside) + b"/caf\xe9.mp4")).write_bytes(b"3")
        (bytewise,) = (name for name in paths.list_files((".mp4",)) if "caf" in name)
        assert paths.resolve(bytewise, "video").read_bytes() == b"3"
        assert paths.fingerprint(bytewise) != paths.fingerprint(bytewise + "0")
    before = paths.fingerprint("takes/a/exo.mp4")
    os.utime(inside / "exo.mp4", (1, 1))
    after = paths.fingerprint("takes/a/exo.mp4")
    assert len({before, after, paths.fingerprint("none"), paths.fingerprint("takes/a")}) == 4
    assert all(re.fullmatch(r"[0-9a-f]{32}", digest) for digest in (before, after))


@pytest.mark.parametrize("change", ["remove", "rename", "an older one"])
def test_a_folder_is_told_by_all_of_its_files(paths, comfy_host, change):
    folder = comfy_host.input / change
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"1")
        os.utime(folder / f"{number}.png", (100, 100))
    before = paths.fingerprint(change)
    if change == "remove":
        (folder / "0.png").unlink()
    elif change == "rename":
        (folder / "0.png").rename(folder / "3.png")
    else:
        os.utime(folder / "0.png", (50, 50))
    os.utime(folder, (200, 200))
    assert paths.fingerprint(change) != before


@pytest.mark.parametrize("drive", ["", "\\\\server\\share"])
def test_a_place_outside_is_not_even_looked_at(paths, comfy_host, monkeypatch, drive):
    """The name is absolute. On Windows a look at another server's share logs in there."""

    paths_asked: list[str] = []
    for name in ("exists", "is_file", "is_dir", "stat", "resolve"):
        look = getattr(Path, name)
        monkeypatch.setattr(
            Path,
            name,
            lambda self, *args, _look=look, **more: (
                paths_asked.append(str(self)),
                _look(self, *args, **more),
            )[1],
        )
    name = f"{drive}/evil_place/exo.mp4"
    with refuses():
        paths.resolve(name, "video")
    assert not [path for path in paths_asked if "evil_place" in path]


def test_names_that_lead_out_are_refused(paths, comfy_host, tmp_path):

    outside = tmp_path / "secret.json"
    outside.write_text("{}", "utf-8")
    (comfy_host.input / "link.json").symlink_to(outside)
    (comfy_host.input / "linked").symlink_to(tmp_path, target_is_directory=True)
    for name in (
        "../secret.json",
        "a/../../secret.json",
        "..\\secret.json",
        "link.json",
        "linked/secret.json",
        "../x [output]",
        "sample/../run.py",
    ):
        with refuses("leads out"):
            paths.resolve(name, "json")
    for name, message in (
        ("", "no file name"),
        ("none.json", "not there"),
        ('""', "no file name"),
        (f'"{outside}"', "absolute path.*copy the file"),
        (str(outside), "absolute path.*copy the file"),
        (str(comfy_host.input / "a" / "b.json"), "absolute path.*write 'a/b.json'"),
        ("a\0b", "leads out|expected a file"),
    ):
        with refuses(message):
            paths.resolve(name, "json")
    with refuses("not there"):
        paths.resolve("sample", "json")  # a folder where a file is asked for
    with refuses("leads out"):
        paths.inside(comfy_host.input / "link.json", "json")  # as one beside a video
