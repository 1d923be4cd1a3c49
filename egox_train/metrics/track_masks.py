"""Track objects through true and generated ego videos with SAM 2, to make masks for ``evaluate``.

Both videos are tracked from one shared first mask, so that ids agree; or, where nobody drew one,
each from the objects that a grid of points hits in its first frame, which ``evaluate --dino`` then
matches by their looks.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.safe_files import clear_leftovers, require_folder

from ..data.manifest import ClipRecord
from ..data.object_masks import write_masks
from ..options import DEFAULT_RUN_OPTIONS, MaskOptions, RunOptions
from ..parallel import (
    RunEstimate,
    WorkerPlan,
    estimate_run,
    make_once,
    run_all,
    select_shard,
)
from ..wan.weights import open_model_folder, weights_bytes, weights_hash
from .auto_masks import AutoMasks
from .clip_inputs import clip_files
from .clip_lists import clips_of
from .protocols import protocol_named

SAM_WEIGHTS = (
    "a SAM 2 folder as facebook/sam2.1-hiera-large on Hugging Face (for table1 "
    "facebook/sam2-hiera-large)"
)
GRID = 8
"""Points a side that are asked for an object each, where there is no first mask."""
LEAST_AREA_SHARE, MOST_AREA_SHARE = 0.002, 0.5
"""Shares of the picture between which an outline counts as an object."""
SAME = 0.7
"""Overlap (IoU) from which two outlines are one object."""
MasksById = dict[str, np.ndarray]  # by id, [T, H, W] bool


@frozen
class MaskJob:
    """Job for a worker process, which tracks the objects of one clip."""

    root: Path
    record: ClipRecord
    generated: Path
    out: Path
    options: MaskOptions
    wait: bool = False  # for another process that tracks this very clip


def track_masks(
    manifest: Path,
    generated: Path,
    out: Path,
    options: MaskOptions,
    run: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: Progress = no_progress,
) -> dict[str, str] | RunEstimate:
    """Write object masks for every clip of a manifest, and report clips without masks.

    Files that are there stay, and several processes share a folder.

    Args:
        generated: folder with <clip>.mp4.

    Raises:
        EgoXInputError: bad manifest, no such folder, no SAM 2 video model.
    """
    if options.first is not None and options.protocol is not None:
        raise EgoXInputError(
            "--first",
            got=f"first masks with --protocol {options.protocol}",
            expected="one of them: the protocol finds objects by itself",
            fix="leave --first out, or leave --protocol out",
        )
    _, root, records = clips_of(manifest, options.split, options.protocol)
    records = select_shard(records, run.part, run.clips)
    weights_hash(options.model, "SAM 2")
    for folder_name, folder in (("generated videos", generated), ("first masks", options.first)):
        require_folder(folder, f"folder of {folder_name}", "a folder with one file per clip")
    out.mkdir(parents=True, exist_ok=True)
    jobs = [
        MaskJob(
            root=root,
            record=record,
            generated=generated,
            out=out,
            options=options,
        )
        for record in records
        if not (out / f"{record.clip}.npz").is_file()
    ]
    worker_plan = WorkerPlan.of(run, options.device, weights_bytes(options.model))
    if run.dry_run:
        return estimate_run(_track_clip, jobs, "out", worker_plan)
    clear_leftovers(out, names={record.clip for record in records})
    failures, _ = run_all(
        _track_clip,
        jobs,
        [job.record.clip for job in jobs],
        worker_plan,
        finished_count=len(records) - len(jobs),
        stage="clips tracked",
        progress=progress,
    )
    return failures


def _track_clip(job: MaskJob, device: str) -> tuple[Path, bool] | str:
    mask_file = job.out / f"{job.record.clip}.npz"
    return make_once(
        job.out / job.record.clip,
        lambda: mask_file if mask_file.is_file() else None,
        lambda: _write_masks(mask_file, job, device),
        job.wait,
    )


def _write_masks(file: Path, job: MaskJob, device: str) -> Path:
    files = clip_files(job.root, job.record, (("generated", job.generated),), None)
    protocol = protocol_named(job.options.protocol)
    generated_frames, true_frames = protocol.pair_videos(
        protocol.read_video(files.videos[0][1], job.record, "generated video"),
        protocol.read_video(files.truth, job.record, "ground truth"),
    )
    object_tracker = load_tracker(job.options.model, device)
    initial_masks = first_masks(job, (true_frames.shape[1], true_frames.shape[2]))
    if initial_masks:
        true_masks, generated_masks = (
            object_tracker.follow(true_frames, initial_masks),
            object_tracker.follow(generated_frames, initial_masks),
        )
    elif job.options.protocol is not None:
        object_finder = load_object_finder(job.options.model, device, SAM_WEIGHTS)
        true_masks, generated_masks = (
            object_tracker.follow(
                video, {str(n): mask for n, mask in enumerate(object_finder(video[0]))}
            )
            for video in (true_frames, generated_frames)
        )
    else:
        true_masks, generated_masks = (
            object_tracker.follow(video, object_tracker.find_objects(video))
            for video in (true_frames, generated_frames)
        )
    if not true_masks and job.options.protocol is None:
        raise EgoXInputError(
            f"objects of clip {job.record.clip}",
            got="none in the true video's first frame",
            expected="at least one",
            fix="draw a first mask: --first FOLDER",
        )
    no_masks = np.zeros((0, *true_frames.shape[:3]), bool)
    write_masks(
        file,
        job.record.clip,
        np.stack(list(true_masks.values())) if true_masks else no_masks,
        list(true_masks),
        np.stack(list(generated_masks.values())) if generated_masks else no_masks,
        list(generated_masks),
        job.options.protocol or "",
    )
    return file


def first_masks(job: MaskJob, size: tuple[int, int]) -> dict[str, np.ndarray]:  # by id, [H, W] bool
    """Read the object masks of a video's first frame from the user's file, if there is one.

    Raises:
        EgoXInputError: a picture that can't be read or is of another size.
    """
    folder = job.options.first
    mask_file = None if folder is None else folder / f"{job.record.clip}.png"
    if mask_file is not None and mask_file.is_file():
        picture = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.shape != size:
            raise EgoXInputError(
                f"first mask {mask_file.name}",
                got="no picture" if picture is None else picture.shape,
                expected=f"one number per pixel, {size[1]}x{size[0]}",
                fix="draw it at the ego size",
            )
        return {
            str(object_number): picture == object_number
            for object_number in np.unique(picture)
            if object_number
        }
    return {}


class SamTracker:
    """SAM 2 video model of transformers that follows objects through a video.

    Raises:
        EgoXInputError: transformers missing or too old, no such folder.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.device = device
        self.processor, self.model = open_model_folder(
            folder,
            "Sam2VideoProcessor",
            "Sam2VideoModel",
            subject="SAM 2",
            expected="a SAM 2 folder",
            download_hint=SAM_WEIGHTS,
        )
        self.model = self.model.to(device)

    def _session(self, video: Tensor) -> Any:
        frames = (video * 255).round().to(torch.uint8).numpy()
        return self.processor.init_video_session(video=list(frames), inference_device=self.device)

    @torch.no_grad()
    def follow(
        self,
        video: Tensor,  # [T, H, W, 3] float 0...1
        # Masks [H, W] bool by the object's id.
        initial_masks: Mapping[str, np.ndarray],
    ) -> MasksById:
        """Track objects through a video, given their masks in the first frame."""
        if not initial_masks:
            return {}
        sam_session, object_names = self._session(video), list(initial_masks)
        self.processor.add_inputs_to_inference_session(
            inference_session=sam_session,
            frame_idx=0,
            obj_ids=list(range(len(object_names))),
            input_masks=[
                torch.from_numpy(np.ascontiguousarray(mask)) for mask in initial_masks.values()
            ],
        )
        masks_by_name = {name: np.zeros(video.shape[:3], bool) for name in object_names}
        for frame_output in self.model.propagate_in_video_iterator(sam_session, start_frame_idx=0):
            masks = self._masks(frame_output.pred_masks, video)
            for object_number, mask in zip(sam_session.obj_ids, masks, strict=True):
                masks_by_name[object_names[object_number]][frame_output.frame_idx] = mask
        return masks_by_name

    @torch.no_grad()
    def find_objects(
        self,
        video: Tensor,  # [T, H, W, 3] float 0...1
    ) -> dict[str, np.ndarray]:  # by number, [H, W] bool
        """Find objects in the first frame of a video by prompting SAM 2 with a grid of points."""
        height, width = video.shape[1:3]
        steps = (np.arange(GRID) + 0.5) / GRID
        points = [[float(x * width), float(y * height)] for y in steps for x in steps]
        sam_session = self._session(video[:1])
        self.processor.add_inputs_to_inference_session(
            inference_session=sam_session,
            frame_idx=0,
            obj_ids=list(range(len(points))),
            input_points=[[[point] for point in points]],
            input_labels=[[[1] for _ in points]],
        )
        prompted_masks = self._masks(
            self.model(inference_session=sam_session, frame_idx=0).pred_masks, video
        )
        distinct_masks: list[np.ndarray] = []
        for mask in sorted(prompted_masks, key=lambda m: -int(m.sum())):
            has_plausible_size = LEAST_AREA_SHARE <= mask.mean() <= MOST_AREA_SHARE
            if has_plausible_size and all(
                (mask & kept_mask).sum() < SAME * (mask | kept_mask).sum()
                for kept_mask in distinct_masks
            ):
                distinct_masks.append(mask)
        return {
            str(object_number): mask for object_number, mask in enumerate(distinct_masks, start=1)
        }

    def _masks(self, logits: Tensor, video: Tensor) -> np.ndarray:  # [N, H, W] bool
        video_size = [list(video.shape[1:3])]
        return (
            self.processor.post_process_masks([logits], original_sizes=video_size, binarize=True)[
                0
            ][:, 0]
            .cpu()
            .numpy()
        )


load_tracker, load_object_finder = lru_cache(maxsize=1)(SamTracker), lru_cache(maxsize=1)(AutoMasks)
"""The models of a folder, read once a process."""
