"""Run the seven stages from an exo video to an ego video, each as one function.

Files or arrays go in, a frozen payload and a report come out. Arrays are numpy or torch: frames
``[T, H, W, 3]`` uint8 of 0...255 or floats of 0...1; depth ``[T, H, W]`` in metres, invalid pixels
NaN; poses ``[T, 3, 4]`` w2c in metres, OpenCV axes; masks ``[T, H, W]`` of 0 and 1; ``K [3, 3]`` in
px, pixel centres at integers. Anything else is refused with
:class:`~egox_core.errors.EgoXInputError` before any long work.

``progress`` is called in every long loop; to cancel, it raises. Results are on the CPU unless
``device`` is said to move them; inputs may be on any device.

    clip, _ = load_clip("exo.mp4", frame_count=None)
    depth, _ = align("depth.npz", frames=clip.selection, camera=K, exo_w2c=exo_w2c)
    trajectory, notes = path("meta.json", frames=clip.selection)
    points, _ = scene(clip.exo, depth)
    ego, _ = prior(points, trajectory)
    conditioned, _ = condition(clip.exo, ego.rgb, encoders)
    judgement, _ = judge(video, scene=points, trajectory=trajectory)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .arrays import Array, as_floats, as_frames
from .cameras import CameraModel, CameraPath, preset_camera
from .depth import (
    DepthSource,
    array_depth,
    frames_of_size,
    with_host_masks,
    with_trust,
)
from .errors import EgoXInputError, in_words
from .exchange import read_trajectory, trajectory_of_keyframes
from .facts import (
    Declared,
    first_posed,
    path_of_array,
    same_poses,
    with_exo_axes,
)
from .frames import UNTIMED_FPS, FileFrames, Frames, settle_frames
from .frozen import frozen
from .metrics import PathError, PathViews, check_pair
from .prior import PriorOptions, check_placement, prior_options, render_ego_prior
from .progress import Progress, no_progress
from .remarks import Remark, StageReport
from .scene import build_scene
from .sizes import REFERENCE_SIZE
from .takes import DepthReport, is_aria_k, meta_trajectory, take_depth
from .trajectory import (
    adapted,
    check_made_on,
    has_w2c,
    resample,
    taken_facts,
    trajectory_of_array,
    with_declared_world,
)
from .types import (
    AlignMode,
    CameraTrajectory,
    Canvas,
    DepthKind,
    DepthVideo,
    EgoPrior,
    FrameSelection,
    ImageEmbeddingMode,
    MaskMode,
    Moving,
    PointCloud,
    Resize,
    ScaleSource,
    Sound,
    TakeMeta,
    TakeNotes,
    is_a,
    seen_shares,
    seen_text,
)
from .video import Undistortion, VideoClip, VideoSource, open_clip, video_mark
from .wan import Conditioned, Encoders, check_pictures, embedding_picture, fit_latent_colours

OF_TURNED = (
    "no ego camera is given: the poses are taken as those of aria_released, whose sensor is turned "
    "by 90 degrees; give camera where they are of the upright picture"
)
Device = torch.device | str | None
Payload = TypeVar("Payload")


@frozen
class Clip:
    """Exo frames in use, with their source."""

    exo: Tensor  # [T, H, W, 3] uint8 0...255 of a file; of arrays their own kind
    selection: FrameSelection  # which frames of the source they are; depth and poses follow it
    source: VideoClip

    @property
    def sound(self) -> Sound | None:
        """Sound of these frames, read at each access.

        Raises:
            EgoXInputError: a track that can't be decoded.
        """
        return self.source.sound()


def load_clip(
    # A file, its bytes, or all frames [N, H, W, 3].
    video: VideoSource | str | Array,
    *,
    start_frame: int = 0,
    frame_count: int | None = 49,  # 4n+1; None: the largest such number that there are
    # Frames per second to pick; 0 picks every ``step``-th frame.
    target_fps: float = 0.0,
    step: int = 1,
    resize: Resize = "crop",
    size: tuple[int, int] | None = None,  # (width, height), multiples of 16; None: the video's own
    # Frame rate of an array.
    fps: float = UNTIMED_FPS,
    # Sound of the whole video, for an array.
    sound: Sound | None = None,
    # Start and duration of a trim; a duration of 0 extends to the end.
    window_s: tuple[float, float] = (
        0.0,
        0.0,
    ),
    # The frames are redrawn for a pinhole by it.
    undistortion: Undistortion | None = None,
    # True: what looks like a cut is a lamp, a shadow or a person who comes close.
    one_shot: bool = False,
    # What the user knows of the picture, see facts.FACTS: "exo.part=left"; it goes before what a
    # meta.json beside the video declares.
    declared: Declared | Mapping[str, object] | str | None = None,
    # Device of the frames.
    device: Device = None,
    progress: Progress = no_progress,
) -> tuple[Clip, StageReport]:
    """Read the exo frames in use (stage 1).

    Raises:
        EgoXInputError: no video, frames that it doesn't have, a size that can't be, a cut between
            two frames.
    """
    if isinstance(video, (str, Path)):
        video = Path(video)
    elif not hasattr(video, "read"):
        video = as_frames(video, "exo video")
    if not isinstance(video, Tensor):
        fps_given = None if fps == UNTIMED_FPS else fps
        _refuse_arguments("load_clip", "frames in memory as video", sound=sound, fps=fps_given)
    width, height = size or (None, None)
    declared_facts = Declared.of(declared, own=("exo.part",))
    if isinstance(video, Path):
        declared_facts = declared_facts.over(Declared.of_folder(video.parent))
    rows = declared_facts.rows("exo.part")
    source_clip = open_clip(
        video,  # ty: ignore[invalid-argument-type]  checked above
        start_frame=start_frame,
        frame_count=frame_count,
        target_fps=target_fps,
        step=step,
        resize=resize,
        width=width,
        height=height,
        fps=fps,
        sound=sound,
        window_s=window_s,
        undistortion=undistortion,
        one_shot=one_shot,
        exo_part=declared_facts.exo_part,
        progress=progress,
    )
    frames = source_clip.read(progress)
    selection = replace(source_clip.selection, facts=rows)
    if isinstance(video, Tensor):  # may be a part of another video
        selection = replace(selection, total=None, end_s=None)
    clip = Clip(
        exo=frames if device is None else frames.to(device),
        selection=selection,
        source=source_clip,
    )
    return clip, StageReport(notes=source_clip.notes, facts=rows)


def align(
    depth: Path | str | Array | DepthVideo | None = None,
    *,
    # The frames in use; None takes those of the depth.
    frames: Frames | None = None,
    # The exo camera as a take's file gives it.
    meta: TakeMeta | None = None,
    # The exo camera, or its K [3, 3], in px of the source video, the frames in use or the
    # maps.
    camera: CameraModel | Array | None = None,
    exo_w2c: Array | None = None,  # [3, 4] or [T, 3, 4], of the frames in use or the whole source
    video_depth: Array | None = None,  # [T, H, W], steady over time, of ``video_kind``
    video_kind: DepthKind = "relative z",
    # Payloads of depth models, in place of files.
    sockets: Mapping[str, Any] | None = None,
    # Above 0: width of the exo camera's view, if nothing else gives it.
    fov_deg: float = 0.0,
    # False refuses a file without intrinsics.
    guess_camera: bool = True,
    scale: ScaleSource | float = "as is",
    dynamic_mask: Array | None = None,  # [T or 1, h, w] 0...1, what moves
    sky_mask: Array | None = None,  # [T or 1, h, w] 0...1
    mode: AlignMode = "least squares",
    # Adds how reliable each pixel is.
    trust: bool = False,
    # Device of the maps.
    device: Device = None,
    # Of which frames maps and exo_w2c are: entry i of frame i of the source, or of the i-th in
    # use; auto reads what a file states, or goes by their count.
    file_frames: FileFrames = "auto",
    # What the user knows of the maps, see facts.FACTS: "depth.unit=cm, depth.kind=ray".
    declared: Declared | Mapping[str, object] | str | None = None,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, DepthReport]:
    """Make metric z depth of the exo video, smooth over time (stage 2, paper section 3.1).

    Args:
        depth: metric depth: a file of the whole source video, or maps [T, H, W] in metres of the
            frames in use, or of the source.

    Raises:
        EgoXInputError: no metric depth, another size or length than the frames, a camera or pose
            that can't be, or beside a file or depth that says another one.
    """
    source: Path | list[DepthSource] | None = None
    argument = Declared.of(declared, own=("depth.", "exo."))
    declared = argument if meta is None else argument.over(meta.declared)
    declared = declared.with_arguments(
        {"depth.frames": file_frames, "depth.scale": scale, "exo.fov_deg": fov_deg}
    )
    if isinstance(depth, (str, Path)):
        source = Path(depth)
    elif depth is not None:
        is_aligned = is_a(depth, DepthVideo)
        source = [
            DepthSource(depth=_to_device(depth, "cpu"), name="depth")
            if is_aligned
            else array_depth(depth, "depth array", declared=declared)
        ]
        if video_depth is not None and not is_aligned:
            source.append(array_depth(video_depth, "video depth array", video_kind))
            video_depth = None
    _refuse_arguments("align", "maps [T, H, W] as depth", video_depth=video_depth)
    if sockets:
        _refuse_arguments("align", "sockets, or depth without them", depth=depth)
    aligned, report = take_depth(
        source,
        meta,
        frames,
        sockets,
        lens=camera,
        guess_camera=guess_camera,
        dynamic_mask=dynamic_mask,
        sky_mask=sky_mask,
        mode=mode,
        declared=declared,
        progress=progress,
    )
    if exo_w2c is not None:
        pose_facts = argument.over(declared.part("depth.frames"))
        posed_exo, pose_report = _with_exo_pose(
            aligned.exo, exo_w2c, aligned.frames, pose_facts, "depth.frames"
        )
        if is_a(camera, CameraModel):  # which may be turned, and its poses with it
            posed_exo = replace(posed_exo, w2c=camera.upright_poses(posed_exo.w2c))
        aligned = replace(aligned, exo=posed_exo, facts=(*aligned.facts, *pose_report.facts))
        notes = (*report.notes, *pose_report.notes)
        report = replace(report, notes=notes, facts=aligned.facts)
    argument.check_applied(report.facts, "these maps and their camera")
    aligned = with_trust(aligned, progress=progress) if trust else replace(aligned, trust=None)
    return _to_device(aligned, device), report


def _with_exo_pose(
    exo: CameraPath | None,
    exo_w2c: Array,
    frames: Frames,
    declared: Declared,
    frames_fact: str,
) -> tuple[CameraPath, StageReport]:
    """Give the exo camera a pose in the take's world, and refuse a second, different pose."""
    exo = CameraPath.of_exo(None, frames=frames.without_sizes) if exo is None else exo
    given_path, report = path_of_array(exo_w2c, "exo_w2c", "exo", frames, declared, frames_fact)
    posed_exo = replace(exo, w2c=given_path.w2c, frames=given_path.frames, world="take")
    if not posed_exo.at_origin and not exo.at_origin and not same_poses(posed_exo, exo):
        raise EgoXInputError(
            "exo_w2c",
            got="another pose than that of the depth, the path or the file next to it",
            expected="one pose of the exo camera",
            fix="leave exo_w2c out",
        )
    return first_posed(posed_exo, exo), report


def path(
    poses: Path | str | Array | Sequence[Mapping] | Mapping | TakeMeta,
    *,
    # The frames in use; None takes as many as there are poses.
    frames: Frames | None = None,
    # Number of frames in use, if ``frames`` is None.
    count: int | None = None,
    # The ego camera, or a preset; None takes the file's, or else aria_released.
    camera: CameraModel | str | None = None,
    # Side of the ego frames in px; None takes the camera's own.
    ego_size: int | None = None,
    # The take's name, if the file lists several.
    entry: str = "",
    # Gives poses without a world that of the scene.
    scene: PointCloud | None = None,
    # Poses [3, 4] or [T, 3, 4]; None takes the file's, or else the exo camera as the world.
    exo_w2c: Array | None = None,
    # Width of a Gaussian in seconds.
    smooth_s: float = 0.0,
    # Frames from one picture of another program to the next; 0 detects it.
    every_nth: int = 0,
    # Device of the poses.
    device: Device = None,
    # Of which frames poses are that don't state it; as in align.
    file_frames: FileFrames = "auto",
    # What the user knows of the poses and their file, see facts.FACTS: "ego.unit=cm".
    declared: Declared | Mapping[str, object] | str | None = None,
    progress: Progress = no_progress,
) -> tuple[CameraTrajectory, TakeNotes]:
    """Make the ego camera's path in the frames in use (stage 3).

    Args:
        poses: a file (meta.json, trajectory JSON, keyframes, or of another program), w2c [T, 3, 4]
            of the frames in use or the whole source or [3, 4] of all, keyframes as a document, or
            what a meta.json holds. A path that is made already goes to :func:`adapt_path`.

    Returns:
        The path, and what its file has next to it (prompt, K).

    Raises:
        EgoXInputError: a file that can't be read, matrices that are no poses, fewer poses than
            frames in use, keyframes of another video.
    """
    declared = Declared.of(declared, own=("ego.", "exo."))
    own_facts = {"ego.frames": file_frames, "ego.every_nth": every_nth}
    facts_given = declared.with_arguments(own_facts)
    # Without a count they are as many as there are poses.
    frames_in_use = settle_frames(frames, Frames.of_count(count or 0))
    size = _ego_size(ego_size, frames)
    lens_given = _lens_of(camera, size)
    # The poses of a meta.json belong to a sensor that is turned as this one.
    meta_lens = preset_camera("aria_released", size)
    notes = TakeNotes()
    default_lens = lens_given or meta_lens
    progress(0, 1, "ego path")
    if is_a(poses, CameraTrajectory):
        raise EgoXInputError(
            "poses of stages.path",
            got="a path that is made already",
            expected="a file, w2c, keyframes or what a meta.json holds",
            fix="give it to stages.adapt_path",
        )
    if not isinstance(poses, (str, Path)):
        _refuse_arguments(
            "path", "a file as poses", entry=entry or None, every_nth=every_nth or None
        )
    if is_a(poses, TakeMeta):
        trajectory, notes = meta_trajectory(
            replace(poses, declared=poses.declared.with_arguments({"ego.frames": file_frames})),
            meta_lens,
            frames_in_use,
            lens_given=lens_given is not None,
        )
    elif isinstance(poses, (str, Path)):
        trajectory, notes = read_trajectory(
            Path(poses),
            meta_lens,
            frames_in_use,
            entry=entry,
            lens=lens_given is None,
            declared=facts_given,
        )
    elif isinstance(poses, Mapping) or (
        isinstance(poses, Sequence) and all(isinstance(key, Mapping) for key in poses)
    ):
        _refuse_arguments("path", "a file or w2c as poses", declared=declared or None)
        check_made_on(poses, video_mark(frames_in_use.source))
        trajectory = trajectory_of_keyframes(poses, default_lens, frames_in_use, scene)
        if lens_given is None and has_w2c(poses):
            notes = replace(notes, placed=OF_TURNED)
    else:
        trajectory, array_note = trajectory_of_array(
            poses,
            default_lens,
            frames_in_use,
            exo_w2c=exo_w2c,
            declared=facts_given,
        )
        exo_w2c = None
        lens_note = OF_TURNED if lens_given is None else ""
        notes = replace(notes, placed="; ".join(filter(None, [array_note, lens_note])))
    if exo_w2c is not None:
        exo, exo_report = _with_exo_pose(
            trajectory.exo, exo_w2c, trajectory.frames, facts_given, "ego.frames"
        )
        trajectory = replace(
            trajectory,
            ego=replace(trajectory.ego, world=exo.world),
            exo=exo,
            facts=(*trajectory.facts, *exo_report.facts),
        )
    trajectory = with_declared_world(trajectory, declared, None if scene is None else scene.exo)
    declared.check_applied(trajectory.facts, "these poses")
    lens, k = trajectory.ego.lens, notes.meta_intrinsics
    is_default = lens is meta_lens or lens == meta_lens.upright()
    is_guessed = is_default and (k is None or not is_aria_k(k))
    trajectory = replace(trajectory, ego=replace(trajectory.ego, lens_guessed=is_guessed))
    trajectory, notes = _shown_path(trajectory, notes, lens_given, ego_size, scene, smooth_s)
    progress(1, 1, "ego path")
    return _to_device(trajectory, device), notes


def adapt_path(
    trajectory: CameraTrajectory,
    *,
    # The frames in use; None takes the path's own.
    frames: Frames | None = None,
    # The ego camera, or a preset; None takes the path's.
    camera: CameraModel | str | None = None,
    # Side of the ego frames in px; None takes the camera's own.
    ego_size: int | None = None,
    # Ties a path without a world to that of the scene.
    scene: PointCloud | None = None,
    # Width of a Gaussian in seconds.
    smooth_s: float = 0.0,
    # Device of the poses.
    device: Device = None,
) -> tuple[CameraTrajectory, TakeNotes]:
    """Resample a path to other frames, and change its camera, world or smoothness.

    Raises:
        EgoXInputError: no result of path, other moments than the frames in use.
    """
    _check_payload("path to adapt", trajectory, CameraTrajectory, "stages.path")
    trajectory = _to_device(trajectory, "cpu")
    trajectory = resample(trajectory, settle_frames(frames, trajectory.frames))
    lens_given = _lens_of(camera, _ego_size(ego_size, frames))
    trajectory, notes = _shown_path(trajectory, TakeNotes(), lens_given, ego_size, scene, smooth_s)
    return _to_device(trajectory, device), notes


def _ego_size(ego_size: int | None, frames: Frames | None) -> int:
    """Choose the side of the ego picture of a preset: as high as the frames in use."""
    return ego_size or (frames.size[1] if is_a(frames, FrameSelection) else REFERENCE_SIZE)


def _lens_of(camera: CameraModel | str | None, size: int) -> CameraModel | None:
    return preset_camera(camera, size) if isinstance(camera, str) else camera


def _shown_path(
    trajectory: CameraTrajectory,
    notes: TakeNotes,
    lens_given: CameraModel | None,
    ego_size: int | None,
    scene: PointCloud | None,
    smooth_s: float,
) -> tuple[CameraTrajectory, TakeNotes]:
    """Tie a path to a scene, give it the lens of the ego pictures, and smooth it."""
    exo, exo_facts = trajectory.exo, trajectory.facts
    if scene is not None and trajectory.exo is None:
        exo, exo_facts = scene.exo, scene.facts
    ego, facts = with_exo_axes(trajectory.ego, trajectory.facts, exo, exo_facts)
    trajectory = replace(trajectory, ego=ego, facts=facts)
    trajectory = replace(trajectory, facts=(*trajectory.facts, *taken_facts(trajectory)))
    camera_remarks = () if scene is None else trajectory.other_exo(*scene.exos)
    # A path in the take's world stays there where the scene's camera isn't known to be in it.
    if scene is not None and (trajectory.ego.world, scene.exo.world) != ("take", "exo"):
        trajectory = trajectory.in_world_of(scene.exo)
    lens = lens_given or trajectory.ego.camera
    placement_notes = [notes.placed, *map(str, camera_remarks)]
    if trajectory.exo is None:
        unknown_world = "where the exo camera is in these poses' world isn't known: "
        placement_notes.append(unknown_world + in_words("give stages.path the scene"))
    if ego_size is not None:
        width, height = lens.stored_size
        shorter_side = min(width, height)
        if width != height:  # the ego picture is square
            placement_notes.append(
                f"of the ego lens' {width}x{height} px the middle "
                f"{shorter_side}x{shorter_side} px are used"
            )
            lens = lens.crop(
                (width - shorter_side) // 2,
                (height - shorter_side) // 2,
                shorter_side,
                shorter_side,
            )
        lens = lens.rescale(ego_size, ego_size)
    notes = replace(notes, placed="; ".join(filter(None, placement_notes)))
    ego = replace(trajectory.ego, lens_guessed=lens_given is None and trajectory.ego.lens_guessed)
    return adapted(replace(trajectory, ego=ego), camera=lens, smooth_s=smooth_s), notes


def scene(
    exo: Array,  # [T, H, W, 3]
    depth: DepthVideo,  # the result of align
    *,
    moving: Moving = "auto",
    dynamic_mask: Array | None = None,  # [T or 1, h, w] 0...1, in place of the depth's own
    sky_mask: Array | None = None,  # [T or 1, h, w] 0...1
    # Device of the static points.
    device: Device = None,
    progress: Progress = no_progress,
) -> tuple[PointCloud, StageReport]:
    """Lift the exo frames to 3D: static background points, and moving points per frame (stage 4).

    Raises:
        EgoXInputError: no result of align, another count or shape of frames than maps, no valid
            depth, masks that don't fit.
    """
    _check_payload("depth of the scene", depth, DepthVideo, "stages.align")
    pictures = as_frames(exo, "exo frames of the scene").cpu()
    depth, mask_notes = with_host_masks(
        _to_device(depth, "cpu"), dynamic=dynamic_mask, sky=sky_mask
    )
    pictures = frames_of_size(pictures, *depth.depth_m.shape[1:])
    points = build_scene(pictures, depth, moving, progress=progress)
    summary = (
        f"{len(points.static):,} static points, {points.frame_count} frames, world: "
        f"{points.exo.world}"
    )
    if device is not None:
        points = replace(points, static=_to_device(points.static, device))
    return points, StageReport(notes=(Remark(summary), *mask_notes, *points.notes))


@dataclass(frozen=True, kw_only=True)
class PriorReport(StageReport):
    """Remarks on a prior, and the share of each frame that it covers."""

    covered: Tensor  # [T] float64, share of each frame where a point landed


def prior(
    scene: PointCloud,
    trajectory: CameraTrajectory,  # the result of path
    preset: str | PriorOptions = "released",
    *,
    # Moving points that are drawn; None follows the preset.
    dynamic: str | None = None,
    # For points that are seen through space that exo never saw empty: draw or leave out; None
    # follows the preset.
    hidden_lines: str | None = None,
    # Size of the scene against one of people's size, for lengths of the wearer's head: 0.1 in a toy
    # room; None follows the preset.
    scene_scale: float | None = None,
    # States for each pixel if exo observed it: EgoPrior.seen.
    classes: bool = False,
    # Draws even if the head can't be there, seen from exo; the notes report it.
    draw_anyway: bool = False,
    # Device to draw on; None: a GPU if there is one.
    device: Device = None,
    progress: Progress = no_progress,
) -> tuple[EgoPrior, PriorReport]:
    """Draw the scene from the ego camera (stage 4, paper section 3.1).

    Raises:
        EgoXInputError: no result of scene and path, fewer poses than frames, an unknown preset,
            sight lines in a scene without depth, a head where none can be.
    """
    _check_payload("scene of the prior", scene, PointCloud, "stages.scene")
    _check_payload("path of the prior", trajectory, CameraTrajectory, "stages.path")
    trajectory.check_moments(scene.frames, "scene")
    if trajectory.exo is None:
        ego, _ = with_exo_axes(trajectory.ego, trajectory.facts, scene.exo, scene.facts)
        if ego is not trajectory.ego:
            raise EgoXInputError(
                "world of the ego poses",
                got="matrices whose world was turned, beside an exo pose whose wasn't",
                expected="both cameras in one world",
                fix="declare ego.world_axes=stored, or give stages.path the scene",
            )
    options = prior_options(
        preset,
        dynamic=dynamic,
        hidden_lines=hidden_lines,
        scene_scale=scene_scale,
        device=None if device is None else str(device),
    )
    odd_places = [
        *trajectory.other_exo(*scene.exos),
        *check_placement(scene, trajectory, draw_anyway=draw_anyway, progress=progress),
    ]
    ego_prior = render_ego_prior(
        scene, trajectory, options, classes=classes, notes=odd_places, progress=progress
    )
    coverage_shares = torch.stack([frame.double().mean() for frame in ego_prior.coverage])
    height, width = ego_prior.coverage.shape[1:]
    sentences = [
        (
            f"{len(coverage_shares)} frames of {width}x{height}, coverage "
            f"{100 * coverage_shares.mean():.0f} %"
        )
    ]
    if ego_prior.seen is not None:
        sentences.append(seen_text(seen_shares(ego_prior.seen)))
    if (poses := len(trajectory.frames)) > len(coverage_shares) and trajectory.ego.moves:
        sentences.append(
            f"the path has {poses} poses, the scene {len(coverage_shares)} frames: the first "
            f"{len(coverage_shares)} are drawn. To see one moment from many places, draw a scene "
            "of one frame for each pose"
        )
    notes = (*map(Remark, sentences), *odd_places, *scene.notes)
    facts = (*trajectory.facts, *taken_facts(trajectory), *scene.facts)
    return ego_prior, PriorReport(notes=notes, facts=facts, covered=coverage_shares)


def condition(
    exo: Array,  # [T, H, W, 3], T = 4n+1, sides multiples of 16
    prior: Array,  # [T or more, H, W_ego, 3], the ego prior
    encoders: Encoders,
    *,
    mask_mode: MaskMode = "released",
    image_embedding: ImageEmbeddingMode = "released",
    # The sampler's own noise, in the shape of a latent [1, 16, t, h, w_ego]; None: torch's on
    # the CPU.
    draw_noise: Callable[[Tensor], Tensor] | None = None,
    # Seed of the noise in a "released" embedding; None: 0, unknown.
    noise_seed: int | None = None,
    # Adds rough colours of latents, for previews.
    colours: bool = False,
    # Device of the latents.
    device: Device = None,
    progress: Progress = no_progress,
) -> tuple[Conditioned, StageReport]:
    """Encode exo video and ego prior side by side (stage 5, paper section 3.2).

    Raises:
        EgoXInputError: frames or sizes that don't fit each other, an unknown mode.
    """
    exo, prior = as_frames(exo, "exo video"), as_frames(prior, "ego prior")
    count, prior = check_pictures(exo, prior)
    exo_and_prior = (exo, prior)
    latents = []
    for index, video in enumerate(exo_and_prior):
        progress(index, len(exo_and_prior), "encoding")
        latents.append(encoders.encode(video))
    progress(len(exo_and_prior), len(exo_and_prior), "encoding")
    pairs = [
        (latent, as_floats(video)) for latent, video in zip(latents, exo_and_prior, strict=True)
    ]
    canvas = Canvas(
        exo_latent=latents[0],
        prior_latent=latents[1],
        latent_colours=fit_latent_colours(pairs) if colours else None,
        frames=count,
        exo_size=(exo.shape[2], exo.shape[1]),
        ego_size=(prior.shape[2], prior.shape[1]),
        mask_mode=mask_mode,
        image_embedding=image_embedding,
        noise_seed=noise_seed,
    )
    embedding = None
    if image_embedding != "none":
        noise = None
        if image_embedding == "released" and draw_noise is not None:
            noise = draw_noise(canvas.prior_latent)
        elif image_embedding == "released":
            generator = torch.Generator().manual_seed(noise_seed or 0)
            noise = torch.randn(canvas.prior_latent.shape, generator=generator)
        picture = embedding_picture(
            image_embedding,
            exo_frame=as_floats(exo[:1]),
            prior_frame=as_floats(prior[:1]),
            exo_latent=canvas.exo_latent,
            ego_noise=noise,
            decode=encoders.decode,
        )
        assert picture is not None  # only mode none has none
        embedding = encoders.embed(picture)
    sizes = (
        f"{name} {width}x{height}"
        for name, (width, height) in (("exo", canvas.exo_size), ("ego", canvas.ego_size))
    )
    summary = f"{count} frames, {', '.join(sizes)}; mask {mask_mode}"
    return Conditioned(canvas=_to_device(canvas, device), embedding=embedding), StageReport(
        notes=(Remark(summary),)
    )


@frozen
class Judgement:
    """Errors of an ego video against its path and, if known, the true ego video."""

    path: PathError | None = None  # None: no scene was given
    psnr_db: Tensor | None = None  # [T], at most 100; None: no truth was given


def judge(
    ego: Array,  # [T, H, W, 3]
    *,
    scene: PointCloud | None = None,
    trajectory: CameraTrajectory | None = None,
    # Views of an earlier call with this scene and path.
    views: PathViews | None = None,
    truth: Array | None = None,  # [T, H, W, 3], the wearer's own video
    # Device of the comparison with the truth.
    device: Device = None,
    progress: Progress = no_progress,
) -> tuple[Judgement, StageReport]:
    """Measure how far an ego video is from its path and from the true ego video.

    Raises:
        EgoXInputError: another count of frames than the scene's, another size than the truth's.
    """
    if views is not None or scene is None or trajectory is None:
        requirement = "scene and trajectory, or views alone"
        _refuse_arguments("judge", requirement, scene=scene, trajectory=trajectory)
    else:
        trajectory.check_moments(scene.frames, "scene")
    video = as_floats(as_frames(ego, "ego video"))
    path_error = None
    errors_db = None
    if views is None and scene is not None and trajectory is not None:
        views = PathViews.of(scene, trajectory, progress=progress)
    if views is not None:
        path_error = views.error(video.cpu())
    if truth is not None:
        truth_video = as_floats(as_frames(truth, "true ego video"))
        check_pair(video, truth_video)
        compare_device = device or "cpu"
        error = (
            (video.to(compare_device) - truth_video.to(compare_device))
            .square()
            .mean((1, 2, 3))
            .cpu()
        )
        errors_db = (-10 * error.log10()).clamp(max=100)  # as metrics.image.PSNR_CAP_DB
    notes = () if scene is None or trajectory is None else trajectory.other_exo(*scene.exos)
    sentences = [] if path_error is None else [path_error.text()]
    if errors_db is not None:
        sentences.append(f"PSNR to the truth {float(errors_db.mean()):.1f} dB")
    return Judgement(path=path_error, psnr_db=errors_db), StageReport(
        notes=(*map(Remark, sentences), *notes)
    )


def _check_payload(what: str, payload: object, kind: type, stage: str) -> None:
    """Refuse what isn't the payload that the stage before makes.

    Raises:
        EgoXInputError: something else, or a payload of another version.
    """
    if not is_a(payload, kind):
        raise EgoXInputError(
            what,
            got=type(payload).__name__,
            expected=f"the {kind.__name__} that {stage} makes",
            fix=f"give what you have to {stage}, and its result here",
        )


def _refuse_arguments(stage: str, needs: str, **arguments: object) -> None:
    """Refuse arguments that a stage does not use in the way it is called.

    Raises:
        EgoXInputError: one that isn't None.
    """
    for name, value in arguments.items():
        if value is not None:
            raise EgoXInputError(
                f"{name} of stages.{stage}",
                got="a value that it has no use for",
                expected=needs,
                fix=f"leave {name} out",
            )


def _to_device(payload: Payload, device: Device) -> Payload:
    """Move a payload's tensors to a device, or return the same object if all are there."""
    if device is None:
        return payload
    moved_fields = {
        field.name: value.to(device)
        for field in fields(payload)  # ty: ignore[invalid-argument-type]  of the dataclasses above
        if isinstance(value := getattr(payload, field.name), (Tensor, CameraPath))
        and value.device != torch.device(device)
    }
    return replace(payload, **moved_fields) if moved_fields else payload  # ty: ignore[invalid-argument-type]
