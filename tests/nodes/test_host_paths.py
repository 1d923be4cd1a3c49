"""Test that file names in a workflow stay inside allowed folders."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.refusals import refuses


@pytest.fixture
def paths_module(pack):
    from egox_pack.nodes.host import paths as host_paths

    return host_paths


def test_files_are_found_in_comfyuis_folders_and_the_samples(
    paths_module, comfy_host, tmp_path, monkeypatch
):
    take_folder, sample_folder = comfy_host.input / "takes" / "a", tmp_path / "sample"
    for folder, content in ((take_folder, b"1"), (sample_folder, b"2")):
        folder.mkdir(parents=True)
        (folder / "exo.mp4").write_bytes(content)
    (comfy_host.output / "path.json").write_text("{}", "utf-8")
    (take_folder / "kids'").mkdir()
    monkeypatch.setattr(paths_module, "PACK_ROOT", tmp_path)
    monkeypatch.setattr(paths_module, "SAMPLE", sample_folder)
    for name, path in (
        ("takes/a/exo.mp4", take_folder / "exo.mp4"),
        (" 'takes\\a\\exo.mp4' ", take_folder / "exo.mp4"),
        ('" takes/a/exo.mp4 "', take_folder / "exo.mp4"),
        ("takes/a/kids'", take_folder / "kids'"),
        ("path.json [output]", comfy_host.output / "path.json"),
        ("sample/exo.mp4", sample_folder / "exo.mp4"),
        ("takes/a", take_folder),
    ):
        assert paths_module.resolve(name, "file", folder_too=True) == path.resolve()
    assert not any("output" in name for name in paths_module.list_files((".json",)))
    listed_names = paths_module.list_files((".mp4",))
    assert listed_names[0] == "sample/exo.mp4" and "takes/a/exo.mp4" in listed_names
    names = ["takes/a/exo.mp4", "none", "takes/a"]
    if sys.platform == "linux":  # where names are bytes
        Path(os.fsdecode(os.fsencode(take_folder) + b"/caf\xe9.mp4")).write_bytes(b"3")
        (undecodable_name,) = (name for name in paths_module.list_files((".mp4",)) if "caf" in name)
        assert paths_module.resolve(undecodable_name, "video").read_bytes() == b"3"
        names += [undecodable_name, undecodable_name + "0"]
    digests = [paths_module.file_fingerprint(name) for name in names]
    os.utime(take_folder / "exo.mp4", (1, 1))
    digests.append(paths_module.file_fingerprint(names[0]))
    assert len(set(digests)) == len(digests)
    assert re.fullmatch(r"[0-9a-f]{32}", digests[-1])


@pytest.mark.parametrize("change", ["remove", "rename", "an older one"])
def test_the_fingerprint_of_a_folder_changes_with_any_of_its_files(
    paths_module, comfy_host, change
):
    folder = comfy_host.input / change
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"1")
        os.utime(folder / f"{number}.png", (100, 100))
    fingerprint_before = paths_module.file_fingerprint(change)
    if change == "remove":
        (folder / "0.png").unlink()
    elif change == "rename":
        (folder / "0.png").rename(folder / "3.png")
    else:
        os.utime(folder / "0.png", (50, 50))
    os.utime(folder, (200, 200))
    assert paths_module.file_fingerprint(change) != fingerprint_before


@pytest.mark.parametrize("drive", ["", "\\\\server\\share"])
def test_a_path_outside_the_folders_is_never_accessed(paths_module, comfy_host, monkeypatch, drive):
    """Check that a refused path causes no disk access."""

    accessed_paths: list[str] = []
    for name in ("exists", "is_file", "is_dir", "stat", "resolve"):
        path_method = getattr(Path, name)
        monkeypatch.setattr(
            Path,
            name,
            lambda self, *args, _look=path_method, **options: (
                accessed_paths.append(str(self)),
                _look(self, *args, **options),
            )[1],
        )
    name = f"{drive}/evil_place/exo.mp4"
    with refuses():
        paths_module.resolve(name, "video")
    assert not [path for path in accessed_paths if "evil_place" in path]


def test_names_that_lead_out_are_refused(paths_module, comfy_host, tmp_path):
    outside_file = tmp_path / "secret.json"
    outside_file.write_text("{}", "utf-8")
    (comfy_host.input / "link.json").symlink_to(outside_file)
    (comfy_host.input / "linked").symlink_to(tmp_path, target_is_directory=True)
    for name, message in (
        ("../secret.json", "leads out"),
        ("a/../../secret.json", "leads out"),
        ("..\\secret.json", "leads out"),
        ("link.json", "leads out"),
        ("linked/secret.json", "leads out"),
        ("../x [output]", "leads out"),
        ("sample/../run.py", "leads out"),
        ("", "no file name"),
        ('""', "no file name"),
        ("none.json", "not there"),
        ("sample", "not there"),  # a folder where a file is asked for
        (f'"{outside_file}"', "absolute path.*copy the file"),
        (str(comfy_host.input / "a" / "b.json"), "absolute path.*write 'a/b.json'"),
        ("a\0b", "leads out|expected a file"),
    ):
        with refuses(message):
            paths_module.resolve(name, "json")
    with refuses("leads out"):
        paths_module.require_inside(comfy_host.input / "link.json", "json")  # as one beside a video
