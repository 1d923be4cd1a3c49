"""Find files of ComfyUI and of the pack.

A workflow may come from anyone, so a name in it must not reach the rest of the disk: not by
``..``, not by an absolute path, not by a symlink that leads out. Absolute paths are refused even
inside, so that a reviewer has one rule to check and a workflow works on other machines. Only
ComfyUI's own folders and the pack's ``sample/`` are open."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import folder_paths

from ...egox_core.errors import EgoXInputError
from ...egox_core.file_names import DEPTH, HANDS, META
from ...egox_core.frames import Frames
from ...egox_core.safe_files import NO_NAMES

PACK_ROOT = Path(__file__).resolve().parents[2]
SAMPLE = PACK_ROOT / "sample"
LIST_LIMIT = 4000
"""Largest number of files that are read for a drop-down list. Others can still be typed or
uploaded."""
TAKE_FILES = (DEPTH, META, HANDS)
STANDINS = PACK_ROOT / "models"
SMALL_MODEL = PACK_ROOT / "models" / "demo"
MODEL_KINDS = ("diffusion_models", "vae", "loras")


def input_roots() -> list[Path]:
    """List the folders in which media and JSON files are searched, in order."""
    return [
        Path(p)
        for p in (
            folder_paths.get_input_directory(),
            folder_paths.get_output_directory(),
            folder_paths.get_temp_directory(),
        )
    ]


def model_roots() -> list[Path]:
    """List the folders in which model files are searched."""
    return [
        Path(p)
        for kind, (paths, _) in folder_paths.folder_names_and_paths.items()
        if kind != "custom_nodes"
        for p in paths
    ]


def persistent_path(name: str) -> Path:
    """Return the path of a file or folder that survives a restart of ComfyUI, unlike its temp
    folder."""
    return Path(folder_paths.get_user_directory()) / "egox" / name


def resolve(name: str, label: str, *, folder_too: bool = False) -> Path:
    """Find the existing file or folder that a workflow names.

    ``name`` is relative to the input, output or temp folder (also with ComfyUI's "[output]"
    endings), to a model folder, or to the pack if it begins with ``sample/``.

    Raises:
        EgoXInputError: empty, absolute, outside all of them, not there.
    """
    name = name.strip()
    if name[:1] in ('"', "'") and name[-1:] == name[:1]:  # Windows' "Copy as path" adds them
        name = name[1:-1].strip()
    if not name or "\0" in name:
        raise EgoXInputError(
            label,
            got="no file name" if not name else repr(name),
            expected="a file",
            fix="choose one from the list, or upload one to the input folder",
        )
    plain_name, annotated_root = folder_paths.annotated_filepath(name)
    plain_name = plain_name.strip().replace("\\", "/")
    if ".." in PurePosixPath(plain_name).parts:
        raise _outside_error(name, label)
    # By name, before anything is looked at: on Windows, to ask whether //server/share/x exists logs
    # in to that server.
    if plain_name.startswith("/") or Path(plain_name).anchor:
        raise _absolute_path_error(plain_name, label)
    search_roots = [Path(annotated_root)] if annotated_root else [*input_roots(), *model_roots()]
    candidates = [(root, root / plain_name) for root in search_roots]
    if plain_name.split("/")[0] == "sample" and not annotated_root:
        candidates.insert(
            1, (SAMPLE, PACK_ROOT / plain_name)
        )  # a user's own input/sample/… comes first
    is_outside = False
    for root, path in candidates:
        if not _exists(path):
            continue
        if not path.resolve().is_relative_to(root.resolve()):
            is_outside = True
        elif path.is_file() or folder_too:
            return path.resolve()
    if is_outside:
        raise _outside_error(name, label)
    raise EgoXInputError(
        label,
        got=f"{name!r}, which is not there",
        expected="a file in the input folder or the pack's sample folder",
        fix="check the name, or upload the file",
    )


def require_inside(path: Path, label: str) -> Path:
    """Check that a path lies inside ComfyUI's folders after its links are followed.

    Raises:
        EgoXInputError: it leads out of the host's folders (a symlink).
    """
    real_path = path.resolve()
    if any(
        real_path.is_relative_to(root.resolve())
        for root in (*input_roots(), *model_roots(), SAMPLE)
    ):
        return real_path
    raise _outside_error(f"{path.parent.name}/{path.name}", label)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except NO_NAMES:
        return False


def file_fingerprint(name: str | Path) -> str:
    """Compute a digest that changes when a file changes.

    ComfyUI saves it in every video and picture of the graph, where a path would contain the
    user's name, and size and time would identify the file.
    """
    file_state: list[Any] = []
    with contextlib.suppress(EgoXInputError, OSError):  # no file: the digest of its name
        file_path = resolve(name, "file", folder_too=True) if isinstance(name, str) else name
        file_stat = file_path.stat()
        file_state = [file_stat.st_mtime_ns, file_stat.st_size]
        if file_path.is_dir():
            file_state = [
                (entry_path.name, entry_path.stat().st_mtime_ns, entry_path.stat().st_size)
                for entry_path in sorted(file_path.iterdir())
            ]
    file_name = name if isinstance(name, str) else name.name
    # A name may be no Unicode.
    digest = hashlib.sha256(f"{file_name}|{file_state}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def list_files(suffixes: tuple[str, ...]) -> list[str]:
    """List the file names that a node's drop-down list offers."""
    sample_names = [f"sample/{name}" for name in _list_files_below(SAMPLE, suffixes)]
    return sample_names + list(
        _list_files_below(Path(folder_paths.get_input_directory()), suffixes)
    )


def _list_files_below(root: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    file_names = []
    file_count = 0
    for folder, folders, files in os.walk(
        root
    ):  # links to folders are not followed: they may lead in circles
        folders[:] = sorted(file_name for file_name in folders if not file_name.startswith("."))
        file_names += [
            Path(folder, file_name).relative_to(root).as_posix()
            for file_name in files
            if file_name.lower().endswith(suffixes) and not file_name.startswith(".")
        ]
        file_count += len(files)
        if file_count > LIST_LIMIT:
            break
    return iter(sorted(file_names))


def _outside_error(name: str, label: str) -> EgoXInputError:
    return EgoXInputError(
        label,
        got=f"{name!r}, which leads out of the host's folders",
        expected="a file inside the input, output, temp or model folders, or the pack's sample/",
        fix="copy the file into the input folder",
    )


def _absolute_path_error(name: str, label: str) -> EgoXInputError:
    path = Path(name)
    input_folder = input_roots()[0]
    return EgoXInputError(
        label,
        got=f"{name!r}, an absolute path",
        expected="a name relative to the input folder, the same on every machine",
        fix=f"write {path.relative_to(input_folder).as_posix()!r}"
        if path.is_relative_to(input_folder)
        else "copy the file into the input folder and choose it there",
    )


def beside_video(frames: Frames | None, name: str) -> Path | None:
    """Find a file in the exo video's folder, or return None.

    Raises:
        EgoXInputError: it leads out of the host's folders (a symlink).
    """
    source = Frames.video_of(frames)
    if source is None:
        return None
    path = source.parent / name
    return require_inside(path, name) if path.is_file() else None


def add_model_folders(root: Path = SMALL_MODEL) -> None:
    """Add the folder of the pack's small model to ComfyUI's search paths.

    Stand-ins are for tests and would be a trap in the loaders' lists. The folders come last, so
    that a user's file of the same name is found first, and nodes that save to models, which
    write into the first path, never write into the pack.
    """
    for folder, kind in ((root / kind, kind) for kind in MODEL_KINDS):
        listed_folders = {Path(path).resolve() for path in folder_paths.get_folder_paths(kind)}
        if folder.is_dir() and folder.resolve() not in listed_folders:
            folder_paths.add_model_folder_path(kind, str(folder))
