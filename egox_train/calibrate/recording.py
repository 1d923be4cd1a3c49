"""Turn one recording of a head camera and fixed cameras into take folders with known cameras
(``calibrate``)."""

from collections.abc import Mapping
from pathlib import Path

from egox_core.cameras import CameraModel
from egox_core.errors import EgoXInputError
from egox_core.progress import Progress, no_progress
from egox_core.video import probe_video

from ..data.depth_model import require_metric
from ..options import CalibrateOptions
from .fixed_camera import solve_exo
from .pictures import SHORTEST_S, lens_notes, solve_pictures
from .recording_files import EGO, ExoFile, find_files
from .results import Outcome
from .sound import Clocks, clocks_by_sound, read_mono
from .world import LEAST_PARALLAX, World, parallax, read_given_path, scale_by_depth
from .written import (
    SHORTEST_FRAMES,
    WrittenExo,
    list_earlier_takes,
    report_file,
    write_calibration,
    write_takes,
)

STAGE_COUNT = 5
"""Of a recording's work: clocks, pictures, the head's path, fixed cameras, takes."""


def calibrate(
    folder: Path, out: Path, options: CalibrateOptions, progress: Progress = no_progress
) -> Outcome:
    """Find the cameras of a recording, and write its takes into ``out``.

    What is solved by pictures is kept in ``out/work`` and taken up by the next call.

    Raises:
        EgoXInputError: files missing, a recording too short, neither pycolmap nor a path, clocks
            that nothing tells.
    """
    if options.declare and options.path is None:
        raise EgoXInputError(
            "--declare",
            got="it without --path",
            expected="a file of the head camera's poses, of which it says what that leaves open",
            fix="give --path, too",
        )
    ego_video, exo_files = find_files(folder)
    ego_info = probe_video(ego_video)
    for info in (ego_info, *(exo_file.info for exo_file in exo_files)):
        if info.frame_count / info.fps < SHORTEST_S:
            raise EgoXInputError(
                f"recording {info.name}",
                got=f"{info.frame_count / info.fps:.1f} s",
                expected=f"{SHORTEST_S:g} s or more, of a head that looks around",
                fix="calibrate the whole recording, not a clip of it: in a short one the head "
                "moves too little for the cameras to be known",
            )
    if options.depth_model is not None:
        require_metric(options.depth_model, None)
    calibration_notes: list[str] = []
    clocks, clock_failures = {}, {}
    for exo_file in exo_files:
        clocks[exo_file.name], clock_failures[exo_file.name] = _clocks(
            exo_file, ego_video, options, _in_stage(1, progress)
        )
        if clock_failures[exo_file.name]:
            calibration_notes.append(
                f"{exo_file.name}: the clocks' offset is not known by sound: "
                f"{clock_failures[exo_file.name]}"
            )
    structure, ego_lens, given_poses = None, None, None
    lenses: Mapping[str, CameraModel] = {}
    if options.path is not None:
        given_poses, ego_lens = read_given_path(options, ego_info, ego_video, calibration_notes)
    try:
        structure, lenses = solve_pictures(
            ego_video, ego_info, exo_files, clocks, options, out / "work", _in_stage(2, progress)
        )
    except EgoXInputError as error:
        if given_poses is None:
            raise
        calibration_notes.append(f"not by pictures: {error}")
    if structure is not None and parallax(structure, lenses[EGO]) < LEAST_PARALLAX:
        calibration_notes.append(
            "not by pictures: the head turns without moving, so they tell no distances"
        )
        structure, lenses = None, {}
    if structure is not None:
        calibration_notes.extend(lens_notes(structure, options))
    if structure is None and given_poses is None:
        raise EgoXInputError(
            "head camera's path",
            got=f"pictures of {ego_video.name} that don't fit together, or of a head that turns "
            "without moving",
            expected=(
                "a slow look around and a step aside in a room with things in it, sharp pictures"
            ),
            fix="see docs/own_recordings.md; or give --path",
        )
    depth_scale = (
        None
        if structure is None
        else scale_by_depth(structure, exo_files, lenses, options, out / "work")
    )
    metric_world = World.of(
        structure,
        given_poses,
        ego_info,
        ego_video,
        lenses,
        options,
        depth_scale,
        _in_stage(3, progress),
    )
    if metric_world.notes:
        calibration_notes.extend(metric_world.notes)
    solved_cameras = []
    for camera_index, exo_file in enumerate(exo_files):
        solved_cameras.append(
            solve_exo(
                exo_file,
                ego_video,
                metric_world,
                clocks[exo_file.name],
                clock_failures[exo_file.name],
                lenses,
                options,
            )
        )
        _in_stage(4, progress)(camera_index + 1, len(exo_files), "fixed cameras")
    written_lens = ego_lens or metric_world.lens
    written_cameras = [
        WrittenExo(
            name=solved_camera.name,
            video=exo_file.video,
            info=exo_file.info,
            w2c=solved_camera.w2c,
            lens=solved_camera.lens,
            clocks=solved_camera.clocks,
            depth=exo_file.depth,
        )
        for solved_camera, exo_file in zip(solved_cameras, exo_files, strict=True)
        if solved_camera.w2c is not None
        and solved_camera.lens is not None
        and solved_camera.clocks is not None
    ]
    takes: tuple[Path, ...] = ()
    recording = folder.resolve().name
    if (
        written_cameras
        and metric_world.scale.metres_per_unit is not None
        and written_lens is not None
    ):
        takes = write_takes(
            out,
            recording,
            ego_video,
            ego_info,
            written_lens,
            metric_world.w2c,
            written_cameras,
            metric_world.points,
            _in_stage(5, progress),
        )
        if not takes:
            calibration_notes.append(
                f"no take: the head's poses are nowhere known in {SHORTEST_FRAMES} frames of a "
                "fixed camera in a row"
            )
    earlier_takes = list_earlier_takes(out, recording, takes)
    if earlier_takes:
        calibration_notes.append(
            f"cameras of an earlier run are still in {', '.join(earlier_takes)}: delete what you "
            "don't want, since prepare takes every folder"
        )
    outcome = Outcome(
        exos=tuple(solved_cameras),
        takes=takes,
        scale=metric_world.scale,
        notes=tuple(calibration_notes),
        ego_w2c=metric_world.w2c,
        ego_lens=written_lens,
        earlier_takes=earlier_takes,
    )
    write_calibration(report_file(out, recording), outcome)
    return outcome


def _in_stage(number: int, progress: Progress) -> Progress:
    """Put a stage's number before all that its work reports."""
    return lambda count, total, stage: progress(
        count, total, f"stage {number} of {STAGE_COUNT}: {stage}"
    )


def _clocks(
    exo: ExoFile, ego_video: Path, options: CalibrateOptions, progress: Progress
) -> tuple[Clocks | None, str]:
    """Take the clock's offset as given or by sound, or explain why sound doesn't tell it."""
    if options.offset_s is not None:
        return Clocks(offset_s=options.offset_s, drift=0.0, sd_s=0.02, how_found="as given"), ""
    progress(0, 1, f"sound of {exo.video.name}")
    exo_sound, ego_sound = read_mono(exo.video), read_mono(ego_video)
    if exo_sound is None or ego_sound is None:
        return None, "no sound in both videos"
    return clocks_by_sound(exo_sound, ego_sound)
