"""Reconstruct cameras and 3D points of a still scene by ``pycolmap``, in a separate process.

That process can be ended at once, and its crashes do no harm."""

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
    """Reconstruction of a scene from pictures: camera poses, lenses and 3D points, in an arbitrary
    scale.

    Pixel coordinates are as in COLMAP (the first pixel's centre is 0.5)."""

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
    """Reconstruct the scene from the pictures in ``folder``, or return None if they don't match.

    A finished result of the same job is taken as it is.

    Raises:
        EgoXInputError: no pycolmap, or its process broke off.
    """
    require_pycolmap()
    job = {
        "pictures": {name: list(files) for name, files in pictures.items()},
        "lenses": {
            name: [camera_model, list(map(float, n)), free_parameters]
            for name, (camera_model, n, free_parameters) in lenses.items()
        },
        "moving": moving,
        "parts": PARTS,
    }
    result_file = folder / f"structure_{fingerprint(job)[:12]}.npz"
    if not result_file.is_file():
        write_json(folder / JOB, job | {"result": result_file.name})
        _run_apart(folder, progress)
    return read_structure(result_file)


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
        start_time_s = time.monotonic()
        while process.is_alive():
            process.join(POLL_S)
            progress(int(time.monotonic() - start_time_s), 0, "cameras by pictures, seconds")
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
    """Run a reconstruction: extract features, match them, and solve the cameras."""
    import pycolmap

    folder = Path(place)
    job = json.loads((folder / JOB).read_text("utf-8"))
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(SEED)
    _write_matches(folder, job)
    _verify(folder, job)
    best_reconstruction = _map(folder, job)
    moving_camera = (
        None if best_reconstruction is None else _known_lenses(best_reconstruction, job)[2]
    )
    if moving_camera is not None:
        # With the lens that the pictures told, more matches are of two views.
        job["lenses"][job["moving"]][1] = list(best_reconstruction.cameras[moving_camera].params)
        _verify(folder, job)
        best_reconstruction = _map(folder, job, told=job["moving"]) or best_reconstruction
    if best_reconstruction is None:
        np.savez_compressed(folder / job["result"], empty=True)
        return
    cameras = {}
    rows, pixels, poses = {}, {}, {}
    row_of_point = {point: row for row, point in enumerate(best_reconstruction.points3D)}
    for image in best_reconstruction.images.values():
        if not image.has_pose:
            continue
        name = image.name
        poses[name] = np.asarray(image.cam_from_world().matrix())
        camera = best_reconstruction.cameras[image.camera_id]
        cameras[name.split("/")[0]] = [camera.model.name, list(map(float, camera.params))]
        triangulated_points = [p for p in image.points2D if p.has_point3D()]
        rows[name] = np.array([row_of_point[p.point3D_id] for p in triangulated_points], np.int64)
        pixels[name] = np.array([p.xy for p in triangulated_points], np.float64).reshape(-1, 2)
    names = list(poses)
    poses_without, focal_changes = _without(best_reconstruction, job, names)
    np.savez_compressed(
        folder / job["result"],
        empty=False,
        names=names,
        cameras=json.dumps(cameras),
        w2c=np.stack([poses[name] for name in names]),
        points=np.array([point.xyz for point in best_reconstruction.points3D.values()]).reshape(
            -1, 3
        ),
        counts=[len(rows[name]) for name in names],
        rows=np.concatenate([rows[name] for name in names]),
        pixels=np.concatenate([pixels[name] for name in names]),
        error_px=best_reconstruction.compute_mean_reprojection_error(),
        without=poses_without,
        longer=json.dumps(
            {
                name: _longer(triangulated_points)
                for name, triangulated_points in focal_changes.items()
            }
        ),
    )


def _write_matches(folder: Path, job: dict) -> None:
    """Extract the features of all pictures and match them.

    The matches are used with every candidate lens, and only their verification depends on
    it."""
    import pycolmap

    done_file, database_file = folder / MATCHED, folder / DATABASE
    if done_file.is_file():
        return
    database_file.unlink(missing_ok=True)
    extraction_options = pycolmap.FeatureExtractionOptions()
    extraction_options.sift.max_num_features = MOST_FEATURES
    default_threshold = extraction_options.sift.peak_threshold
    for name, files in job["pictures"].items():
        # A median over time has a fifth of a frame's noise, so fainter features are real.
        extraction_options.sift.peak_threshold = (
            default_threshold if name == job["moving"] else default_threshold / 2
        )
        pycolmap.extract_features(
            database_file,
            folder,
            image_names=[f"{name}/{file}" for file in files],
            camera_mode=pycolmap.CameraMode.SINGLE,
            extraction_options=extraction_options,
            device=pycolmap.Device.cpu,
        )
    pairs_file = folder / PAIRS
    pairs_file.write_text("\n".join(f"{a} {b}" for a, b in _pairs(job)) + "\n", "utf-8")
    pairing_options = pycolmap.ImportedPairingOptions()
    pairing_options.match_list_path = str(pairs_file)
    matching_options = pycolmap.FeatureMatchingOptions()
    matching_options.skip_geometric_verification = True
    pycolmap.match_image_pairs(
        database_file,
        matching_options=matching_options,
        pairing_options=pairing_options,
        device=pycolmap.Device.cpu,
    )
    done_file.write_text("", "utf-8")


def _verify(folder: Path, job: dict) -> None:
    """Assign lenses to the cameras, and drop matches that are geometrically impossible."""
    import pycolmap

    with pycolmap.Database.open(folder / DATABASE) as database:
        for name, files in job["pictures"].items():
            model, camera_parameters, _ = job["lenses"][name]
            image = database.read_image_with_name(f"{name}/{files[0]}")
            camera = database.read_camera(image.camera_id)
            camera.model, camera.params = model, camera_parameters
            # Without it fisheyes are matched as pinholes are.
            camera.has_prior_focal_length = True
            database.update_camera(camera)
        database.clear_two_view_geometries()
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = SEED
    pycolmap.verify_matches(folder / DATABASE, folder / PAIRS, options)


def _pairs(job: dict) -> list[tuple[str, str]]:
    picture_names = {
        name: [f"{name}/{file}" for file in file_names]
        for name, file_names in job["pictures"].items()
    }
    moving_pictures = picture_names.pop(job["moving"])
    still_pictures = [file for file_names in picture_names.values() for file in file_names]
    picture_pairs = [
        (moving_pictures[i], moving_pictures[i + n])
        for n in NEAR
        for i in range(len(moving_pictures) - n)
    ]
    picture_pairs += [
        (still_picture, moving_picture)
        for still_picture in still_pictures
        for moving_picture in moving_pictures
    ]
    return picture_pairs + [
        (a, b) for i, a in enumerate(still_pictures) for b in still_pictures[i + 1 :]
    ]


def _map(folder: Path, job: dict, told: str = ""):
    """Reconstruct as many pictures as possible by incremental mapping, or return None if none
    match.

    Lenses stay fixed while pictures are added (the one of folder ``told`` in any case), and
    their free parameters are refined at the end."""
    import pycolmap

    with pycolmap.Database.open(folder / DATABASE) as database:
        fixed_lens_names = {
            database.read_image_with_name(f"{name}/{files[0]}").camera_id
            for name, files in job["pictures"].items()
            if job["lenses"][name][2] != "lens" or name == told
        }
    best_reconstruction = None
    for is_lens_fixed in (True, False):
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
        refines_lens = not is_lens_fixed
        options.ba_refine_focal_length = options.ba_refine_extra_params = refines_lens
        options.mapper.abs_pose_refine_focal_length = refines_lens
        options.mapper.abs_pose_refine_extra_params = refines_lens
        options.constant_cameras = fixed_lens_names
        models_folder = folder / "models"
        models_folder.mkdir(exist_ok=True)
        found_models = pycolmap.incremental_mapping(
            folder / DATABASE, folder, models_folder, options
        )
        for found_model in found_models.values():
            if (
                best_reconstruction is None
                or found_model.num_reg_images() > best_reconstruction.num_reg_images()
            ):
                best_reconstruction = found_model
        picture_count = sum(map(len, job["pictures"].values()))
        if (
            best_reconstruction is not None
            and best_reconstruction.num_reg_images() >= 0.7 * picture_count
        ):
            break
    if best_reconstruction is None:
        return None
    _refine(best_reconstruction, *_known_lenses(best_reconstruction, job))
    return best_reconstruction


def _refine(
    solution, named: Collection[int], held: Collection[int], moving: int | None = None
) -> None:
    """Refine the poses, points and lenses of a reconstruction by bundle adjustment.

    For the cameras ``named`` only the focal length is refined, the lenses of the cameras
    ``held`` stay fixed, and that of a ``moving`` camera is refined completely, because it
    has many pictures."""
    import pycolmap

    stages = [(True, False, {*named, *held}), (False, False, set(held))]
    if moving is not None:
        stages.insert(1, (True, True, set(solution.cameras) - {moving}))
    for refines_distortion, centre, constant in stages:
        config = pycolmap.BundleAdjustmentConfig()
        for image in solution.reg_image_ids():
            config.add_image(image)
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        for camera in constant:
            config.set_constant_cam_intrinsics(camera)
        final_options = pycolmap.BundleAdjustmentOptions()
        final_options.refine_focal_length, final_options.refine_extra_params = (
            True,
            refines_distortion,
        )
        final_options.refine_principal_point = centre
        final_options.print_summary = False
        final_options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
        # Ceres' own; COLMAP's 0 takes four times as long for a ten thousandth of the way.
        final_options.ceres.solver_options.function_tolerance = 1e-6
        pycolmap.create_default_bundle_adjuster(final_options, config, solution).solve()


def _known_lenses(solution, job: dict) -> tuple[list[int], list[int], int | None]:
    """List the cameras with a free focal length, those with a fixed lens, and the moving camera."""
    by_folder = {image.name.split("/")[0]: image.camera_id for image in solution.images.values()}
    focal_free_cameras, fixed_lens_cameras = [], []
    for name, camera in by_folder.items():
        free_parameters = job["lenses"][name][2]
        if free_parameters == "focal length":
            focal_free_cameras.append(camera)
        elif free_parameters == "nothing":
            fixed_lens_cameras.append(camera)
    moving_camera = by_folder.get(job["moving"])
    return (
        focal_free_cameras,
        fixed_lens_cameras,
        None if moving_camera in fixed_lens_cameras else moving_camera,
    )


def _without(
    solution, job: dict, names: list[str]
) -> tuple[np.ndarray, dict[str, list[float]]]:  # [N, PARTS, 3, 4]
    """Repeat the reconstruction's refinement with some pictures left out, to measure the
    uncertainty.

    For fixed lenses, also measure by which share the focal length would grow."""
    import pycolmap

    poses = np.full((len(names), PARTS, 3, 4), np.nan)
    focal_free_cameras, fixed_lens_cameras, moving_camera = _known_lenses(solution, job)
    folders = {image.camera_id: image.name.split("/")[0] for image in solution.images.values()}
    focal_changes: dict[str, list[float]] = {folders[camera]: [] for camera in fixed_lens_cameras}
    images = {image.name: image.image_id for image in solution.images.values() if image.has_pose}
    moving_pictures = sorted(name for name in images if name.split("/")[0] == job["moving"])
    for part_index in range(PARTS):
        partial_reconstruction = pycolmap.Reconstruction(solution)
        for name in moving_pictures[
            part_index * len(moving_pictures) // PARTS : (part_index + 1)
            * len(moving_pictures)
            // PARTS
        ]:
            partial_reconstruction.deregister_frame(
                partial_reconstruction.images[images[name]].frame_id
            )
        if (
            partial_reconstruction.num_points3D() < 10
            or partial_reconstruction.num_reg_images() < 3
        ):
            continue
        _refine(partial_reconstruction, focal_free_cameras, fixed_lens_cameras, moving_camera)
        shared_points = [
            point_id
            for point_id in partial_reconstruction.points3D
            if point_id in solution.points3D
        ]
        partial_positions = np.array(
            [partial_reconstruction.points3D[point_id].xyz for point_id in shared_points]
        )
        full_positions = np.array([solution.points3D[point_id].xyz for point_id in shared_points])
        scale, rotation_matrix, translation = robust_similarity(partial_positions, full_positions)
        for row, name in enumerate(names):
            image = partial_reconstruction.images[images[name]]
            if not image.has_pose:
                continue
            pose = np.asarray(image.cam_from_world().matrix())
            rotation = pose[:, :3] @ rotation_matrix.T
            poses[row, part_index] = np.c_[rotation, scale * pose[:, 3] - rotation @ translation]
        if fixed_lens_cameras:
            before_free = {
                camera: partial_reconstruction.cameras[camera].mean_focal_length()
                for camera in fixed_lens_cameras
            }
            _refine(
                partial_reconstruction,
                (*focal_free_cameras, *fixed_lens_cameras),
                (),
                moving_camera,
            )
            for camera, full_focal in before_free.items():
                focal_change = (
                    partial_reconstruction.cameras[camera].mean_focal_length() / full_focal - 1
                )
                focal_changes[folders[camera]].append(focal_change)
    return poses, focal_changes


def _longer(shares: Sequence[float]) -> tuple[float, float]:
    """Compute the mean and the jackknife standard deviation of relative focal length changes."""
    if len(shares) < 2:
        return 0.0, 1.0
    return float(np.mean(shares)), float(np.sqrt((len(shares) - 1) * np.var(shares)))


def read_structure(file: Path) -> Structure | None:
    """Read the reconstruction from its file, or return None if it is empty."""
    with np.load(file, allow_pickle=False) as npz_arrays:
        if bool(npz_arrays["empty"]):
            return None
        names = [str(name) for name in npz_arrays["names"]]
        row_ends = np.cumsum(npz_arrays["counts"])[:-1]
        return Structure(
            w2c=dict(zip(names, npz_arrays["w2c"], strict=True)),
            cameras={
                k: (camera_model, tuple(n))
                for k, (camera_model, n) in json.loads(str(npz_arrays["cameras"])).items()
            },
            points=npz_arrays["points"],
            rows=dict(zip(names, np.split(npz_arrays["rows"], row_ends), strict=True)),
            pixels=dict(zip(names, np.split(npz_arrays["pixels"], row_ends), strict=True)),
            error_px=float(npz_arrays["error_px"]),
            without=dict(zip(names, npz_arrays["without"], strict=True)),
            longer={
                k: (length_change, change_sd)
                for k, (length_change, change_sd) in json.loads(str(npz_arrays["longer"])).items()
            },
        )
