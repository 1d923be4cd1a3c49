"""A video that is longer than the model's clip, as chunks that are clips of their own.

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
    """Frames of a video that are sampled as one clip."""

    number: int  # from 0
    start: int  # first frame
    count: int  # frames, 4n+1
    known: int  # first frames that the chunk before has made, 4n+1; 0 for the first chunk

    @property
    def frames(self) -> slice:
        """Its frames among those of the video."""
        return slice(self.start, self.start + self.count)


def check_overlap(length: int, known: int) -> None:
    """Refuse a clip length and an overlap that can't be.

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
            fix=f"use {min(5, max(1, length - FRAMES_PER_LATENT))}, or longer chunks",
        )


def plan_chunks(frames: int, length: int, known: int) -> tuple[Chunk, ...]:
    """Plan chunks of ``length`` frames, each from the last ``known`` of the one before on.

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
    """Refuse, before the first chunk, what ends before the last one, or is missing where it is
    needed.

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
    """Mean and spread of the overlap's Lab channels as they were before (Reinhard's colour
    transfer)."""
    (mean, spread), (target_mean, spread_wanted) = (
        _lab_statistics(frames[: len(before)]),
        _lab_statistics(before),
    )
    scale = np.where(
        np.minimum(spread, spread_wanted) > SMALLEST_SPREAD,
        spread_wanted / np.maximum(spread, SMALLEST_SPREAD),
        1,
    ).astype(np.float32)
    result = torch.empty(frames.shape, dtype=torch.float32)
    for at, frame in enumerate(frames):
        lab_before = _lab(frame)
        lab_after = ((lab_before - mean) * scale + target_mean).astype(np.float32)
        # OpenCV goes to Lab and back to 2e-3 only; in the difference that cancels.
        change = cv2.cvtColor(lab_after, cv2.COLOR_Lab2RGB) - cv2.cvtColor(
            lab_before, cv2.COLOR_Lab2RGB
        )
        result[at] = (frame.detach().cpu().float() + torch.from_numpy(change)).clamp(0, 1)
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
        """Name the file of a chunk that is made of these tensors and payloads."""
        return self.folder / f"{content_digest(self.origin, chunk, *parts)[:40]}.npy"

    def get(self, path: Path) -> Tensor | None:
        """Read a finished chunk [T, H, W, 3], if it is there and intact."""
        self.used.append(path)
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except NPY_ERRORS:
            return None

    def put(self, path: Path, frames: Tensor) -> None:
        """Keep a chunk."""
        with atomic_write(path) as temporary:
            np.save(temporary, frames.detach().cpu().numpy())

    def clear(self) -> None:
        """Remove what this run has used: its result is whole."""
        for path in self.used:
            path.unlink(missing_ok=True)


class ChunkMemory(Protocol):
    """Remember what earlier chunks made (see :mod:`egox_core.prior.look_away`)."""

    def fill(
        self, exo: Tensor, prior: Tensor, depth: DepthVideo, trajectory: CameraTrajectory
    ) -> Tensor:
        """Fill the chunk's prior [T, H, W, 3] with what is remembered."""

    def keep(self, video: Tensor, trajectory: CameraTrajectory) -> None:
        """Remember a chunk's ego frames [T, H, W, 3]."""


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
) -> Tensor:  # [T, H, W, 3] float32 0...1, mapped from a file where it is long
    """Sample the ego video chunk by chunk.

    ``sample`` makes a chunk's frames from its exo, prior, depth, poses and known ego frames.

    Raises:
        EgoXInputError: as :func:`check_covers`.
    """
    check_covers(depth, trajectory, len(exo_images), needed=memory is not None)
    video_store = None
    known_frames = prior[:0]
    following = [*(chunk.known for chunk in chunks[1:]), 0]
    for chunk, next_known in zip(chunks, following, strict=True):
        exo, pictures = exo_images[chunk.frames], prior[chunk.frames]
        of_depth = None if depth is None else of_frames(depth, chunk.frames)
        poses = None if trajectory is None else of_frames(trajectory, chunk.frames)
        if memory is not None and len(chunks) > 1:
            assert of_depth is not None and poses is not None  # as check_covers has seen
            pictures = memory.fill(exo, pictures, of_depth, poses)
        if given is not None:
            for picture in pictures[chunk.known :]:
                given.append(picture.cpu().numpy())
        ego = None
        if files is not None:
            path = files.path(chunk, exo, pictures, known_frames, of_depth, poses)
            ego = files.get(path)
        if ego is None:
            ego = sample(chunk, exo, pictures, of_depth, poses, known_frames)
            ego = hold_colours(ego, known_frames) if chunk.known else ego.detach().cpu().float()
            if files is not None:
                files.put(path, ego)
        if len(chunks) == 1:
            return ego
        if memory is not None and poses is not None:
            memory.keep(ego, poses)
        video_store = video_store or FrameStore(
            chunks[-1].frames.stop, tuple(ego.shape[1:]), np.float32
        )
        for frame in ego[chunk.known :]:
            video_store.append(frame.numpy())
        frames_so_far = torch.cat((known_frames, ego[chunk.known :]))
        known_frames = frames_so_far[
            len(frames_so_far) - next_known :
        ].clone()  # a slice would hold all of them
        del frames_so_far, ego
    assert video_store is not None  # of at least one chunk
    return video_store.tensor()
