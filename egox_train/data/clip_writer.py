"""Write the folder of one clip from a raw take: videos, depth, cameras and rendered prior."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import CameraModel, CameraPath
from egox_core.depth import clean_depth
from egox_core.errors import EgoXInputError
from egox_core.facts import StatedLens, settle_depth
from egox_core.file_names import COVERAGE, DEPTH, EXO, HANDS, META, PRIOR, SEEN, TRUTH
from egox_core.frozen import frozen
from egox_core.hands import hands_in_use, write_hands
from egox_core.remarks import FactRow
from egox_core.safe_files import (
    atomic_write,
    read_json_object,
    replace_folder,
    write_json,
)
from egox_core.scene import estimate_exo_motion
from egox_core.stages import align, load_clip, path, prior, scene
from egox_core.takes import DepthFile, check_depth, load_depth_file, open_depth, with_scale
from egox_core.types import DepthVideo
from egox_core.video import probe_video, read_frames

from ..fingerprint import file_state, fingerprint
from ..parallel import make_once, on_device
from ..takes.mask_files import MaskFile, MaskFrameReader, open_mask
from ..video_writer import write_levels, write_video
from .captions import caption_for, is_plain_text
from .clip_files import ClipWindow, changed_files, file_hash
from .clip_masks import moving_in_clip
from .exo_pictures import ExoPictures, exo_pictures, frames_of
from .ground_plane import ground_plane, plane_depth
from .manifest import SUBSTITUTE_DEPTH, ClipRecord, DepthSource
from .prepare_options import PrepareOptions
from .raw_take import RawTake, RawView

logger = logging.getLogger(__name__)
PLAIN_PROMPT = (
    "its prompt has no [Exo view] and [Ego view] sections, with which the released model was "
    "trained: it is used as written"
)
RECORD_FILE = "clip.json"
MOST_OPEN_BYTES = 256 * 2**20
"""Depth that was unpacked for one clip is kept for the next one, which may overlap it: 360 maps of
796x448."""


@frozen
class ClipJob:
    """Job that makes the folder of one clip."""

    take: RawTake
    view: RawView
    window: ClipWindow
    rank: int
    predicted_coverage: float
    options: PrepareOptions

    @property
    def name(self) -> str:
        return f"{self.take.name}__{self.view.name}__{self.window.start:06d}"

    @property
    def ego_lens(self) -> str:
        """Description of the head camera's lens as text."""
        return _describe_lens(self.take.ego.camera, self.options.ego_size)

    @property
    def hands(self) -> Path:
        """Path of the take's file of hand positions, hands.json."""
        return self.view.video.parent / HANDS

    def fingerprint(self, captions: Mapping[str, str]) -> str:
        """Hash everything that determines the clip's files."""
        ego_poses = self.take.ego.w2c[self.window.indices]
        source_files = [self.view.video, self.take.ego_video, self.view.depth]
        if self.view.mask is not None:
            source_files.append(self.view.mask.path)
        if self.hands.is_file():
            source_files.append(self.hands)
        return fingerprint(
            [
                self.options.content(),
                [self.window.start, self.window.frames, self.window.step],
                [file_state(source_file) for source_file in source_files],
                self.view.exo.camera.to_json(),
                self.view.exo.rows(),
                hashlib.sha256(ego_poses.contiguous().numpy().tobytes()).hexdigest(),
                caption_for(self.name, self.take.name, captions, self.take.prompt),
                self.rank,
                round(self.predicted_coverage, 6),
                *self.take.declared.part(("depth.", "hands.")).declarations,
            ]
        )


def _describe_lens(lens: CameraModel, side_px: int) -> str:
    lens = lens.rescale(side_px, side_px)
    return f"{lens.lens}, focal length {lens.fx:.3f} px"


def takes_with_other_lens(jobs: Iterable[ClipJob], root: Path) -> dict[str, tuple[str, str]]:
    """Find the takes whose existing clips were made with another lens of the head camera.

    Returns:
        By take, the lens of the first clip that is there, and the one that it would have now.
    """
    lenses: dict[str, tuple[str, str]] = {}
    for job in jobs:
        file = root / "clips" / job.name / META
        if job.take.name in lenses or not file.is_file():
            continue
        with suppress(EgoXInputError):  # a damaged clip is named and made again later
            camera = CameraModel.from_json(read_json_object(file, META).get("ego_camera"))
            lenses[job.take.name] = _describe_lens(camera, job.options.ego_size), job.ego_lens
    return {
        take: (old_lens, new_lens)
        for take, (old_lens, new_lens) in lenses.items()
        if old_lens != new_lens
    }


def clips_without_depth(
    clips: Sequence[ClipJob], pictures: ExoPictures
) -> tuple[dict[str, str], set[str], tuple[FactRow, ...]]:
    """Find the clips of one exo camera whose depth file is missing or doesn't fit.

    Returns the reason for each such clip, notes on how the other files' frames are numbered, and
    what was settled of the maps. Only headers are read."""
    options, take, exo_view = clips[0].options, clips[0].take, clips[0].view
    if options.depth != "files":
        return {}, set(), ()
    name = f"{take.name}__{exo_view.name}"
    depth_problems, frame_notes = {}, set()
    try:
        if exo_view.depth is None and options.depth_root is not None:
            raise EgoXInputError(
                f"depth of {name}",
                got=f"nothing of that name in {options.depth_root.name!r}",
                expected=f"{name}.npz, .npy or .zip, or a folder {name} of frames",
                fix="run the depth tool on the video that `train_egox.py undistort` writes",
            )
        if exo_view.depth is None:
            raise EgoXInputError(
                f"depth of {name}",
                got="no depth file",
                expected="depth of the exo video",
                fix="give --depth-root, --depth-model or --depth plane",
            )
        with open_depth(exo_view.depth) as depth_source:
            label = f"depth {depth_source.name}"
            declared = take.declared.with_arguments({"depth.frames": options.file_frames})
            facts = settle_depth(depth_source.statements, declared, label)
            rows = (*facts.rows, *declared.rows("depth.frames", "depth.scale"))
            for clip in clips:
                try:
                    depth_remark = check_depth(
                        depth_source,
                        pictures.select_map_frames(clip.window),
                        redrawn=pictures.undistortion is not None,
                        file_frames=declared.argument_value("depth.frames"),
                    )
                    frame_notes.add(depth_remark.text)
                except EgoXInputError as error:
                    depth_problems[clip.name] = str(error)
    except EgoXInputError as error:
        return {clip.name: str(error) for clip in clips}, set(), ()
    return depth_problems, frame_notes, rows


class OpenMaps:
    """Keep depth and mask files open, so that all clips of a take read a file in one pass."""

    def __init__(self) -> None:
        self._stack, self._open = ExitStack(), {}

    def __enter__(self) -> OpenMaps:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def depth(self, path: Path) -> DepthFile:
        """Open a depth file, or return it if it is already open."""
        if path not in self._open:
            self._open[path] = self._stack.enter_context(
                open_depth(path, keep_bytes=MOST_OPEN_BYTES)
            )
        return self._open[path]

    def mask(self, mask: MaskFile | None) -> MaskFrameReader | None:
        """Open a mask file, or return it if it is already open."""
        if mask is not None and mask.path not in self._open:
            self._open[mask.path] = self._stack.enter_context(
                open_mask(mask, keep_bytes=MOST_OPEN_BYTES)
            )
        return None if mask is None else self._open[mask.path]


def make_clip(
    job: ClipJob, root: Path, captions: Mapping[str, str], maps: OpenMaps
) -> tuple[ClipRecord, bool]:
    """Make a clip's folder, unless it exists with the same fingerprint, and return its record.

    The folder is written under another name and moved into place, so it is whole or not there.

    Raises:
        EgoXInputError: videos, depth or poses that don't allow it.
    """
    fingerprint = job.fingerprint(captions)
    folder = root / "clips" / job.name

    def make() -> ClipRecord:
        temporary_folder = folder.with_name(f".{job.name}.{uuid.uuid4().hex[:8]}")
        temporary_folder.mkdir(parents=True)
        try:
            record = _write_clip(job, temporary_folder, captions, maps)
            write_json(
                temporary_folder / RECORD_FILE,
                {"fingerprint": fingerprint, "record": record.model_dump(mode="json")},
            )
            replace_folder(temporary_folder, folder)
        finally:
            shutil.rmtree(temporary_folder, ignore_errors=True)
        return record

    record_and_new = make_once(folder, lambda: finished_clip(folder, fingerprint), make)
    assert isinstance(record_and_new, tuple)  # as it waits
    return record_and_new


def finished_clip(folder: Path, fingerprint: str, check_files: bool = True) -> ClipRecord | None:
    """Read the record of a complete clip with the given fingerprint, or return None.

    Args:
        check_files: against their hashes, and name a damaged clip in a warning; False: clip.json
            alone is read.
    """
    try:
        record, record_fingerprint = read_clip_record(folder)
    except ValueError as error:
        if check_files and (folder / RECORD_FILE).exists():
            logger.warning(
                "clip %s has a damaged %s and is made again: %s", folder.name, RECORD_FILE, error
            )
        return None
    if record_fingerprint != fingerprint:
        return None
    if not check_files:
        return record
    changed_names = changed_files(folder, record, record.files)
    if changed_names:
        logger.warning(
            "clip %s is damaged and made again: %s", folder.name, ", ".join(changed_names)
        )
        return None
    return record


def read_clip_record(folder: Path) -> tuple[ClipRecord, object]:
    """Read a clip's record and fingerprint from its clip.json.

    Raises:
        ValueError: none, or a damaged one (EgoXInputError, and pydantic's).
    """
    record_content = read_json_object(folder / RECORD_FILE, RECORD_FILE)
    return ClipRecord.model_validate(record_content.get("record")), record_content.get(
        "fingerprint"
    )


def finished_clips(root: Path, fingerprints: Mapping[str, str]) -> dict[str, ClipRecord]:
    """Read the records of a set's clips that are complete and up to date."""
    records = {
        name: finished_clip(root / "clips" / name, fingerprint, check_files=False)
        for name, fingerprint in fingerprints.items()
    }
    return {name: record for name, record in records.items() if record is not None}


def _write_clip(
    job: ClipJob, folder: Path, captions: Mapping[str, str], maps: OpenMaps
) -> ClipRecord:
    options, take = job.options, job.take
    pictures = exo_pictures(job.view, take.layout, options)
    info = pictures.info
    fps = info.fps / job.window.step
    clip, _ = load_clip(
        job.view.video,
        start_frame=job.window.start,
        frame_count=job.window.frames,
        step=job.window.step,
        resize=pictures.resize,
        size=pictures.size,
        undistortion=pictures.undistortion,
        one_shot=options.one_shot,
    )
    frames, camera = clip.exo, pictures.camera
    write_video(folder / EXO, frames, fps, quality=options.quality, threads=1)
    ego_size = (options.ego_size, options.ego_size)
    ego_frames = None
    if take.ego_video is not None:
        ego_info = probe_video(take.ego_video)
        ego_frames = read_frames(
            take.ego_video, ego_info, frames_of(ego_info, job.window, ego_size)
        )
        write_video(folder / TRUTH, ego_frames, fps, quality=options.quality, threads=1)
    prompt, caption = caption_for(job.name, take.name, captions, take.prompt)
    if caption == "none" and options.caption_model is not None:
        from .captions import model_caption

        prompt = on_device(options.device, model_caption, options.caption_model, frames, ego_frames)
        caption = "model"
    moving_masks, mask_source = moving_in_clip(
        pictures, job.window, options, frames, maps.mask(job.view.mask)
    )
    depth_m, file_mask, depth_kind, far_rows = _clip_depth(
        job, pictures, frames, maps, moving_masks
    )
    if moving_masks is None and file_mask is not None:
        moving_masks, mask_source = file_mask, "depth file"
    depth_m = torch.where(
        pictures.visible_mask, depth_m, math.nan
    )  # bars and corners were never seen
    depth = DepthVideo(depth_m=depth_m, exo=_exo_path(job, camera), dynamic=moving_masks)
    depth, scale_report = _scale_depth(job, depth)
    depth, motion_report = estimate_exo_motion(frames, depth, options.exo_motion)
    half_depth = depth.depth_m.half()
    with atomic_write(folder / DEPTH) as temporary_file:
        mask_array = {} if moving_masks is None else {"dynamic": moving_masks.numpy()}
        np.savez_compressed(temporary_file, depth_m=half_depth.numpy(), **mask_array)
    ego_path = take.ego.select(job.window.indices).resized(*ego_size)
    write_json(folder / META, _clip_meta(job, prompt, depth.exo, ego_path, fps))
    if job.hands.is_file():
        hands = hands_in_use(
            job.hands,
            clip.selection,
            take.declared.with_arguments({"hands.frames": options.file_frames}),
        )
        hands = hands.with_depth_check(depth.depth_m, depth.exo.camera, clip.selection.source_size)
        write_hands(hands, folder / HANDS)
    # As the clip's readers will have them: the decoded exo, depth in half floats.
    decoded_video, _ = load_clip(folder / EXO, frame_count=options.frames, one_shot=True)
    depth_m, _ = clean_depth(half_depth, job.name)
    depth, alignment = align(replace(depth, depth_m=depth_m), frames=decoded_video.selection)
    trajectory, _ = path(
        ego_path.w2c, frames=decoded_video.selection, camera=ego_path.camera, exo_w2c=depth.exo.pose
    )
    points, _ = scene(decoded_video.exo, depth)
    ego_prior, report = prior(
        points,
        trajectory,
        options.prior,
        hidden_lines=options.hidden_lines,
        classes=True,
        draw_anyway=options.draw_anyway,
        device=options.local_device,
    )
    write_video(folder / PRIOR, ego_prior.rgb, fps, quality=options.quality, threads=1)
    assert ego_prior.seen is not None  # as it was asked for
    write_levels(folder / SEEN, ego_prior.seen, fps)
    with atomic_write(folder / COVERAGE) as temporary_file:
        np.savez_compressed(temporary_file, coverage=ego_prior.coverage.numpy())
    files = {p.name: file_hash(p) for p in sorted(folder.iterdir())}
    return ClipRecord(
        clip=job.name,
        take=take.name,
        room=take.room,
        task=take.task,
        layout=take.layout,
        exo_camera=job.view.name,
        folder=f"clips/{job.name}",
        start=job.window.start,
        step=job.window.step,
        frames=options.frames,
        fps=fps,
        exo_size=options.exo_size,
        ego_size=ego_size,
        ego_lens=job.ego_lens,
        pictures=pictures.kind,
        depth=depth_kind,
        depth_scale=scale_report,
        exo_motion=motion_report.content() if options.exo_motion != "stands" else {},
        hidden_lines=options.hidden_lines,
        moving=mask_source,
        notes=(
            *(row.text for row in far_rows),
            *alignment.warnings(),
            *map(str, motion_report.notes),
            *report.warnings(),
            *((PLAIN_PROMPT,) if is_plain_text(prompt) else ()),
        ),
        caption=caption,
        rank=job.rank,
        predicted_coverage=round(job.predicted_coverage, 6),
        coverage=round(float(ego_prior.coverage.double().mean()), 6),
        ground_truth=take.ego_video is not None,
        files=files,
    )


def _clip_depth(
    job: ClipJob, pictures: ExoPictures, frames: Tensor, maps: OpenMaps, dynamic: Tensor | None
) -> tuple[Tensor, Tensor | None, DepthSource, list[FactRow]]:
    """Read or compute a clip's depth [T, H, W] and its mask of moving pixels, and name the source.

    ``dynamic`` [T, H, W] bool, what moves: left out where two depths are aligned. The rows are of
    a number that was found to say in a file's maps that there is nothing.
    """
    options = job.options
    if options.depth == "plane":
        floor_plane = ground_plane(job.take, options.eye_height_m)
        depth = plane_depth(floor_plane, _exo_path(job, pictures.camera))
        return depth[None].expand(options.frames, -1, -1), None, SUBSTITUTE_DEPTH, []
    if options.depth == "model":
        from .depth_model import model_depth

        depth = on_device(
            options.device,
            model_depth,
            replace(options, device=None),
            frames,
            pictures.camera,
            dynamic,
        )
        return depth, None, "model", []
    assert job.view.depth is not None  # or the run was refused before
    depth = load_depth_file(
        maps.depth(job.view.depth),
        None,
        pictures.select_map_frames(job.window),
        lenses=[StatedLens(lens=pictures.camera, by="the exo pictures", source="meta")],
        declared=job.take.declared.with_arguments({"depth.frames": job.options.file_frames}),
    ).depth
    far_rows = [row for row in depth.facts if row.fact == "depth.far_m" and row.advice]
    return depth.depth_m.float(), depth.dynamic, "file", far_rows


def _scale_depth(job: ClipJob, depth: DepthVideo) -> tuple[DepthVideo, dict[str, object]]:
    """Scale a clip's depth to metres as the options request, and return figures about the scale."""
    options = job.options
    declared = job.take.declared.with_arguments({"depth.scale": options.scale or "as is"})
    scale = declared.value("depth.scale") or options.depth_scale
    if scale == "as is":
        return depth, {}
    depth, scale_report = with_scale(
        depth,
        scale,
        job.take.ego.select(job.window.indices),
        pose_source=job.take.pose_source,
    )
    return depth, scale_report.content()


def _exo_path(job: ClipJob, lens: CameraModel) -> CameraPath:
    """Build the exo camera's path in a clip, with the lens of the prepared pictures."""
    return replace(job.view.exo.select(job.window.indices), lens=lens)


def _clip_meta(
    job: ClipJob, prompt: str, exo: CameraPath, ego: CameraPath, fps: float
) -> dict[str, object]:
    return {
        "prompt": prompt,
        "camera_intrinsics": exo.camera.intrinsics.tolist(),
        "camera_extrinsics": exo.rows(),
        "ego_intrinsics": job.take.meta_intrinsics.tolist(),
        "ego_extrinsics": ego.rows(),
        "exo_camera": exo.camera.to_json(),
        "ego_camera": ego.camera.to_json(),
        "fps": fps,
    }
