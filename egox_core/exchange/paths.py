"""Import and export ego paths of the pose editor in all supported file formats."""

import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ..cameras import CameraModel
from ..errors import EgoXInputError, check_choice
from ..facts import NOTHING_DECLARED
from ..file_names import META
from ..frames import FileFrames, Frames, settle_frames
from ..safe_files import read_json, safe_name, write_json
from ..scene import ego_in_scene
from ..takes import MAX_META_BYTES
from ..trajectory import (
    PoseTrack,
    adapted,
    direction,
    keyframe_track,
    keyframes_of_path,
    of_any_sensor,
)
from ..types import FROM_EDITOR, CameraTrajectory, PointCloud, TakeNotes
from .blender import write_blender
from .camera_files import identify_form, write_chan
from .colmap import write_colmap
from .trajectory_files import read_trajectory, write_trajectory

MAX_FILES = 4


def import_path(
    # A file, or {name: text} (COLMAP: images.txt and cameras.txt).
    source: Path | Mapping[str, str],
    camera: CameraModel,
    clip: Frames,
    scene: PointCloud | None = None,
    up: object = None,  # [3] the world's upward direction; None: -y
    entry: str = "",
    every_nth: int = 0,
    file_frames: FileFrames = "auto",
) -> tuple[dict, str]:
    """Convert a camera path's file, or the texts of its files, to a keyframe document.

    Poses come into the scene's frame; without a scene they keep the file's world.

    Raises:
        EgoXInputError: names that are no plain file names, an unknown form, a path shorter than the
            clip.
    """
    if not isinstance(source, Path):
        with tempfile.TemporaryDirectory(prefix="egox_") as folder:
            main_file = _write_texts(source, Path(folder))
            return import_path(main_file, camera, clip, scene, up, entry, every_nth, file_frames)
    content = None
    if source.suffix.lower() == ".json":
        content = read_json(source, "trajectory file", MAX_META_BYTES)
        if identify_form(content) == "keyframes":
            document = content if isinstance(content, dict) else {"keyframes": content}
            keyframe_track(document, camera, source.name)
            return document, f"{len(document['keyframes'])} keyframes"
    file_trajectory, notes = read_trajectory(
        source,
        camera,
        clip,
        entry=entry,
        lens=False,
        content=content,
        declared=NOTHING_DECLARED.with_arguments(
            {"ego.frames": file_frames, "ego.every_nth": every_nth}
        ),
    )
    trajectory = adapted(file_trajectory, camera=camera)
    camera_remarks = () if scene is None else trajectory.other_exo(*scene.exos)
    ego = trajectory.ego if scene is None else ego_in_scene(scene, trajectory)
    count = min(len(ego), len(clip))
    used_frames = clip.select(slice(count))
    document, note = keyframes_of_path(
        ego.upright_w2c[:count], used_frames, direction(up, "up").tolist()
    )
    note = "; ".join(filter(None, (note, notes.placed, *map(str, camera_remarks))))
    if scene is None and trajectory.ego.world == "take":
        note += "; no scene is loaded, so the poses are in the file's own world"
    return document, note


def _write_texts(files: Mapping[str, str], folder: Path) -> Path:
    """Write texts to files in a folder, and return the path of the main file."""
    for name in files:
        if name in ("", ".", "..") or {"/", "\\"} & set(name):
            raise EgoXInputError(
                "file to import",
                got=repr(name)[:60],
                expected="a plain file name",
                fix="choose the file itself",
            )
    if not 1 <= len(files) <= MAX_FILES:
        raise EgoXInputError(
            "files to import", got=len(files), expected=f"1 to {MAX_FILES}", fix="choose one path"
        )
    paths = [folder / safe_name(name) for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text, "utf-8", errors="replace")
    return next((each_path for each_path in paths if each_path.name == "images.txt"), paths[0])


def trajectory_of_keyframes(
    document: object,
    camera: CameraModel,
    # The frames in use; of a count alone, so many of the scene's, numbered from 0.
    frames: Frames | None,
    # Gives keyframes their world.
    scene: PointCloud | None = None,
) -> CameraTrajectory:
    """Make the ego trajectory that a keyframe document describes.

    Raises:
        EgoXInputError: wrong keys or values.
    """
    if scene is None:
        return keyframe_track(document, camera).trajectory(camera, frames)
    rest_pose = scene.exo.upright.at(0)  # of a path without keyframes: at the exo camera
    track = keyframe_track(document, camera, rest=rest_pose)
    return track.trajectory(camera, settle_frames(frames, scene.frames.from_zero()), exo=scene.exo)


def export_path(
    form: str,
    document: object,
    camera: CameraModel,
    clip: Frames,
    scene: PointCloud | None = None,
    prompt: str = "",
) -> tuple[str, bytes]:
    """Export a keyframe document to a file format.

    Returns:
        file name and content. COLMAP's three files come as a zip, and so does a path with a moving
        exo camera.

    Raises:
        EgoXInputError: unknown form, a bad document.
    """
    check_choice("form of the export", form, EXPORTS)
    trajectory = trajectory_of_keyframes(document, camera, clip, scene)
    name, write = EXPORTS[form]
    with tempfile.TemporaryDirectory(prefix="egox_") as folder:
        target = Path(folder, name)
        write(target, trajectory, document, clip, prompt)
        written_path = target
        exo = trajectory.required_exo
        if form in CAMERA_FORMS and exo.lens is not None and exo.moves:
            exo_trajectory = replace(trajectory, ego=exo)
            write(Path(folder, f"exo_{name}"), exo_trajectory, document, clip, prompt)
            written_path = Path(folder)
        if written_path.is_file():
            return name, written_path.read_bytes()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in written_path.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(written_path).as_posix())
        return f"{name}.zip", buffer.getvalue()


def released_meta(
    trajectory: CameraTrajectory, document: object, clip: Frames, prompt: str
) -> dict:
    """Make the content of a meta.json from an ego path.

    Its poses are numbered by source frame, so that the path begins at frame 0 of the video.
    """
    numbers = torch.arange(clip.last + 1, dtype=torch.float64)
    ego, exo = trajectory.ego, trajectory.required_exo
    rest_pose = ego.upright_w2c[0]  # what a document without keyframes stands for
    track = keyframe_track(document, ego.camera, rest=rest_pose)
    moments = numbers if track.clock == "index" else clip.times_of(numbers)
    poses = track.at(moments)
    content: dict[str, object] = {
        "prompt": prompt,
        "pose_source": FROM_EDITOR,
        "ego_intrinsics": ego.camera.intrinsics.tolist(),
        "ego_extrinsics": poses.tolist(),
        "ego_camera": ego.camera.to_json(),
    }
    if (lens := exo.source_lens) is not None:
        if exo.stands:
            extrinsics = exo.at(0)
        else:
            moments = torch.unique(clip.indices)[: len(exo.w2c)].double()
            track = PoseTrack(w2c=exo.w2c, moments=moments, clock="index", name="exo")
            extrinsics = track.at(numbers)
        content |= {
            "camera_intrinsics": lens.intrinsics.tolist(),
            "camera_extrinsics": extrinsics.tolist(),
            "exo_camera": lens.to_json(),
        }
    return content


EDITOR_NOTES = TakeNotes(source=FROM_EDITOR)
Writer = Callable[[Path, CameraTrajectory, object, Frames, str], None]
EXPORTS: Mapping[str, tuple[str, Writer]] = {
    "keyframes": (
        "egox_keyframes.json",
        lambda path, trajectory, document, *_: write_json(
            path, of_any_sensor(document, trajectory.ego.camera)
        ),
    ),
    "trajectory": (
        "egox_trajectory.json",
        lambda path, trajectory, *_: write_trajectory(path, trajectory, EDITOR_NOTES),
    ),
    "meta": (
        META,
        lambda path, trajectory, document, clip, prompt: write_json(
            path, released_meta(trajectory, document, clip, prompt)
        ),
    ),
    "colmap": (
        "colmap",
        lambda path, trajectory, _, clip, *__: write_colmap(path, trajectory.ego, clip.indices),
    ),
    "blender": (
        "transforms.json",
        lambda path, trajectory, *_: write_blender(path, trajectory.ego),
    ),
    "chan": (
        "ego_camera.chan",
        lambda path, trajectory, _, clip, *__: write_chan(path, trajectory.ego, clip.indices),
    ),
}
CAMERA_FORMS = ("colmap", "blender", "chan")  # forms of a path alone, which an exo camera may have
