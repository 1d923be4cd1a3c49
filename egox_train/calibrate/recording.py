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
from .world import LEAST_PARALLAX, World, given_path, parallax, scale_by_depth
from .written import WrittenExo, write_report, write_takes


def calibrate(
    folder: Path, out: Path, options: CalibrateOptions, progress: Progress = no_progress
) -> Outcome:
    """Find the cameras of a recording, and write its takes into ``out``.

    What is solved by pictures is kept in ``out/work`` and taken up by the next call.

    Raises:
        EgoXInputError: files missing, a recording too short, neither pycolmap nor a path, clocks
            that nothing tells.
    """
    ego_video, exos = find_files(folder)
    ego = probe_video(ego_video)
    for info in (ego, *(exo.info for exo in exos)):
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
    notes: list[str] = []
    clocks = {exo.name: _clocks(exo, ego_video, options, progress) for exo in exos}
    structure, ego_lens, poses = None, None, None
    lenses: Mapping[str, CameraModel] = {}
    if options.path is not None:
        poses, ego_lens = given_path(options, ego, ego_video, notes)
    try:
        structure, lenses = solve_pictures(
            ego_video, ego, exos, clocks, options, out / "work", progress
        )
    except EgoXInputError as error:
        if poses is None:
            raise
        notes.append(f"not by pictures: {error}")
    if structure is not None and parallax(structure, lenses[EGO]) < LEAST_PARALLAX:
        notes.append("not by pictures: the head turns without moving, so they tell no distances")
        structure, lenses = None, {}
    if structure is not None:
        notes.extend(lens_notes(structure, options))
    if structure is None and poses is None:
        raise EgoXInputError(
            "head camera's path",
            got=f"pictures of {ego_video.name} that don't fit together, or of a head that turns "
            "without moving",
            expected="a slow look around and a step aside in a room with things in it, sharp pictures",
            fix="see docs/own_recordings.md; or give --path",
        )
    depth = (
        None
        if structure is None
        else scale_by_depth(structure, exos, lenses, options, out / "work")
    )
    world = World.of(structure, poses, ego, ego_video, lenses, options, depth, progress)
    if world.notes:
        notes.extend(world.notes)
    solved = []
    for number, exo in enumerate(exos):
        solved.append(solve_exo(exo, world, clocks[exo.name], lenses, options))
        progress(number + 1, len(exos), "fixed cameras")
    lens = ego_lens or world.lens
    written = [
        WrittenExo(
            name=each.name,
            video=exo.video,
            info=exo.info,
            w2c=each.w2c,
            lens=each.lens,
            clocks=each.clocks,
            depth=exo.depth,
        )
        for each, exo in zip(solved, exos, strict=True)
        if each.w2c is not None and each.lens is not None and each.clocks is not None
    ]
    takes: tuple[Path, ...] = ()
    if written and world.scale.metres is not None and lens is not None:
        takes = write_takes(
            out,
            folder.resolve().name,
            ego_video,
            ego,
            lens,
            world.w2c,
            written,
            world.points,
            progress,
        )
    outcome = Outcome(
        exos=tuple(solved),
        takes=takes,
        scale=world.scale,
        notes=tuple(notes),
        ego_w2c=world.w2c,
        ego_lens=lens,
    )
    write_report(out, outcome)
    return outcome


def _clocks(
    exo: ExoFile, ego_video: Path, options: CalibrateOptions, progress: Progress
) -> Clocks | None:
    if options.offset_s is not None:
        return Clocks(offset_s=options.offset_s, drift=0.0, sd_s=0.02, how="as given")
    progress(0, 1, f"sound of {exo.video.name}")
    one, other = read_mono(exo.video), read_mono(ego_video)
    if one is None or other is None:
        return None
    return clocks_by_sound(one, other)
