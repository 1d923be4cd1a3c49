"""Read the cameras in a take's meta.json: the exo lens, exo poses, and the ego path."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import Tensor

from ..arrays import Array, as_tensor
from ..cameras import CAMERA_PRESETS, CameraModel, CameraPath, raw_gopro_of
from ..depth import depth_window
from ..errors import EgoXInputError
from ..facts import StatedLens
from ..frames import FileFrames, Frames, Numbering, entries_of, settle_frames
from ..sizes import same_aspect
from ..trajectory import with_declared_mount, with_declared_world
from ..types import (
    FROM_EDITOR,
    CameraTrajectory,
    ExoLens,
    FrameSelection,
    TakeMeta,
    TakeNotes,
    is_a,
)
from .meta import ASPECT_ERROR, MAX_OFF_CENTRE, fit_k_camera, own_camera
from .shown_picture import check_not_turned, shown_take

ARIA_PRESETS = "aria_released", "aria_meta"
"""Presets whose K a take may state without its lens: the poses are of their turned sensor."""
SAME_EGO = 0.005
"""Difference of an ego K from a preset's, as shares of the picture's width: numbers of a picture of
100 px that were rounded."""


def with_exo_lens(meta: TakeMeta, lens: ExoLens) -> tuple[TakeMeta, str]:
    """Settle the exo lens among those that a take's file states, and note the choice.

    ``as given``: the file's K as a pinhole of the picture, as the released priors were drawn.
    ``raw``: the lens of Ego-Exo4D's raw video, which follows from the K of its annotations. ``raw
    where known``: as given where K isn't one of those. A take whose file holds the exact camera
    keeps it.

    Raises:
        EgoXInputError: ``raw`` for a K that isn't Ego-Exo4D's.
    """
    k = meta.camera_intrinsics
    if meta.exo.lens is not None:
        return meta, f"exo lens: the file's own, {meta.exo.lens.words}"
    if k is not None and lens != "as given" and (raw_lens := raw_gopro_of(k)) is not None:
        raw_meta = replace(meta, exo=replace(meta.exo, lens=raw_lens))
        return raw_meta, f"exo lens raw: {raw_lens.words}"
    if lens == "as given":
        return meta, "exo lens as given"
    k_text = (
        "no camera_intrinsics"
        if k is None
        else (
            f"focal length {float(k[0, 0]):.0f} px, centre ({float(k[0, 2]):g}, {float(k[1, 2]):g})"
        )
    )
    if lens == "raw":
        raise EgoXInputError(
            f"exo lens of {meta.name}",
            got=k_text,
            expected="the K of an Ego-Exo4D annotation (about "
            "1240 px, centre (1920, 1080)): only its raw lens is known",
            fix="take the exo lens as given",
        )
    return meta, f"exo lens as given: no raw lens is known for this K ({k_text})"


def meta_lens(
    meta: TakeMeta,
    size: tuple[int, int],  # (width, height) px of the whole picture
    frames: Frames,
) -> StatedLens:
    """State the take's exo lens for its whole picture at a size, and how it was rescaled.

    It is a mirror's where the frames were mirrored in their file.

    K of another resolution belongs to the picture of :func:`.meta.picture_of_k`, an exact camera to
    one of its size. If that picture is wider than the one asked for (the Ego-Exo4D takes: 796
    against 784), the latter is its middle; so it is of the cropped clip whose own camera the editor
    wrote.

    Raises:
        EgoXInputError: no intrinsics, a K of an unknown picture, an exact camera of another shape.
    """
    (width, height) = size
    lens, k = meta.exo.lens, meta.camera_intrinsics
    k_name = f"camera_intrinsics of {meta.name}"
    by = f"exo_camera of {meta.name}" if k is None else k_name  # an exact lens may be made of K
    is_exact = lens is not None
    if lens is None:
        if k is None:
            raise EgoXInputError(
                f"take {meta.name}",
                got="no camera_intrinsics",
                expected="the exo camera's K",
                fix="add them to the meta file, or use a depth source that gives intrinsics",
            )
        lens = own_camera(k, size, k_name)
    picture = lens.stored_size
    full_width, note = width, ""
    if not same_aspect(picture, size):
        picture_width = round(height * picture[0] / picture[1])
        is_editors = is_exact and meta.pose_source == FROM_EDITOR
        full_width = picture_width if is_editors else max(width, picture_width)
        if full_width < width:
            note = f"{by} of {picture[0]}x{picture[1]} px was taken for the picture's middle"
    full_size = full_width, height
    if not is_exact:
        stated = fit_k_camera(lens, full_size, k_name)
    else:
        if abs(picture[0] * height / (picture[1] * full_width) - 1) > ASPECT_ERROR:
            raise EgoXInputError(
                by,
                got=f"one of {picture[0]}x{picture[1]} px for a picture of {width}x{height}",
                expected="the camera of this picture, of the same shape",
                fix="give this video's own meta file",
            )
        lens = lens if picture == full_size else lens.rescale(*full_size)
        stated = StatedLens(lens=lens, by=by, source="meta", note=note, others=meta.other_lenses)
    lens = stated.lens
    if full_width != width:
        lens = lens.crop((full_width - width) // 2, 0, width, height)
    return replace(stated, lens=lens.mirrored() if frames.is_mirrored else lens)


class ExoPicture(NamedTuple):
    """Picture that a lens may be of, and how a lens of it is brought to the frames in use."""

    size: tuple[int, int]  # (width, height) px
    in_use: Callable[[CameraModel], CameraModel]


def given_lens(
    # The camera, or its K [3, 3].
    given: CameraModel | Array,
    frames: Frames,
    map_size: tuple[int, int],  # (width, height) px of depth maps
) -> StatedLens:
    """State the exo lens of a caller's camera or K in pixels of the frames in use.

    A CameraModel says its size, and is turned upright. K belongs to the picture that it is centred
    in, else to one of another resolution, as a meta.json's.

    Raises:
        EgoXInputError: a camera of another shape, or of a turned picture, a K that fits two
            pictures or none.
    """
    stated = partial(StatedLens, by="argument camera", source="caller")
    clip = FrameSelection.of_picture(frames, map_size)
    pictures = [
        ExoPicture(map_size, depth_window(map_size, frames, "depth").camera),
        ExoPicture(clip.source_size, clip.camera),
        ExoPicture(clip.size, lambda camera: camera),
    ]
    if is_a(given, CameraModel):
        given = given.upright()
        picture = next((each for each in pictures if each.size == given.stored_size), None)
        picture = picture or next(
            (each for each in pictures if same_aspect(given.stored_size, each.size)), None
        )
        if picture is None:
            check_not_turned("camera", given, clip.source_size, clip.display_turns)
            given.check_size("exo camera", *pictures[0].size)
            raise AssertionError  # as the size differs
        return stated(lens=picture.in_use(given.rescale(*picture.size)))
    name = "K of the exo camera"
    k = as_tensor(given, name, 3, 3).double().cpu()
    centred_size = (max(1, round(2 * centre)) for centre in k[:2, 2].tolist())
    centred = CameraModel.from_intrinsics(k, *centred_size, name=name)
    check_not_turned(name, centred, clip.source_size, clip.display_turns)

    def centred_lenses(is_centred: Callable[[float, int], bool]) -> list[CameraModel]:
        return [
            picture.in_use(CameraModel.from_intrinsics(k, *picture.size, name=name))
            for picture in pictures
            if all(map(is_centred, k[:2, 2].tolist(), picture.size))
        ]

    lenses = centred_lenses(lambda centre, side: abs(centre - side / 2) <= 1) or centred_lenses(
        lambda centre, side: abs(centre - side / 2) <= MAX_OFF_CENTRE * side / 2
    )
    if not lenses:
        aspect_ratio = float(k[0, 2]) / max(float(k[1, 2]), 1e-9)
        picture = min(pictures, key=lambda each: abs(each.size[0] / each.size[1] - aspect_ratio))
        of_k = fit_k_camera(own_camera(k, picture.size, name), picture.size, name)
        return stated(lens=picture.in_use(of_k.lens), note=of_k.note)
    if any(not lens.agrees(lenses[0]) for lens in lenses):
        sizes = " or ".join(
            f"{width}x{height}"
            for width, height in dict.fromkeys(picture.size for picture in pictures)
        )
        raise EgoXInputError(
            name,
            got=f"a centre {k[0, 2]:g}, {k[1, 2]:g} that may be of {sizes} px",
            expected="a camera that says its picture's size",
            fix="give CameraModel.from_intrinsics(K, width, height)",
        )
    return stated(lens=lenses[0])


def exo_poses(
    meta: TakeMeta | None,
    frames: Frames,
    file_frames: FileFrames = "auto",
    *,
    lens: CameraModel | None = None,  # in px of the frames
    lens_guessed: bool = False,
) -> CameraPath:
    """Select the exo camera's poses of the frames in use, and what these show of its picture.

    Raises:
        EgoXInputError: a pose per frame that may be of other frames.
    """
    meta = meta or TakeMeta(name="no file")
    numbering = _numbering_of(meta, meta.exo, "camera_extrinsics", file_frames)
    w2c = meta.exo.w2c[entries_of(frames, numbering).at]
    return FrameSelection.shown_by(frames, meta.exo, w2c=w2c, lens=lens, lens_guessed=lens_guessed)


def _numbering_of(
    meta: TakeMeta,
    # One of its cameras.
    camera: CameraPath,
    # Name of its poses.
    key: str,
    file_frames: FileFrames = "auto",
) -> Numbering:
    """State of which frames the poses of one of the take's cameras are."""
    return Numbering(
        what=f"{key} of {meta.name}",
        count=len(camera.w2c),
        numbers=camera.frames.numbers,
        file_frames=file_frames,
        standing=camera.stands,
    )


def pose_numberings(meta: TakeMeta, file_frames: FileFrames = "auto") -> list[Numbering]:
    """State of which frames the poses of each of the take's cameras are."""
    declared = meta.declared.with_arguments({"ego.frames": file_frames})
    ego_frames = declared.argument_value("ego.frames")
    exo_numbering = _numbering_of(meta, meta.exo, "camera_extrinsics", ego_frames)
    if meta.ego is None:
        return [exo_numbering]
    return [exo_numbering, _numbering_of(meta, meta.ego, "ego_extrinsics", ego_frames)]


def check_ego_count(meta: TakeMeta, frames: Frames) -> None:
    """Refuse a take whose number of ego poses doesn't fit all frames of the video.

    Raises:
        EgoXInputError: poses that may be of other frames.
    """
    declared_frames = meta.declared.argument_value("ego.frames")
    used_frames = frames if declared_frames == "in use" else frames.select(slice(1))
    if meta.ego is not None:
        numbering = _numbering_of(meta, meta.ego, "ego_extrinsics", declared_frames)
        entries_of(used_frames, numbering)


def ego_lens(meta: TakeMeta, camera: CameraModel) -> tuple[CameraModel, str]:
    """Settle the take's ego camera, which is ``camera`` if the meta file has none.

    A remark is added if the take's K is of another camera.

    K alone says neither lens nor turn.
    """
    lens = meta.ego_lens or camera
    k = meta.ego_intrinsics
    if lens is meta.ego_lens or k is None or is_aria_k(k):
        return lens, ""
    return lens, (
        f"ego_intrinsics of {meta.name} (focal length {float(k[0, 0]):g}, centre "
        f"{float(k[0, 2]):g}, {float(k[1, 2]):g} px) are of another camera than aria_released, and "
        "say neither lens nor turn: the poses are taken as those of aria_released, whose sensor is "
        "turned by 90 degrees. Give ego_camera in the meta file (lens, width, height, fx, fy, cx, "
        "cy; quarter_turns 0 for poses of the upright picture), or camera"
    )


def is_aria_k(k: Tensor) -> bool:  # [3, 3]
    """Check whether a take's K is that of the Aria glasses, as the released files have it."""
    return any(_is_same_k(k, CAMERA_PRESETS[name].camera) for name in ARIA_PRESETS)


def _is_same_k(k: Tensor, camera: CameraModel) -> bool:  # [3, 3]
    """Check whether K equals a camera's K apart from the resolution."""
    relative_values = [
        matrix.double()[[0, 1, 0, 1], [0, 1, 2, 2]] / (2 * float(matrix[0, 2]) + 1)
        for matrix in (k, camera.intrinsics)
    ]
    return bool(((relative_values[0] - relative_values[1]).abs() <= SAME_EGO).all())


def meta_trajectory(
    meta: TakeMeta,
    camera: CameraModel,
    frames: Frames | None = None,
    *,
    lens_given: bool = False,
) -> tuple[CameraTrajectory, TakeNotes]:
    """Read the ego trajectory of a meta.json, with the notes beside it.

    A moving exo camera's poses follow the same frames; without any all poses are taken. If
    ``lens_given``, the ego camera is somebody's choice, and not asked for.

    Raises:
        EgoXInputError: no ego poses, poses that may be of other frames.
    """
    if meta.ego is None:
        raise EgoXInputError(
            f"take {meta.name}",
            got="no ego_extrinsics",
            expected="one w2c per frame",
            fix="add them, or make a path",
        )
    file_frames = meta.declared.argument_value("ego.frames")
    frames = settle_frames(frames, Frames.of_count(max(len(meta.ego), len(meta.exo))))
    own_lens = meta.exo_camera
    shown_frames = FrameSelection.of_picture(frames, own_lens.stored_size if own_lens else (1, 1))
    meta = shown_take(meta, shown_frames, meta.declared)
    assert meta.ego is not None  # as above
    numbering = _numbering_of(meta, meta.ego, "ego_extrinsics", file_frames)
    entries = entries_of(frames, numbering)
    w2c = meta.ego.w2c[entries.at]
    exo_lens = None
    # a K that can't be of these frames is refused where a lens is used
    with suppress(EgoXInputError):
        if own_lens is not None:
            stated = meta_lens(meta, shown_frames.source_size, frames)
            exo_lens = shown_frames.camera(stated.lens)
    exo = exo_poses(meta, frames, file_frames, lens=exo_lens)
    lens, lens_note = ego_lens(meta, camera)
    ego = replace(
        meta.ego,
        lens=lens,
        w2c=w2c.expand(len(frames), 3, 4).clone() if meta.ego.stands else w2c,
        frames=frames.without_sizes,
        world=exo.world,
    )
    placement_note = "; ".join(filter(None, (str(entries.remark), "" if lens_given else lens_note)))
    rows = (*meta.facts, *meta.declared.rows("ego.frames"))
    trajectory = CameraTrajectory(ego=ego, exo=exo, facts=rows)
    trajectory = with_declared_world(trajectory, meta.declared, exo)
    trajectory = with_declared_mount(trajectory, meta.declared)
    return trajectory, replace(meta.notes, placed=placement_note)
