"""Ego paths into and out of the pose editor, in any of the file forms that the pack reads or
writes."""

import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..cameras.model import CameraModel, camera_to_json, intrinsics_matrix
from ..errors import NO_NUMBERS, EgoXInputError
from ..file_names import META
from ..frozen import frozen
from ..prior.render import ego_from_scene
from ..safe_files import read_json, safe_name, write_json
from ..scene.moving_camera import is_moving
from ..takes.blender import write_blender
from ..takes.colmap import write_colmap
from ..takes.exo_paths import write_chan
from ..takes.trajectory_files import read_trajectory, write_trajectory
from ..trajectory.keyframes import (
    DEFAULT_UP,
    fit_keyframes,
    keyframe_error,
    keyframe_track,
    pose_angles,
    upright_from_sensor,
)
from ..trajectory.path import interpolate_poses, trajectory_from_track, with_camera
from ..trajectory.poses import FARTHEST, camera_centre
from ..types import UNTIMED_FPS, CameraTrajectory, FrameSelection, PointCloud
from .queries import scene_rest

MAX_FILES = 4
MAX_CLIP_FRAMES, MAX_SOURCE_FRAMES = 20_000, 200_000
"""Bounds of what a page may ask for: a meta.json has a pose for every source frame (two hours at 30
a second)."""


@frozen
class ClipMoments:
    """The frames of the clip in use, by number and time alone."""

    indices: Tensor  # [T] float64, of the source video
    times_s: Tensor  # [T] float64

    def __len__(self) -> int:
        return len(self.indices)

    def selection(self) -> FrameSelection:
        """As a selection of frames. Poses need no picture sizes; they are set to 1 x 1."""
        step = float(self.times_s[-1] - self.times_s[0]) / max(1, len(self) - 1)
        fps = 1 / step if step > 0 else UNTIMED_FPS
        return FrameSelection(
            source_indices=self.indices.long(),
            times_s=self.times_s,
            source_fps=fps,
            fps=fps,
            source_size=(1, 1),
            size=(1, 1),
            resize="crop",
        )


def clip_moments(indices: object, times_s: object) -> ClipMoments:
    """Moments of a clip from what a page sent.

    Raises:
        EgoXInputError: no numbers, different lengths, too many, not rising, frames before 0 or
            beyond all reason.
    """
    try:
        numbers = [torch.as_tensor(v, dtype=torch.float64) for v in (indices, times_s)]
    except NO_NUMBERS as error:
        raise EgoXInputError(
            "moments of the clip",
            got="no lists of numbers",
            expected="indices and times_s",
            fix="send one of each per frame",
        ) from error
    shapes = {tuple(n.shape) for n in numbers}
    if (
        len(shapes) != 1
        or numbers[0].ndim != 1
        or not 1 <= len(numbers[0]) <= MAX_CLIP_FRAMES
        or not all((n.abs() <= FARTHEST).all() and (n[1:] >= n[:-1]).all() for n in numbers)
        or not 0 <= float(numbers[0][0]) <= float(numbers[0][-1]) < MAX_SOURCE_FRAMES
    ):
        raise EgoXInputError(
            "moments of the clip",
            got=f"shapes {sorted(shapes)}",
            expected=f"1 to {MAX_CLIP_FRAMES} finite, rising numbers, as many indices (0 to "
            f"{MAX_SOURCE_FRAMES - 1}) as times",
            fix="send one of each per frame",
        )
    return ClipMoments(indices=numbers[0], times_s=numbers[1])


def keyframes_of_path(
    upright_w2c: Tensor,  # [T, 3, 4]
    clip: ClipMoments,
    up=DEFAULT_UP,  # [3] the world's upward direction
) -> tuple[dict, str]:
    """A keyframe document (clock: source frames) for a path of a clip, and a sentence on how close
    it is."""
    index = clip.indices
    distinct = torch.cat((index.new_ones(1, dtype=torch.bool), index[1:] > index[:-1])).nonzero()[
        :, 0
    ]
    w2c, index = upright_w2c.double()[distinct], index[distinct]
    still = len(w2c) > 1 and float((w2c - w2c[:1]).abs().max()) < 1e-9
    if still:
        w2c, index = w2c[:1], index[:1]
    keys = fit_keyframes(w2c, index)
    off_m, off_deg = keyframe_error(w2c, index, keys) if len(w2c) > 1 else (0.0, 0.0)
    keyframes = []
    for i in keys:
        yaw, pitch, roll = (round(v, 5) + 0.0 for v in pose_angles(w2c[i], up))  # + 0.0: no "-0.0"
        keyframes.append(
            {
                "frame": int(index[i]),
                "position": [round(v, 6) for v in camera_centre(w2c[i]).tolist()],
                "yaw_deg": yaw,
                "pitch_deg": pitch,
                "roll_deg": roll,
            }
        )
    document = {"up": [float(v) for v in up], "interpolation": "spline", "keyframes": keyframes}
    note = f"{len(upright_w2c)} poses as {len(keys)} keyframes, at most {1000 * off_m:.1f} mm and {off_deg:.2f}° off"
    return document, note


def import_path(
    files: Mapping[str, str],
    camera: CameraModel,
    clip: ClipMoments,
    scene: PointCloud | None = None,
    up=DEFAULT_UP,
    entry: str = "",
) -> tuple[dict, str]:
    """A keyframe document from the texts of a path's files, ``{name: text}`` (COLMAP: images.txt
    and cameras.txt).

    Poses come into the scene's frame; without a scene they keep the file's world.

    Raises:
        EgoXInputError: names that are no plain file names, an unknown form, a path shorter than the
            clip.
    """
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
    with tempfile.TemporaryDirectory(prefix="egox_") as folder:
        paths = [Path(folder, safe_name(name)) for name in files]
        for path, text in zip(paths, files.values(), strict=True):
            path.write_text(text, "utf-8", errors="replace")
        main = next((p for p in paths if p.name == "images.txt"), paths[0])
        return import_file(main, camera, clip, scene, up, entry)


def import_file(
    path: Path,
    camera: CameraModel,
    clip: ClipMoments,
    scene: PointCloud | None = None,
    up=DEFAULT_UP,
    entry: str = "",
) -> tuple[dict, str]:
    """As :func:`import_path`, for a file on this machine."""
    content = _keyframe_document(path)
    if content is not None:
        keyframe_track(content, camera, path.name)
        return content, f"{len(content['keyframes'])} keyframes"
    trajectory = with_camera(read_trajectory(path, camera, clip.selection(), entry=entry), camera)
    poses = trajectory.w2c if scene is None else ego_from_scene(scene, trajectory)
    count = min(len(poses), len(clip))
    cut = ClipMoments(indices=clip.indices[:count], times_s=clip.times_s[:count])
    document, note = keyframes_of_path(upright_from_sensor(poses[:count], camera), cut, up)
    if scene is None and trajectory.exo_w2c is not None:
        note += "; no scene is loaded, so the poses are in the file's own world"
    return document, note


def _keyframe_document(path: Path) -> dict | None:
    if path.suffix.lower() != ".json":
        return None
    try:
        content = read_json(path, "trajectory file")
    except EgoXInputError:
        return None  # the reader says what is wrong with it
    if isinstance(content, list):
        content = {"keyframes": content}
    return (
        content
        if isinstance(content, dict) and isinstance(content.get("keyframes"), list)
        else None
    )


def trajectory_of_keyframes(
    document: object, camera: CameraModel, clip: ClipMoments, scene: PointCloud | None = None
) -> CameraTrajectory:
    """The trajectory of a keyframe document in this clip, as the node makes it."""
    track = keyframe_track(document, camera, rest=None if scene is None else scene_rest(scene))
    return trajectory_from_track(
        track,
        camera,
        clip.selection(),
        source="pose editor",
        exo_w2c=None if scene is None else scene.exo_w2c,
        exo_camera=None if scene is None else scene.exo_camera,
    )


def export_path(
    form: str,
    document: object,
    camera: CameraModel,
    clip: ClipMoments,
    scene: PointCloud | None = None,
    prompt: str = "",
) -> tuple[str, bytes]:
    """(file name, content) of a keyframe document in a file form; COLMAP's three files come as a
    zip, as does the path of an exo camera that moves beside the ego camera's.

    Raises:
        EgoXInputError: unknown form, a bad document.
    """
    if form not in EXPORTS:
        raise EgoXInputError(
            "form of the export",
            got=repr(form)[:40],
            expected=f"one of {sorted(EXPORTS)}",
            fix="choose one of them",
        )
    trajectory = trajectory_of_keyframes(document, camera, clip, scene)
    name, write = EXPORTS[form]
    with tempfile.TemporaryDirectory(prefix="egox_") as folder:
        target = Path(folder, name)
        write(target, trajectory, document, clip, prompt)
        root, exo = target, trajectory.exo_camera
        if form in OF_BOTH and exo is not None and is_moving(trajectory.exo_w2c):
            of_exo = replace(trajectory, w2c=trajectory.exo_w2c, camera=exo)
            write(Path(folder, f"exo_{name}"), of_exo, document, clip, prompt)
            root = Path(folder)
        if root.is_file():
            return name, root.read_bytes()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in root.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(root).as_posix())
        return f"{name}.zip", buffer.getvalue()


def released_meta(
    trajectory: CameraTrajectory, document: object, clip: ClipMoments, prompt: str
) -> dict:
    """A take's meta.json. Its poses are numbered by source frame, so that the path begins at frame
    0 of the video."""
    numbers = torch.arange(int(clip.indices[-1]) + 1, dtype=torch.float64)
    rest = upright_from_sensor(
        trajectory.w2c[0], trajectory.camera
    )  # what a document without keyframes stands for
    track = keyframe_track(document, trajectory.camera, rest=rest)
    moments = numbers if track.clock == "index" else _times_of(numbers, clip)
    poses = track.at(moments)
    content: dict[str, object] = {
        "prompt": prompt,
        "pose_source": "pose editor",
        "ego_intrinsics": intrinsics_matrix(trajectory.camera).tolist(),
        "ego_extrinsics": poses.tolist(),
        "ego_camera": camera_to_json(trajectory.camera),
    }
    if trajectory.exo_camera is not None:
        exo = (
            torch.eye(3, 4, dtype=torch.float64)
            if trajectory.exo_w2c is None
            else trajectory.exo_w2c
        )
        if exo.ndim == 3:
            exo = interpolate_poses(exo, torch.unique(clip.indices)[: len(exo)], numbers)
        content |= {
            "camera_intrinsics": intrinsics_matrix(trajectory.exo_camera).tolist(),
            "camera_extrinsics": exo.tolist(),
            "exo_camera": camera_to_json(trajectory.exo_camera),
        }
    return content


def _times_of(numbers: Tensor, clip: ClipMoments) -> Tensor:
    """Times of source frames, the clip's own rate carried on to both sides."""
    if len(clip) < 2 or float(clip.indices[-1]) == float(clip.indices[0]):
        return numbers / UNTIMED_FPS
    rate = (clip.times_s[-1] - clip.times_s[0]) / (clip.indices[-1] - clip.indices[0])
    return clip.times_s[0] + (numbers - clip.indices[0]) * rate


Writer = Callable[[Path, CameraTrajectory, object, ClipMoments, str], None]
EXPORTS: Mapping[str, tuple[str, Writer]] = {
    "keyframes": ("egox_keyframes.json", lambda path, _, document, *__: write_json(path, document)),
    "trajectory": (
        "egox_trajectory.json",
        lambda path, trajectory, *_: write_trajectory(path, trajectory),
    ),
    "meta": (
        META,
        lambda path, trajectory, document, clip, prompt: write_json(
            path, released_meta(trajectory, document, clip, prompt)
        ),
    ),
    "colmap": ("colmap", lambda path, trajectory, *_: write_colmap(path, trajectory)),
    "blender": ("transforms.json", lambda path, trajectory, *_: write_blender(path, trajectory)),
    "chan": ("ego_camera.chan", lambda path, trajectory, *_: write_chan(path, trajectory)),
}
OF_BOTH = ("colmap", "blender", "chan")  # forms of a path alone, which an exo camera may have
