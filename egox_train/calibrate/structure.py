"""Reconstruct cameras and points of a still scene by ``pycolmap``. It runs in a separate process,
which can be ended at once, and whose crashes do no harm."""

import json
import multiprocessing
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress
from egox_core.safe_files import write_json

from ..fingerprint import fingerprint
from .lenses import Free
from .scale import robust_similarity

JOB, DATABASE, PAIRS, MATCHED = "job.json", "database.db", "pairs.txt", "matches.done"
NEAR = (1, 2, 3, 4, 6, 9, 13, 19, 28)
"""Pictures of the moving camera that are matched, by how many they are apart."""
SEED = 1
POLL_S = 0.5
MOST_FEATURES = 3000
PARTS = 5
"""Of the moving camera's time: the solution is refined without one of them, again and again (a
jackknife), for how well it is known."""


@frozen
class Structure:
    """Reconstruction of a scene, in a world and scale of its own, with pixel coordinates as in
    COLMAP (the first pixel's centre is 0.5)."""

    w2c: Mapping[str, np.ndarray]  # by picture, camera_from_world [3, 4]
    cameras: Mapping[str, tuple[str, tuple[float, ...]]]  # by folder: COLMAP's model and numbers
    points: np.ndarray  # [P, 3]
    rows: Mapping[str, np.ndarray]  # by picture [N] int64: its points
    pixels: Mapping[str, np.ndarray]  # by picture [N, 2]
    error_px: float  # mean of the reprojection
    # By picture [PARTS, 3, 4]: its pose without each part, where the points are as in the whole; NaN
    # where the picture is in that part.
    without: Mapping[str, np.ndarray]
    # By folder whose lens was held: by which share the pictures' own focal length is longer, and sd.
    longer: Mapping[str, tuple[float, float]]


def solve_structure(
    folder: Path,
    pictures: Mapping[str, Sequence[str]],  # by folder: names within it, in order of time
    # By folder: COLMAP's model and numbers (a guess, if free), what of them is free.
    lenses: Mapping[str, tuple[str, Sequence[float], Free]],
    moving: str,
    progress: Progress,
) -> Structure | None:
    """Reconstruct the scene from the pictures in ``folder``, None if no pictures fit together.

    A finished result of the same job is taken as it is.

    Raises:
        EgoXInputError: no pycolmap, or its process broke off.
    """
    require_pycolmap()
    job = {
        "pictures": {name: list(files) for name, files in pictures.items()},
        "lenses": {name: [m, list(map(float, n)), free] for name, (m, n, free) in lenses.items()},
        "moving": moving,
        "parts": PARTS,
    }
    finished = folder / f"structure_{fingerprint(job)[:12]}.npz"
    if not finished.is_file():
        write_json(folder / JOB, job | {"result": finished.name})
        _run_apart(folder, progress)
    return read_structure(finished)


def require_pycolmap() -> None:
    """Check that pycolmap is installed.

    Raises:
        EgoXInputError: it isn't.
    """
    import importlib.util

    if importlib.util.find_spec("pycolmap") is None:
        raise EgoXInputError(
            "package pycolmap",
            got="not installed",
            expected="it, to find cameras by pictures",
            fix='pip install -e ".[calibrate]"; or give the head camera\'s path and key points of '
            "the exo video",
        )


def _run_apart(folder: Path, progress: Progress) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_solve, args=(str(folder),))
    process.start()
    try:
        began = time.monotonic()
        while process.is_alive():
            process.join(POLL_S)
            progress(int(time.monotonic() - began), 0, "cameras by pictures, seconds")
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    if process.exitcode != 0:
        raise EgoXInputError(
            "cameras by pictures",
            got=f"a process that ended with {process.exitcode}",
            expected="a solution",
            fix=f"see its messages above; remove {folder.name} and start again",
        )


def _solve(place: str) -> None:
    """Run the reconstruction in the separate process: extract features, match them, and solve the
    cameras."""
    import pycolmap

    folder = Path(place)
    job = json.loads((folder / JOB).read_text("utf-8"))
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(SEED)
    _write_matches(folder, job)
    _verify(folder, job)
    solution = _map(folder, job)
    moving = None if solution is None else _known_lenses(solution, job)[2]
    if moving is not None:
        # With the lens that the pictures told, more matches are of two views.
        job["lenses"][job["moving"]][1] = list(solution.cameras[moving].params)
        _verify(folder, job)
        solution = _map(folder, job, told=job["moving"]) or solution
    if solution is None:
        np.savez_compressed(folder / job["result"], empty=True)
        return
    cameras = {}
    rows, pixels, poses = {}, {}, {}
    numbers = {point: row for row, point in enumerate(solution.points3D)}
    for image in solution.images.values():
        if not image.has_pose:
            continue
        name = image.name
        poses[name] = np.asarray(image.cam_from_world().matrix())
        camera = solution.cameras[image.camera_id]
        cameras[name.split("/")[0]] = [camera.model.name, list(map(float, camera.params))]
        own = [p for p in image.points2D if p.has_point3D()]
        rows[name] = np.array([numbers[p.point3D_id] for p in own], np.int64)
        pixels[name] = np.array([p.xy for p in own], np.float64).reshape(-1, 2)
    names = list(poses)
    poses_without, focals = _without(solution, job, names)
    np.savez_compressed(
        folder / job["result"],
        empty=False,
        names=names,
        cameras=json.dumps(cameras),
        w2c=np.stack([poses[name] for name in names]),
        points=np.array([point.xyz for point in solution.points3D.values()]).reshape(-1, 3),
        counts=[len(rows[name]) for name in names],
        rows=np.concatenate([rows[name] for name in names]),
        pixels=np.concatenate([pixels[name] for name in names]),
        error_px=solution.compute_mean_reprojection_error(),
        without=poses_without,
        longer=json.dumps({name: _longer(own) for name, own in focals.items()}),
    )


def _write_matches(folder: Path, job: dict) -> None:
    """Extract the pictures' features and match them. The matches are used with every candidate
    lens, and only their verification depends on it."""
    import pycolmap

    done, database = folder / MATCHED, folder / DATABASE
    if done.is_file():
        return
    database.unlink(missing_ok=True)
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = MOST_FEATURES
    usual = extraction.sift.peak_threshold
    for name, files in job["pictures"].items():
        # A median over time has a fifth of a frame's noise, so fainter features are real.
        extraction.sift.peak_threshold = usual if name == job["moving"] else usual / 2
        pycolmap.extract_features(
            database,
            folder,
            image_names=[f"{name}/{file}" for file in files],
            camera_mode=pycolmap.CameraMode.SINGLE,
            extraction_options=extraction,
            device=pycolmap.Device.cpu,
        )
    pairs = folder / PAIRS
    pairs.write_text("\n".join(f"{a} {b}" for a, b in _pairs(job)) + "\n", "utf-8")
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = str(pairs)
    matching = pycolmap.FeatureMatchingOptions()
    matching.skip_geometric_verification = True
    pycolmap.match_image_pairs(
        database,
        matching_options=matching,
        pairing_options=pairing,
        device=pycolmap.Device.cpu,
    )
    done.write_text("", "utf-8")


def _verify(folder: Path, job: dict) -> None:
    """Assign lenses to the folders of pictures, and keep the matches that are geometrically
    possible with them."""
    import pycolmap

    with pycolmap.Database.open(folder / DATABASE) as database:
        for name, files in job["pictures"].items():
            model, numbers, _ = job["lenses"][name]
            image = database.read_image_with_name(f"{name}/{files[0]}")
            camera = database.read_camera(image.camera_id)
            camera.model, camera.params = model, numbers
            # Without it fisheyes are matched as pinholes are.
            camera.has_prior_focal_length = True
            database.update_camera(camera)
        database.clear_two_view_geometries()
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = SEED
    pycolmap.verify_matches(folder / DATABASE, folder / PAIRS, options)


def _pairs(job: dict) -> list[tuple[str, str]]:
    named = {name: [f"{name}/{file}" for file in own] for name, own in job["pictures"].items()}
    way = named.pop(job["moving"])
    still = [file for own in named.values() for file in own]
    pairs = [(way[i], way[i + n]) for n in NEAR for i in range(len(way) - n)]
    pairs += [(one, other) for one in still for other in way]
    return pairs + [(a, b) for i, a in enumerate(still) for b in still[i + 1 :]]


def _map(folder: Path, job: dict, told: str = ""):
    """Compute the largest reconstruction, None if there is none. Lenses stay fixed while pictures
    are added (the one of folder ``told`` in any case), and their free parameters are refined at the
    end."""
    import pycolmap

    with pycolmap.Database.open(folder / DATABASE) as database:
        known = {
            database.read_image_with_name(f"{name}/{files[0]}").camera_id
            for name, files in job["pictures"].items()
            if job["lenses"][name][2] != "lens" or name == told
        }
    best = None
    for held in (True, False):
        options = pycolmap.IncrementalPipelineOptions()
        options.random_seed = SEED
        options.multiple_models, options.min_model_size = False, 3
        options.extract_colors = False
        # Aria's own k1 to k6 are up to 2; the usual limit drops such pictures without a word.
        options.max_extra_param = options.mapper.max_extra_param = 20.0
        options.triangulation.max_extra_param = 20.0
        # A head turns more than it moves: 20 cm of way before a wall at 3 m are 4 degrees.
        options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = 2.0, 50
        options.mapper.filter_min_tri_angle = options.triangulation.min_angle = 0.75
        options.mapper.ba_local_min_tri_angle = 2.0
        options.mapper.abs_pose_min_num_inliers = 15
        free = not held
        options.ba_refine_focal_length = options.ba_refine_extra_params = free
        options.mapper.abs_pose_refine_focal_length = free
        options.mapper.abs_pose_refine_extra_params = free
        options.constant_cameras = known
        out = folder / "models"
        out.mkdir(exist_ok=True)
        found = pycolmap.incremental_mapping(folder / DATABASE, folder, out, options)
        for each in found.values():
            if best is None or each.num_reg_images() > best.num_reg_images():
                best = each
        wanted = sum(map(len, job["pictures"].values()))
        if best is not None and best.num_reg_images() >= 0.7 * wanted:
            break
    if best is None:
        return None
    _refine(best, *_known_lenses(best, job))
    return best


def _refine(
    solution, named: Collection[int], held: Collection[int], moving: int | None = None
) -> None:
    """Refine poses, points and lenses of a reconstruction. For the cameras ``named`` only the focal
    length is refined, the lenses of the cameras ``held`` stay fixed, and that of a ``moving``
    camera is refined completely, because it has many pictures."""
    import pycolmap

    stages = [(True, False, {*named, *held}), (False, False, set(held))]
    if moving is not None:
        stages.insert(1, (True, True, set(solution.cameras) - {moving}))
    for extras, centre, constant in stages:
        config = pycolmap.BundleAdjustmentConfig()
        for image in solution.reg_image_ids():
            config.add_image(image)
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        for camera in constant:
            config.set_constant_cam_intrinsics(camera)
        final = pycolmap.BundleAdjustmentOptions()
        final.refine_focal_length, final.refine_extra_params = True, extras
        final.refine_principal_point = centre
        final.print_summary = False
        final.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
        # Ceres' own; COLMAP's 0 takes four times as long for a ten thousandth of the way.
        final.ceres.solver_options.function_tolerance = 1e-6
        pycolmap.create_default_bundle_adjuster(final, config, solution).solve()


def _known_lenses(solution, job: dict) -> tuple[list[int], list[int], int | None]:
    """List the cameras of which only the focal length is free, those whose lens is fixed, and the
    moving camera if its lens is free."""
    by_folder = {image.name.split("/")[0]: image.camera_id for image in solution.images.values()}
    named, held = [], []
    for name, camera in by_folder.items():
        free = job["lenses"][name][2]
        if free == "focal length":
            named.append(camera)
        elif free == "nothing":
            held.append(camera)
    moving = by_folder.get(job["moving"])
    return named, held, None if moving in held else moving


def _without(
    solution, job: dict, names: list[str]
) -> tuple[np.ndarray, dict[str, list[float]]]:  # [N, PARTS, 3, 4]
    """Refine the reconstruction again without each part of the pictures, aligned to the full one.
    For fixed lenses, also measure by which share the focal length would grow."""
    import pycolmap

    poses = np.full((len(names), PARTS, 3, 4), np.nan)
    named, held, moving_camera = _known_lenses(solution, job)
    folders = {image.camera_id: image.name.split("/")[0] for image in solution.images.values()}
    longer: dict[str, list[float]] = {folders[camera]: [] for camera in held}
    images = {image.name: image.image_id for image in solution.images.values() if image.has_pose}
    moving = sorted(name for name in images if name.split("/")[0] == job["moving"])
    for part in range(PARTS):
        rest = pycolmap.Reconstruction(solution)
        for name in moving[part * len(moving) // PARTS : (part + 1) * len(moving) // PARTS]:
            rest.deregister_frame(rest.images[images[name]].frame_id)
        if rest.num_points3D() < 10 or rest.num_reg_images() < 3:
            continue
        _refine(rest, named, held, moving_camera)
        shared = [number for number in rest.points3D if number in solution.points3D]
        before = np.array([rest.points3D[number].xyz for number in shared])
        after = np.array([solution.points3D[number].xyz for number in shared])
        scale, turn, shift = robust_similarity(before, after)
        for row, name in enumerate(names):
            image = rest.images[images[name]]
            if not image.has_pose:
                continue
            pose = np.asarray(image.cam_from_world().matrix())
            rotation = pose[:, :3] @ turn.T
            poses[row, part] = np.c_[rotation, scale * pose[:, 3] - rotation @ shift]
        if held:
            before_free = {camera: rest.cameras[camera].mean_focal_length() for camera in held}
            _refine(rest, (*named, *held), (), moving_camera)
            for camera, focal in before_free.items():
                share = rest.cameras[camera].mean_focal_length() / focal - 1
                longer[folders[camera]].append(share)
    return poses, longer


def _longer(shares: Sequence[float]) -> tuple[float, float]:
    """Compute the mean and the jackknife standard deviation of values that each lack one part."""
    if len(shares) < 2:
        return 0.0, 1.0
    return float(np.mean(shares)), float(np.sqrt((len(shares) - 1) * np.var(shares)))


def read_structure(file: Path) -> Structure | None:
    """Read the reconstruction that the separate process has written, None if no pictures fitted
    together."""
    with np.load(file, allow_pickle=False) as content:
        if bool(content["empty"]):
            return None
        names = [str(name) for name in content["names"]]
        ends = np.cumsum(content["counts"])[:-1]
        return Structure(
            w2c=dict(zip(names, content["w2c"], strict=True)),
            cameras={k: (m, tuple(n)) for k, (m, n) in json.loads(str(content["cameras"])).items()},
            points=content["points"],
            rows=dict(zip(names, np.split(content["rows"], ends), strict=True)),
            pixels=dict(zip(names, np.split(content["pixels"], ends), strict=True)),
            error_px=float(content["error_px"]),
            without=dict(zip(names, content["without"], strict=True)),
            longer={k: (m, sd) for k, (m, sd) in json.loads(str(content["longer"])).items()},
        )
