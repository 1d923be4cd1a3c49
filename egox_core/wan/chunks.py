"""Sample a video that is longer than the model's clip, in overlapping chunks.

Each chunk has its own first frame, as every clip that the model was trained on; a window cut out of
a long latent has not. Exo and prior are known for all frames, so a chunk is told where it is. The
first ego frames of all but the first are known: those that the chunk before ended with. They are
held while the chunk is sampled; told to the model by mask and condition latent, as Wan's
image-to-video input has them, they lead EgoX's LoRAs astray, which never saw an ego half that is
known (this was measured)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from ..archives import NPY_ERRORS
from ..errors import EgoXInputError
from ..frame_store import FrameStore
from ..frozen import content_digest, frozen
from ..safe_files import atomic_write
from ..sizes import FRAMES_PER_LATENT, latent_frames
from ..types import CameraTrajectory, DepthVideo, of_frames

SMALLEST_SPREAD = 1e-3
"""Least spread of a Lab channel: a flat one has no spread that could be scaled."""


@frozen
class Chunk:
    """Range of video frames that is sampled as one clip."""

    number: int  # from 0
    start: int  # first frame
    count: int  # frames, 4n+1
    known: int  # first frames that the chunk before has made, 4n+1; 0 for the first chunk

    @property
    def frames(self) -> slice:
        """Slice of the video's frames that this chunk covers."""
        return slice(self.start, self.start + self.count)


def check_overlap(length: int, known: int) -> None:
    """Refuse a chunk length or overlap that isn't 4n+1, or an overlap as long as the chunk.

    Raises:
        EgoXInputError: one of them isn't 4n+1, or the overlap isn't smaller than the clip.
    """
    latent_frames(length)
    latent_frames(known)
    if known >= length:
        raise EgoXInputError(
            "frames that each chunk continues from",
            got=known,
            expected=f"fewer than its {length} frames",
            fix="use longer chunks"
            if length == 1
            else f"use {min(5, length - FRAMES_PER_LATENT)}, or longer chunks",
        )


def plan_chunks(frames: int, length: int, known: int) -> tuple[Chunk, ...]:
    """Plan chunks of ``length`` frames, each overlapping the chunk before by ``known`` frames.

    The last one ends with the video and so knows more frames; a video that fits is one chunk, no
    longer than it.

    Raises:
        EgoXInputError: a count that isn't 4n+1, an overlap that isn't smaller than the chunk.
    """
    latent_frames(frames)
    check_overlap(length, known)
    chunks = [Chunk(number=0, start=0, count=min(frames, length), known=0)]
    while (end := chunks[-1].frames.stop) < frames:
        start = min(end - known, frames - length)
        chunks.append(Chunk(number=len(chunks), start=start, count=length, known=end - start))
    return tuple(chunks)


def check_covers(
    depth: DepthVideo | None, trajectory: CameraTrajectory | None, frames: int, needed: bool = False
) -> None:
    """Refuse depth or poses that cover fewer frames than the video.

    Raises:
        EgoXInputError: depth or poses for fewer frames than the video has; none for look-away
            memory.
    """
    for input_name, source, frames_given in (
        ("depth", "stages.align", None if depth is None else len(depth.depth_m)),
        ("ego trajectory", "stages.path", None if trajectory is None else len(trajectory)),
    ):
        if frames_given is None and needed:
            raise EgoXInputError(
                "look-away memory",
                got=f"no {input_name}",
                expected="depth and trajectory",
                fix=f"give {input_name} of {source}, or switch look_away_memory off",
            )
        if frames_given is not None and frames_given < frames:
            raise EgoXInputError(
                input_name,
                got=f"{frames_given} frames",
                expected=f"the video's {frames} frames",
                fix=f"give the frames of stages.load_clip to {source}, or load a shorter video",
            )


def hold_colours(
    frames: Tensor,  # [T, H, W, 3] 0...1, of a new chunk
    before: Tensor,  # [n, H, W, 3] 0...1, what its first n frames were in the chunk before
) -> Tensor:  # [T, H, W, 3] float32
    """Match the colours of a new chunk to the previous chunk by their overlapping frames."""
    (mean, spread), (target_mean, target_spread) = (
        _lab_statistics(frames[: len(before)]),
        _lab_statistics(before),
    )
    scale = np.where(
        np.minimum(spread, target_spread) > SMALLEST_SPREAD,
        target_spread / np.maximum(spread, SMALLEST_SPREAD),
        1,
    ).astype(np.float32)
    result = torch.empty(frames.shape, dtype=torch.float32)
    for index, frame in enumerate(frames):
        lab_before = _lab(frame)
        lab_after = ((lab_before - mean) * scale + target_mean).astype(np.float32)
        # OpenCV goes to Lab and back to 2e-3 only; in the difference that cancels.
        change = cv2.cvtColor(lab_after, cv2.COLOR_Lab2RGB) - cv2.cvtColor(
            lab_before, cv2.COLOR_Lab2RGB
        )
        result[index] = (frame.detach().cpu().float() + torch.from_numpy(change)).clamp(0, 1)
    return result


def _lab(frame: Tensor) -> np.ndarray:  # [H, W, 3] 0...1 -> the same, L 0...100
    return cv2.cvtColor(
        np.ascontiguousarray(frame.detach().cpu().float().numpy()), cv2.COLOR_RGB2Lab
    )


def _lab_statistics(
    frames: Tensor,
) -> tuple[np.ndarray, np.ndarray]:  # mean [3], standard deviation [3]
    pixels = np.concatenate([_lab(frame).reshape(-1, 3) for frame in frames])
    return pixels.mean(0), pixels.std(0)


class ChunkFiles:
    """Finished chunks on disk, from which a cancelled run continues.

    Each is there as a whole or not at all.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        self.folder = folder
        self.origin = origin  # changes with all settings and weights that a chunk depends on
        self.used: list[Path] = []

    def path(self, chunk: Chunk, *parts: Any) -> Path:
        """Name a chunk's file by a digest of everything that the chunk is made from."""
        return self.folder / f"{content_digest(self.origin, chunk, *parts)[:40]}.npy"

    def get(self, path: Path) -> Tensor | None:
        """Read a finished chunk [T, H, W, 3], or return None if its file is missing or damaged."""
        self.used.append(path)
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except NPY_ERRORS:
            return None

    def put(self, path: Path, frames: Tensor) -> None:
        """Write a finished chunk to its file."""
        with atomic_write(path) as temporary:
            np.save(temporary, frames.detach().cpu().numpy())

    def clear(self) -> None:
        """Delete the chunk files that this run has used."""
        for path in self.used:
            path.unlink(missing_ok=True)


class ChunkMemory(Protocol):
    """Memory of places that earlier chunks generated (see :mod:`egox_core.prior.look_away`)."""

    def fill(
        self, exo: Tensor, prior: Tensor, depth: DepthVideo, trajectory: CameraTrajectory
    ) -> Tensor:
        """Fill the holes of a chunk's prior [T, H, W, 3] from the memory."""

    def keep(self, video: Tensor, trajectory: CameraTrajectory) -> None:
        """Store the generated ego frames [T, H, W, 3] of a chunk in the memory."""


def sample_chunks(
    chunks: Sequence[Chunk],
    exo_images: Tensor,  # [T, H, W_exo, 3] 0...1
    prior: Tensor,  # [T, H, W, 3] 0...1
    depth: DepthVideo | None,
    trajectory: CameraTrajectory | None,
    sample: Callable[
        [Chunk, Tensor, Tensor, DepthVideo | None, CameraTrajectory | None, Tensor], Tensor
    ],
    files: ChunkFiles | None = None,
    # Needs depth and trajectory.
    memory: ChunkMemory | None = None,
    # Stores each frame's prior as its chunk got it.
    given: FrameStore | None = None,
    # Gives the poses that a chunk's generated frames show, for the memory.
    shown_poses: Callable[[Tensor, Tensor, DepthVideo, CameraTrajectory], CameraTrajectory]
    | None = None,
) -> Tensor:  # [T, H, W, 3] float32 0...1, mapped from a file where it is long
    """Sample the ego video chunk by chunk.

    ``sample`` makes a chunk's frames from its exo, prior, depth, poses and known ego frames.

    Raises:
        EgoXInputError: as :func:`check_covers`.
    """
    check_covers(depth, trajectory, len(exo_images), needed=memory is not None)
    video_store = None
    known_frames = prior[:0]
    next_overlaps = [*(chunk.known for chunk in chunks[1:]), 0]
    for chunk, next_overlap in zip(chunks, next_overlaps, strict=True):
        exo_frames, prior_frames = exo_images[chunk.frames], prior[chunk.frames]
        chunk_depth = None if depth is None else of_frames(depth, chunk.frames)
        chunk_poses = None if trajectory is None else of_frames(trajectory, chunk.frames)
        if memory is not None and len(chunks) > 1:
            assert chunk_depth is not None and chunk_poses is not None  # as check_covers has seen
            prior_frames = memory.fill(exo_frames, prior_frames, chunk_depth, chunk_poses)
        if given is not None:
            for picture in prior_frames[chunk.known :]:
                given.append(picture.cpu().numpy())
        ego_frames = None
        if files is not None:
            chunk_path = files.path(
                chunk, exo_frames, prior_frames, known_frames, chunk_depth, chunk_poses
            )
            ego_frames = files.get(chunk_path)
        if ego_frames is None:
            ego_frames = sample(
                chunk, exo_frames, prior_frames, chunk_depth, chunk_poses, known_frames
            )
            ego_frames = (
                hold_colours(ego_frames, known_frames)
                if chunk.known
                else ego_frames.detach().cpu().float()
            )
            if files is not None:
                files.put(chunk_path, ego_frames)
        if shown_poses is not None and chunk_depth is not None and chunk_poses is not None:
            chunk_poses = shown_poses(ego_frames, exo_frames, chunk_depth, chunk_poses)
        if len(chunks) == 1:
            return ego_frames
        if memory is not None and chunk_poses is not None:
            memory.keep(ego_frames, chunk_poses)
        video_store = video_store or FrameStore(
            chunks[-1].frames.stop, tuple(ego_frames.shape[1:]), np.float32
        )
        for frame in ego_frames[chunk.known :]:
            video_store.append(frame.numpy())
        frames_so_far = torch.cat((known_frames, ego_frames[chunk.known :]))
        known_frames = frames_so_far[
            len(frames_so_far) - next_overlap :
        ].clone()  # a slice would hold all of them
        del frames_so_far, ego_frames
    assert video_store is not None  # of at least one chunk
    return video_store.tensor()
