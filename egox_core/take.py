"""Load a take folder as frames, depth and ego path of the same moments."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from .exchange import times_of_path
from .facts import Declared
from .file_names import DEPTH, EXO, HANDS, HEAD_TRAJECTORY, META
from .frames import FileFrames, Numbering, covered_part
from .frozen import frozen
from .hands import HandTrack, hands_in_use
from .progress import Progress, no_progress
from .remarks import FactRow
from .safe_files import require_folder
from .sizes import longest_clip
from .stages import align, path
from .takes import (
    DepthReport,
    find_depth,
    open_depth,
    pose_numberings,
    read_meta,
    with_exo_lens,
    with_takes_raw_scale,
)
from .types import (
    CameraTrajectory,
    DepthVideo,
    ExoLens,
    FrameSelection,
    ScaleSource,
    TakeMeta,
    TakeNotes,
)
from .video import VideoClip, open_clip

DEFAULT_FRAMES = 49


@frozen
class Take:
    """Loaded take, whose pictures are only read on demand."""

    name: str
    folder: Path
    clip: VideoClip
    depth: DepthVideo
    trajectory: CameraTrajectory
    notes: TakeNotes  # prompt and K
    lens_note: str  # with which exo lens it was read
    report: DepthReport  # on the depth
    hands: HandTrack | None = None  # of hands.json, where there is one
    meta: TakeMeta | None = None  # of meta.json, where there is one

    @property
    def frames(self) -> FrameSelection:
        """Frames in use."""
        return self.clip.selection

    @property
    def facts(self) -> tuple[FactRow, ...]:
        """List what was settled of the take, and by whom."""
        hand_rows = () if self.hands is None else self.hands.facts
        return tuple(
            dict.fromkeys(
                (
                    *self.frames.facts,
                    *self.depth.facts,
                    *self.trajectory.facts,
                    *hand_rows,
                )
            )
        )

    def read_exo(self, progress: Progress = no_progress) -> Tensor:  # [T, H, W, 3] uint8
        """Read the exo frames in use.

        Raises:
            EgoXInputError: one of them can't be decoded, a cut between two.
        """
        return self.clip.read(progress)

    def depth_with_raw_scale(self, progress: Progress = no_progress) -> DepthVideo:
        """Measure the scale of the depth with its raw lens, which the exact geometry needs."""
        return with_takes_raw_scale(self.depth, self.meta, self.frames, progress=progress)


def load_take(
    folder: Path | str,
    *,
    start_frame: int = 0,
    frame_count: int | None = DEFAULT_FRAMES,
    most_frames: int | None = None,
    target_fps: float = 0.0,
    size: tuple[int, int] | None = None,
    camera_preset: str | None = None,
    ego_size: int | None = None,
    entry: str = "",
    meta_file: Path | None = None,
    exo_lens: ExoLens = "as given",
    scale: ScaleSource | float = "as is",
    file_frames: FileFrames = "auto",
    one_shot: bool = False,
    whole_latents: bool = True,
    declared: Declared | Mapping[str, object] | str | None = None,
    progress: Progress = no_progress,
) -> Take:
    """Load a take folder: exo video, depth, cameras and, if there is one, the hands.

    It holds exo.mp4 (of which the index is read), depth.npz (or a depth folder or depth.zip),
    meta.json and, if there is one, hands.json. The ego path is that of head_trajectory.json where
    meta.json has none.

    Args:
        frame_count: 4n+1; None: all frames of the video that have depth and poses. A row of
            the facts says which ones are left out at an end, and why.
        most_frames: of all frames, as many as another video of the take has.
        size: (width, height) of the frames, multiples of 16; None: the video's own.
        ego_size: of the square ego picture, px; None: as high as the exo frames. A take that states
            its own ego camera keeps that one.
        camera_preset: of a take that states none; None is aria_released, with a remark in its notes
            where K of the take is another camera's.
        entry: the take's name, where meta.json lists several.
        meta_file: meta.json or list that knows the take; None: the folder's own. In a list the
            entry counts that is called as the folder, unless ``entry`` names another.
        exo_lens: see :func:`.takes.with_exo_lens`.
        scale: of the depth, see :func:`.takes.with_scale`; the wearer's poses are the take's
            own.
        file_frames: of which frames the entries of its files are that don't state it.
        one_shot: what looks like a cut is none.
        whole_latents: False takes any count of frames, which no model can.
        declared: what the user knows of the take, see facts.FACTS: "depth.unit=cm".

    Raises:
        EgoXInputError: a file missing or bad, anything shorter than the frames in use, sizes that
            don't fit.
    """
    folder = Path(folder)
    require_folder(folder, "take", f"a take folder with {EXO}, {DEPTH} and {META}")
    declared = Declared.of(declared)
    meta = read_meta(meta_file or folder / META, entry, folder / EXO, declared)
    meta, lens_note = with_exo_lens(replace(meta, declared=declared.over(meta.declared)), exo_lens)
    width, height = size or (None, None)
    clip = open_clip(
        folder / EXO,
        start_frame=start_frame,
        frame_count=frame_count,
        target_fps=target_fps,
        width=width,
        height=height,
        one_shot=one_shot,
        whole_latents=whole_latents,
        exo_part=meta.declared.exo_part,
        progress=progress,
    )
    clip = replace(clip, selection=replace(clip.selection, facts=meta.declared.rows("exo.part")))
    head_file = folder / HEAD_TRAJECTORY
    poses = meta.ego_source(head_file if head_file.is_file() else None)
    if frame_count is None:
        numberings = _numberings(find_depth(folder), meta, poses, file_frames)
        clip = _cut_to_facts(clip, numberings, most_frames, whole_latents=whole_latents)
        if file_frames == "in use" and start_frame == 0 and not target_fps:
            file_frames = "source"  # which is the same before the cut
    frames = clip.selection
    trajectory, notes = path(
        poses,
        frames=frames,
        camera=meta.ego_lens or camera_preset,
        ego_size=None if meta.ego_lens else ego_size or frames.size[1],
        file_frames=file_frames,
    )
    notes = replace(notes, prompt=meta.prompt)
    hand_track = None
    if (hands := folder / HANDS).is_file():
        hand_track = hands_in_use(
            hands, frames, meta.declared.with_arguments({"hands.frames": file_frames})
        )
    depth, report = align(
        find_depth(folder),
        frames=frames,
        meta=meta,
        guess_camera=False,
        scale=scale,
        file_frames=file_frames,
        progress=progress,
    )
    take = Take(
        name=meta.name,
        folder=folder,
        clip=clip,
        depth=depth,
        trajectory=trajectory,
        notes=notes,
        lens_note=lens_note,
        report=report,
        hands=hand_track
        and hand_track.with_depth_check(depth.depth_m, depth.exo.camera, frames.source_size),
        meta=meta,
    )
    declared.check_applied(take.facts, "this take's files")
    return take


def _numberings(
    depth_file: Path, meta: TakeMeta, poses: TakeMeta | Path, file_frames: FileFrames
) -> list[Numbering]:
    """State of which frames of the video a take's depth and poses are."""
    with open_depth(depth_file) as depth:
        declared = meta.declared.with_arguments({"depth.frames": file_frames})
        depth_numbering = depth.numbering.declared(declared.argument_value("depth.frames"))
    numberings = [depth_numbering, *pose_numberings(meta, file_frames)]
    if not isinstance(poses, Path):
        return numberings
    times_s = times_of_path(poses)
    if times_s is not None and len(times_s) > 1:
        numberings.append(
            Numbering(what=poses.name, count=len(times_s), times_s=times_s, times_of_video=True)
        )
    return numberings


def _cut_to_facts(
    clip: VideoClip,
    numberings: Sequence[Numbering],
    most_frames: int | None,
    *,
    whole_latents: bool,
) -> VideoClip:
    """Cut a whole clip to the frames that all facts have, with a row that says why."""
    frames = clip.selection
    parts = [covered_part(frames, numbering) for numbering in numberings]
    first = max((part.start for part in parts), default=0)
    end = min((part.stop for part in parts), default=len(frames))
    limiting_names = [
        f"{numbering.what} ({numbering.count} entries)"
        for numbering, part in zip(numberings, parts, strict=True)
        if (part.start, part.stop) != (0, len(frames)) and (part.start == first or part.stop == end)
    ]
    if most_frames is not None:
        end = min(end, first + most_frames)
    if whole_latents:
        end = first + longest_clip(max(1, end - first))
    if not limiting_names or end <= first:
        return replace(clip, selection=frames.select(slice(0, most_frames or len(frames))))
    row = FactRow(
        fact="frames",
        value=f"{int(frames.indices[first])} to {int(frames.indices[end - 1])} of the video's "
        f"{frames.end}",
        by=", ".join(limiting_names),
    )
    used_frames = frames.select(slice(first, end))
    selection = replace(used_frames, facts=(*used_frames.facts, row))
    return replace(clip, selection=selection, left_over=0)  # the row says what is left out
