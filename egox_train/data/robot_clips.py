"""Write many clips as episodes of a LeRobot data set."""

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.facts import NOTHING_DECLARED
from egox_core.file_names import DEPTH_NAMES, EXO, HANDS, META, SEEN, TRUTH
from egox_core.hands import HandTrack, hands_in_use
from egox_core.metrics import PathViews
from egox_core.progress import Progress, no_progress
from egox_core.robots import (
    HandGaps,
    RobotSet,
    SetOptions,
    camera_fit,
    make_episodes,
    open_set,
)
from egox_core.sizes import FRAMES_PER_LATENT
from egox_core.stages import prior, scene
from egox_core.take import load_take
from egox_core.video import probe_video

from ..fingerprint import file_ends, file_state, fingerprint
from ..options import RobotOptions, declared_of
from .clip_files import read_all
from .ego_clip import EgoClip
from .manifest import read_manifest

MOST_DRIFT = 0.5
"""Frames of exo by which the ego video may be longer or shorter over a clip."""
NON_EPISODE_OPTION_NAMES = (
    *("clips", "out", "ego", "detected", "task", "fps"),
    *("strict", "check", "made_by", "gpu_hours"),
)
"""Options that are files, or leave what an episode holds as it is."""


def write_robots(options: RobotOptions, progress: Progress = no_progress) -> Iterator[str]:
    """Append clips to a LeRobot data set, and yield a line of text for each.

    Raises:
        EgoXInputError: no clips, what :func:`open_set` refuses; clips that failed are named after
            all others are done.
    """
    clip_sources, failed_clips = list(_clip_sources(options)), []
    settings = SetOptions(
        made_by=options.made_by, gpu_hours=options.gpu_hours, license=options.license
    )
    with nullcontext() if options.check else open_set(options.out, settings) as robot_set:
        with_hands = None if robot_set is None else robot_set.has_hands
        if with_hands is None:
            with_hands = any(clip_source.has_hands for clip_source in clip_sources)
        for clip_number, clip_source in enumerate(clip_sources):
            progress(clip_number, len(clip_sources), "episodes")
            try:
                digests = _digest(clip_source, options), _older_digest(clip_source, options)
                if robot_set is None or not robot_set.holds(clip_source.name, *digests):
                    if robot_set is not None:
                        _require_hands_file(clip_source, with_hands)
                    yield (
                        f"{clip_source.name}: "
                        f"{_append_or_check(clip_source, options, robot_set, digests, progress)}"
                    )
            except EgoXInputError as error:
                failed_clips.append(clip_source.name)
                yield f"{clip_source.name}: left out, {error}"
    if failed_clips:
        raise EgoXInputError(
            "lerobot",
            got=(
                f"{len(failed_clips)} of {len(clip_sources)} clips that failed: "
                f"{', '.join(failed_clips)}"
            ),
            expected="all of them",
            fix=(
                "see the messages; nothing was written"
                if options.check
                else "see the messages; the others are in the set, and the same command continues"
            ),
        )


def _clip_sources(options: RobotOptions) -> Iterator[EgoClip]:
    root, manifest = options.clips, options.clips / "manifest.jsonl"
    if manifest.is_file():
        clips = [EgoClip.of_record(record, root) for record in read_manifest(manifest)]
    else:
        folders = [root, *sorted(root.iterdir())] if root.is_dir() else []
        clips = [
            EgoClip(name=folder.name, folder=folder, ego_video=folder / TRUTH)
            for folder in folders
            if (folder / EXO).is_file()
        ]
    if not clips:
        raise EgoXInputError(
            "clips",
            got=f"{root.name!r} without any",
            expected=f"folders with {EXO} and {META}, or a set of `prepare`",
            fix="check the path",
        )
    for clip in clips:
        clip = replace(clip, task=clip.task or options.task)
        if options.ego is not None:
            clip = replace(clip, ego_video=options.ego / f"{clip.name}.mp4")
        yield clip


def _seen_file(source: EgoClip, options: RobotOptions) -> Path:
    """Build the path of the classes of a clip's pixels, where they were kept."""
    if options.ego is None:
        return source.folder / SEEN
    return options.ego / f"{source.name}.{SEEN}"


def _digest(source: EgoClip, options: RobotOptions) -> str:
    """Compute a hash of an episode's task, source files and options."""
    options_digested = {
        k: str(v) for k, v in asdict(options).items() if k not in NON_EPISODE_OPTION_NAMES
    }
    if not options.declare:  # which sets of 1.3 don't know
        del options_digested["declare"]
    source_files = [*source.files, *(source.folder / name for name in DEPTH_NAMES)]
    if options.seen:
        source_files.append(_seen_file(source, options))
    if options.detected is not None:
        source_files.append(options.detected / f"{source.name}.json")
    end_hashes = [hashlib.sha256(file_ends(file)).hexdigest() for file in source_files]
    return fingerprint(
        [options_digested, source.task, end_hashes, file_state(source.folder / DEPTH_NAMES[-1])]
    )


def _older_digest(source: EgoClip, options: RobotOptions) -> str:
    """Compute an episode's hash as versions up to 1.2 did."""
    digested_settings = [options.rectify_deg, options.depth, options.seen]
    if options.min_hand_share != HandGaps.MIN_SHARE:
        digested_settings.append(options.min_hand_share)
    if options.file_frames != "auto":
        digested_settings.append(options.file_frames)
    sha256_digest = hashlib.sha256(repr(tuple(digested_settings)).encode())
    for file in source.files:
        sha256_digest.update(file_ends(file))
    return sha256_digest.hexdigest()


def _append_or_check(
    source: EgoClip,
    options: RobotOptions,
    # None if the cameras are only checked.
    robots: RobotSet | None,
    digests: tuple[str, str],  # of what the clip is made of, and as older versions have it
    progress: Progress,
) -> str:
    """Append a clip to a LeRobot data set, or only check it, and describe the result."""
    is_generated = options.ego is not None
    ego_info, exo_info = probe_video(source.ego_video), probe_video(source.folder / EXO)
    picture_size = (ego_info.width, ego_info.height)
    exo_count = source.frames or exo_info.frame_count
    frame_count = ego_count = min(exo_count, ego_info.frame_count)
    if is_generated:  # of whole latents, as all that a model makes
        frame_count, exo_count = (n - (n - 1) % FRAMES_PER_LATENT for n in (frame_count, exo_count))
    ego_s, exo_s = (
        video.times_s[frame_count - 1] - video.times_s[0] for video in (ego_info, exo_info)
    )
    if abs(ego_s - exo_s) * exo_info.fps > MOST_DRIFT:
        raise EgoXInputError(
            f"ego video of {source.name!r}",
            got=f"{frame_count} frames in {ego_s:.2f} s ({ego_info.fps:g} a second)",
            expected=f"{exo_s:.2f} s, as {EXO} has ({exo_info.fps:g} a second)",
            fix="give a frame for each of exo's, at its rate; undo an interpolation of frames",
        )
    take = load_take(
        source.folder,
        frame_count=None,
        most_frames=frame_count,
        ego_size=picture_size[1],
        file_frames=options.file_frames,
        whole_latents=is_generated,
        declared=declared_of(options.declare),
        progress=progress,
    )
    first_frame = int(take.frames.indices[0])
    frame_count = len(take.frames)
    take_path = take.trajectory.with_depth_camera(take.depth.exo)
    take_path = replace(take_path, ego=take_path.ego.resized(*picture_size))
    fps = 0
    if robots is not None:
        fps = robots.rate_for(
            source.name, take_path.frames.times_s, fps=options.fps, resample=options.resample
        )
        exo_size = take.frames.size if options.cameras == "both" else None
        robots.require_same_form(source.name, take.hands is not None, picture_size, exo_size)
    if take.hands is not None:
        _require_hands(source, take.hands, options.min_hand_share)
    exo_video, ego = (
        take.read_exo(progress),
        read_all(source.ego_video, frame_count, picture_size, 0 if is_generated else first_frame),
    )
    scene_points, _ = scene(exo_video, take.depth, progress=progress)
    depth = take.depth_with_raw_scale(progress)
    exact = PathViews.exact(exo_video.float() / 255, depth, take_path, progress=progress)
    fitted_camera = camera_fit(
        scene_points,
        take_path,
        ego.float() / 255,
        is_generated,
        progress,
        exact_views=None if exact is None else exact[0],
    )
    report_sentences = [
        fitted_camera.text(),
        "no hands: without state and action, in a set of such",
    ]
    if take.hands is not None:
        report_sentences[1] = take.hands.text()
        if robots is None:
            rate = options.fps or max(1, round(exo_info.fps))
            gaps = HandGaps.of(take.hands.valid, rate, options.min_hand_share)
            report_sentences.insert(1, gaps.text(frame_count))
    report_sentences += map(str, take.trajectory.other_exo(take.depth.exo))
    report_sentences += [row.text for row in take.frames.facts if row.fact == "frames"]
    if ego_count < exo_count:
        report_sentences.append(f"the ego video has the first {ego_count} of {exo_count} frames")
    remark_text = ". ".join(filter(None, report_sentences))
    if robots is None:
        return remark_text
    pixel_classes = depth_m = hand_detections = None
    if options.seen and (seen_file := _seen_file(source, options)).is_file():
        pixel_classes = read_all(seen_file, frame_count, picture_size, first_frame)[..., 0]
    if options.depth or (options.seen and pixel_classes is None):
        ego_prior, _ = prior(
            scene_points, take_path, classes=pixel_classes is None, progress=progress
        )
        depth_m = ego_prior.depth_m if options.depth else None
        pixel_classes = ego_prior.seen if options.seen and pixel_classes is None else pixel_classes
    if options.detected is not None:
        ego_frames = replace(take.frames, total=ego_info.frame_count)
        hand_file = options.detected / f"{source.name}.json"
        hand_detections = hands_in_use(
            hand_file,
            ego_frames,
            NOTHING_DECLARED.with_arguments({"hands.frames": options.file_frames}),
        )
        report_sentences.append(f"detected {hand_detections.note}")
    episodes = make_episodes(
        source.name,
        source.task or take.notes.prompt,
        exo_video,
        ego,
        take_path,
        take.hands,
        fps=fps,
        resample=options.resample,
        generated=is_generated,
        depth_m=depth_m,
        seen=pixel_classes,
        detected=hand_detections,
        rectify_deg=options.rectify_deg,
        fit=fitted_camera,
        strict=options.strict,
        made_from=digests[0],
        cameras=options.cameras,
        min_hand_share=options.min_hand_share,
        progress=progress,
    )
    for episode in episodes:
        if not robots.holds(episode.name, *digests):
            robots.append(episode, progress)
    remark_text = ". ".join((episodes[0].fit.text(), *filter(None, report_sentences[1:])))
    return f"{sum(map(len, episodes))} frames. {remark_text}"


def _require_hands_file(source: EgoClip, with_hands: bool) -> None:
    """Check that a clip has hands if the set has them, and none otherwise.

    Raises:
        EgoXInputError: it is the other way round.
    """
    if source.has_hands != with_hands:
        raise EgoXInputError(
            f"hands of {source.name!r}",
            got=HANDS if source.has_hands else f"no {HANDS}",
            expected=(
                "hands, as the set or other clips have them: all episodes have them or none"
                if with_hands
                else "none, as in the set: all episodes have them or none"
            ),
            fix=(
                f"give the clip {HANDS}, or write the clips without hands into a set of their own"
                if with_hands
                else "write another set"
            ),
        )


def _require_hands(source: EgoClip, hands: HandTrack, min_hand_share: float) -> None:
    seen_shares = hands.valid.double().mean(0)
    if float(seen_shares.max()) < min_hand_share:
        left_seen, right_seen = (100 * seen_shares).tolist()
        raise EgoXInputError(
            f"hands of {source.name!r}",
            got=(
                f"a left hand that is valid in {left_seen:.0f} % of the frames, a right one in "
                f"{right_seen:.0f} %"
            ),
            expected=f"one of them valid in {100 * min_hand_share:.0f} % (--min-hand-share)",
            fix="give another detector's hands, lower --min-hand-share, or move hands.json away: "
            "the clip is then written without state and action, into a set of such clips",
        )
