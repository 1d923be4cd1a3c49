"""Files of the host and of the pack: names in a workflow to paths, what is beside the exo video,
model folders.

A workflow comes from anywhere, so a name in it must not reach the rest of the disk: not by ``..``,
not by an absolute path (refused even where it lies inside, so that a reviewer has one rule to check
and a workflow works on the next machine, too), not by a symlink that leads out. Only the host's own
folders and the pack's ``sample/`` are open to it."""

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
"""Files looked at for a drop-down list; an input folder with more is still usable by typing or
uploading."""
TAKE_FILES = (DEPTH, META, HANDS)
STANDINS, SMALL_MODEL = PACK_ROOT / "models", PACK_ROOT / "models" / "demo"
MODEL_KINDS = ("diffusion_models", "vae", "loras")


def input_roots() -> list[Path]:
    """List the folders that media and JSON may be in, in the order of search."""
    return [
        Path(p)
        for p in (
            folder_paths.get_input_directory(),
            folder_paths.get_output_directory(),
            folder_paths.get_temp_directory(),
        )
    ]


def model_roots() -> list[Path]:
    """List the host's model folders, extra ones included, but not other packs' own files, settings
    among them."""
    return [
        Path(p)
        for kind, (paths, _) in folder_paths.folder_names_and_paths.items()
        if kind != "custom_nodes"
        for p in paths
    ]


def kept_path(name: str) -> Path:
    """Place a file or folder of the pack's own where it outlives a restart: the host empties its
    temp folder when it starts."""
    return Path(folder_paths.get_user_directory()) / "egox" / name


def resolve(name: str, what: str, *, folder_too: bool = False) -> Path:
    """Find the existing file (or folder) that ``name`` stands for, with ``what`` as its name in
    errors.

    ``name`` is relative to the input, output or temp folder (with the host's "[output]" endings
    too), to a model folder, or to the pack if it begins with ``sample/``.

    Raises:
        EgoXInputError: empty, absolute, outside all of them, not there.
    """
    name = name.strip()
    if name[:1] in ('"', "'") and name[-1:] == name[:1]:  # Windows' "Copy as path" adds them
        name = name[1:-1].strip()
    if not name or "\0" in name:
        raise EgoXInputError(
            what,
            got="no file name" if not name else repr(name),
            expected="a file",
            fix="choose one from the list, or upload one to the input folder",
        )
    plain_name, annotated = folder_paths.annotated_filepath(name)
    plain_name = plain_name.strip().replace("\\", "/")
    if ".." in PurePosixPath(plain_name).parts:
        raise _outside(name, what)
    # By name, before anything is looked at: on Windows, to ask whether //server/share/x exists logs
    # in to that server.
    if plain_name.startswith("/") or Path(plain_name).anchor:
        raise _absolute(plain_name, what)
    roots = [Path(annotated)] if annotated else [*input_roots(), *model_roots()]
    candidates = [(root, root / plain_name) for root in roots]
    if plain_name.split("/")[0] == "sample" and not annotated:
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
        raise _outside(name, what)
    raise EgoXInputError(
        what,
        got=f"{name!r}, which is not there",
        expected="a file in the input folder or the pack's sample folder",
        fix="check the name, or upload the file",
    )


def inside(path: Path, what: str) -> Path:
    """Check a path that the pack itself put together: once its links are followed, it must lie
    inside.

    Raises:
        EgoXInputError: it leads out of the host's folders (a symlink).
    """
    real = path.resolve()
    if any(
        real.is_relative_to(root.resolve()) for root in (*input_roots(), *model_roots(), SAMPLE)
    ):
        return real
    raise _outside(f"{path.parent.name}/{path.name}", what)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except NO_NAMES:
        return False


def fingerprint(name: str | Path) -> str:
    """Digest that changes when the file behind ``name`` (or at that path) does.

    The host saves it in every video and picture of the graph, where a path would tell the user's
    name, and a size and time which file it was.
    """
    file_state: list[Any] = []
    with contextlib.suppress(EgoXInputError, OSError):  # no file: the digest of its name
        path = resolve(name, "file", folder_too=True) if isinstance(name, str) else name
        state = path.stat()
        file_state = [state.st_mtime_ns, state.st_size]
        if path.is_dir():
            file_state = [
                (p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(path.iterdir())
            ]
    own_name = name if isinstance(name, str) else name.name
    # A name may be no Unicode.
    digest = hashlib.sha256(f"{own_name}|{file_state}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def list_files(suffixes: tuple[str, ...]) -> list[str]:
    """List names for a drop-down list: the pack's samples, the input folder with its sub-folders."""
    samples = [f"sample/{name}" for name in _walk(SAMPLE, suffixes)]
    return samples + list(_walk(Path(folder_paths.get_input_directory()), suffixes))


def _walk(root: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    names, seen_count = [], 0
    for folder, folders, files in os.walk(
        root
    ):  # links to folders are not followed: they may lead in circles
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        names += [
            Path(folder, f).relative_to(root).as_posix()
            for f in files
            if f.lower().endswith(suffixes) and not f.startswith(".")
        ]
        seen_count += len(files)
        if seen_count > LIST_LIMIT:
            break
    return iter(sorted(names))


def _outside(name: str, what: str) -> EgoXInputError:
    return EgoXInputError(
        what,
        got=f"{name!r}, which leads out of the host's folders",
        expected="a file inside the input, output, temp or model folders, or the pack's sample/",
        fix="copy the file into the input folder",
    )


def _absolute(name: str, what: str) -> EgoXInputError:
    path = Path(name)
    inputs = input_roots()[0]
    return EgoXInputError(
        what,
        got=f"{name!r}, an absolute path",
        expected="a name relative to the input folder, the same on every machine",
        fix=f"write {path.relative_to(inputs).as_posix()!r}"
        if path.is_relative_to(inputs)
        else "copy the file into the input folder and choose it there",
    )


def beside_video(frames: Frames, name: str) -> Path | None:
    """Find the file ``name`` in the folder of the exo video, if it is there.

    Raises:
        EgoXInputError: it leads out of the host's folders (a symlink).
    """
    if frames.source is None:
        return None
    path = Path(frames.source).parent / name
    return inside(path, name) if path.is_file() else None


def add_model_folders(root: Path = SMALL_MODEL) -> None:
    """Append the small model's folders to the host's search paths, once however often it is called.

    The stand-ins are for tests: in the loaders' lists of other graphs they would be a trap. The
    folders go to the end, so that a file of the same name in the user's own folders wins, and "save
    to models" nodes, which write into the first path, never write into the pack.
    """
    for folder, kind in ((root / kind, kind) for kind in MODEL_KINDS):
        listed = {Path(path).resolve() for path in folder_paths.get_folder_paths(kind)}
        if folder.is_dir() and folder.resolve() not in listed:
            folder_paths.add_model_folder_path(kind, str(folder))
