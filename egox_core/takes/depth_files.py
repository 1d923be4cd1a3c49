"""Load a depth file as a DepthVideo of the frames in use, cropped and scaled like the frames."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel, compose, invert
from ..depth import DepthSource, depth_window, guessed_camera
from ..errors import EgoXInputError
from ..facts import (
    NOTHING_DECLARED,
    Declared,
    StatedLens,
    ceiling_of,
    first_posed,
    settle_depth,
    settle_lens,
)
from ..frame_store import store_frames
from ..frames import FileFrames, Frames, Numbering, entries_of, settle_frames
from ..progress import Progress, no_progress
from ..remarks import Remark
from ..sizes import same_aspect
from ..types import DepthVideo, FrameSelection, TakeMeta
from .depth_readers import DepthFile, open_depth
from .shown_picture import shown_take
from .take_cameras import exo_poses, meta_lens
from .vipe import reduce_static_poses


def load_depth_file(
    # A DepthFile is already open, so that the clips of a take share one pass over a packed
    # file.
    path: Path | DepthFile,
    # Intrinsics and pose of exo; None: both are unknown, and the camera is a guess.
    meta: TakeMeta | None,
    # The frames in use; without, every frame at the file's own size.
    frames: Frames | None = None,
    *,
    # What others state of the exo lens, in px of the frames in use.
    lenses: Sequence[StatedLens] = (),
    # A meta without intrinsics gets a guess, too, instead of being refused.
    guess_camera: bool = False,
    # What the user says of the maps and their frames, see facts.FACTS.
    declared: Declared = NOTHING_DECLARED,
    progress: Progress = no_progress,
) -> DepthSource:
    """Load a depth file for the frames in use.

    The file is npz, npy, or a folder or zip of npy, EXR or 16-bit PNG files.

    Depth is taken by the frames' source index and brought to their crop and size by the rules of
    :mod:`depth.resample`.

    Raises:
        EgoXInputError: unreadable, maps that may be of other frames, another aspect, no or too few
            valid pixels, no intrinsics.
    """
    if isinstance(path, Path):
        with open_depth(path) as source:
            return load_depth_file(
                source,
                meta,
                frames,
                lenses=lenses,
                guess_camera=guess_camera,
                declared=declared,
                progress=progress,
            )
    source = path
    declared = declared if meta is None else declared.over(meta.declared)
    facts = settle_depth(source.statements, declared, f"depth {source.name}")
    frames = settle_frames(frames, Frames.of_count(source.numbering.count))
    entries = entries_of(frames, source.numbering.declared(declared.argument_value("depth.frames")))
    map_numbers = torch.arange(source.numbering.count)[entries.at]
    window = depth_window(source.size, frames, f"depth {source.name}")
    size = source.size
    picture_size = window.picture or size
    if meta is not None:
        meta = shown_take(meta, FrameSelection.of_picture(frames, size), declared)

    def seen_in_picture(lens: CameraModel) -> CameraModel:
        return window.camera(lens if picture_size == size else lens.rescale(*size))

    def seen_in_map(lens: CameraModel) -> CameraModel:
        return window.camera(lens.mirrored() if frames.is_mirrored else lens)

    stated = [*lenses]
    if source.arrays.lens is not None:
        stated.append(source.arrays.lens.seen(seen_in_map))
    may_guess = meta is None or guess_camera
    if meta is not None and (meta.exo_camera or not (may_guess or stated)):
        stated.append(meta_lens(meta, picture_size, frames).seen(seen_in_picture))
    if may_guess:
        stated.append(StatedLens.guess(guessed_camera(*picture_size)).seen(seen_in_picture))
    lens, lens_row = settle_lens(stated)
    if lens_row.others:
        lens = replace(lens, note="; ".join(filter(None, (lens.note, lens_row.text))))
    unique_maps, map_of_frame = torch.unique(
        map_numbers, return_inverse=True
    )  # uneven time stamps may use a frame twice
    used_maps = unique_maps.tolist()
    ceilings: set[float | None] = set()
    ray_lengths = None
    if facts.kind == "ray":
        lens.check_rays()
        ray_lengths = window.map_camera(lens.lens, size).ray_lengths().numpy()

    def read_maps() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for frame, (depth, dynamic) in zip(used_maps, source.read(used_maps), strict=True):
            if depth.shape != size[::-1]:
                raise EgoXInputError(
                    f"depth {source.name}",
                    got=f"frame {frame} of shape {depth.shape}",
                    expected=f"{size[::-1]} as the first",
                    fix="store all frames at one size",
                )
            if frames.is_mirrored:
                depth = np.ascontiguousarray(depth[:, ::-1])
                dynamic = None if dynamic is None else np.ascontiguousarray(dynamic[:, ::-1])
            ceilings.add(ceiling_of(depth))
            yield facts.to_metres(depth, ray_lengths), dynamic

    depth_m, dynamic, invalid_share = window.fit_clip(
        read_maps(), len(used_maps), source.name, progress
    )
    ceiling = max((number for number in ceilings if number is not None), default=None)
    far_note = ""
    # That number may be on a few pixels of the maps before.
    if ceiling is not None and facts.far_m is None and facts.kind != "inverse":
        facts = settle_depth(source.statements, declared, f"depth {source.name}", ceiling)
        far_note = next(row.text for row in facts.rows if row.fact == "depth.far_m")
        depth_m, dynamic, invalid_share = window.fit_clip(
            read_maps(), len(used_maps), source.name, progress
        )
    exo = exo_poses(meta, frames, lens=lens.lens, lens_guessed=lens.guessed)
    own_exo = None
    if source.arrays.w2c is not None:
        w2c = source.arrays.w2c.expand(source.numbering.count, 3, 4)[map_numbers]
        own_w2c = reduce_static_poses(compose(w2c, invert(w2c[:1])))
        own_exo = replace(exo, w2c=own_w2c, world="exo")
    exo = first_posed(exo, own_exo)
    picture_rows = [row for row in meta.facts if row.fact == "exo.picture"] if meta else []
    video = DepthVideo(
        depth_m=_map_per_frame(depth_m, map_of_frame),
        exo=exo,
        dynamic=None if dynamic is None else _map_per_frame(dynamic, map_of_frame),
        facts=(*facts.rows, *declared.rows("depth.frames"), lens_row, *picture_rows),
    )
    summary = (
        f"{source.name}: {len(used_maps)} frames, {100 * invalid_share:.1f} % of the pixels invalid"
    )
    notes = tuple(map(Remark, filter(None, (summary, far_note, lens.note, window.note))))
    notes = (*notes, *source.arrays.notes, entries.remark)
    return DepthSource(depth=video, name=source.name, notes=notes)


def check_depth(
    source: DepthFile,
    # The frames for which the depth will be read.
    frames: Frames | None,
    *,
    redrawn: bool = False,
    file_frames: FileFrames = "auto",
) -> Remark:
    """Check before decoding that depth belongs to the video, as :func:`check_maps`."""
    frames = settle_frames(frames, Frames.of_count(source.numbering.count))
    numbering = source.numbering.declared(file_frames)
    return check_maps(f"depth {source.name}", source.size, numbering, frames, redrawn=redrawn)


def check_maps(
    what: str,
    size: tuple[int, int],  # (width, height) px
    numbering: Numbering,
    frames: Frames,
    *,
    # True if the exo picture has another camera than the video.
    redrawn: bool = False,
) -> Remark:
    """Check that depth maps or masks belong to the video, and describe how their frames are read.

    Raises:
        EgoXInputError: maps that may be of other frames, another aspect.
    """
    entries = entries_of(frames, numbering)
    depth_window(size, frames, what)
    width, height = FrameSelection.of_picture(frames, size).size
    if redrawn and not same_aspect(size, (width, height)):  # wider maps are of videos as filmed
        raise EgoXInputError(
            what,
            got=f"{size[0]}x{size[1]} px",
            expected=f"the shape of the undistorted image, {width}x{height}",
            fix="make it from the undistorted video, not the one as filmed",
        )
    return entries.remark


def _map_per_frame(maps: Tensor, map_of_frame: Tensor) -> Tensor:  # [N, H, W], [T] -> [T, H, W]
    """Expand the maps of distinct source frames to one map for each frame."""
    if len(maps) == len(map_of_frame):
        return maps
    return store_frames((maps[map_index] for map_index in map_of_frame), len(map_of_frame))
