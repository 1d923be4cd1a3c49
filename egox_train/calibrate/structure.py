"""Reconstruct cameras and 3D points of a still scene by ``pycolmap``, in a separate process.

That process can be ended at once, and its crashes do no harm."""

import json
import multiprocessing
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.progress import Progress
from egox_core.safe_files import write_json

from ..fingerprint import fingerprint
from ..parallel import interrupts_held
from .lenses import FreeParameters
from .scale import robust_similarity

JOB_FILE, DATABASE_FILE, PAIRS_FILE, MATCHED_FILE = (
    "job.json",
    "database.db",
    "pairs.txt",
    "matches.done",
)
FRAME_DISTANCES = (1, 2, 3, 4, 6, 9, 13, 19, 28)
"""Pictures of the moving camera that are matched, by how many they are apart."""
SEED = 1
POLL_S = 0.5
MOST_FEATURES = 3000
PART_COUNT = 5
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
    point_indices: Mapping[str, np.ndarray]  # by picture [N] int64: its points
    pixels: Mapping[str, np.ndarray]  # by picture [N, 2]
    error_px: float  # mean of the reprojection
    # By picture [PARTS, 3, 4]: its pose without each part, where the points are as in the whole;
    # NaN where the picture is in that part.
    partial_poses: Mapping[str, np.ndarray]
    # By folder whose lens was held: by which share the pictures' own focal length is longer, and
    # sd.
    focal_changes: Mapping[str, tuple[float, float]]


def solve_structure(
    folder: Path,
    picture_names: Mapping[str, Sequence[str]],  # by folder: names within it, in order of time
    # By folder: COLMAP's model and numbers (a guess, if free), what of them is free.
    lenses: Mapping[str, tuple[str, Sequence[float], FreeParameters]],
    moving_folder: str,
    progress: Progress,
) -> Structure | None:
    """Reconstruct the scene from the pictures in ``folder``, or return None if they don't match.

    A finished result of the same job is taken as it is.

    Raises:
        EgoXInputError: no pycolmap, or its process broke off.
    """
    require_pycolmap()
    job = {
        "pictures": {name: list(files) for name, files in picture_names.items()},
        "lenses": {
            name: [camera_model, list(map(float, n)), free_parameters]
            for name, (camera_model, n, free_parameters) in lenses.items()
        },
        "moving": moving_folder,
        "parts": PART_COUNT,
        "solver": 4,  # results of earlier ones are made anew
    }
    result_file = folder / f"structure_{fingerprint(job)[:12]}.npz"
    if not result_file.is_file():
        write_json(folder / JOB_FILE, job | {"result": result_file.name})
        _run_in_process(folder, progress)
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


def _run_in_process(folder: Path, progress: Progress) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_run_reconstruction, args=(str(folder),)
    )
    with interrupts_held():
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


def _run_reconstruction(folder_path: str) -> None:
    """Run a reconstruction: extract features, match them, and solve the cameras."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import pycolmap

    folder = Path(folder_path)
    job = json.loads((folder / JOB_FILE).read_text("utf-8"))
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(SEED)
    _write_matches(folder, job)
    _verify_matches(folder, job)
    best_reconstruction = reconstruct_pictures(folder, job)
    moving_camera = (
        None if best_reconstruction is None else _known_lenses(best_reconstruction, job)[2]
    )
    if moving_camera is not None:
        # With the lens that the pictures told, more matches are of two views.
        job["lenses"][job["moving"]][1] = list(best_reconstruction.cameras[moving_camera].params)
        _verify_matches(folder, job)
        best_reconstruction = (
            reconstruct_pictures(folder, job, solved_lens_folder=job["moving"])
            or best_reconstruction
        )
    if best_reconstruction is None:
        np.savez_compressed(folder / job["result"], empty=True)
        return
    best_reconstruction = restart_still_cameras(best_reconstruction, job)
    camera_parameters = {}
    point_indices, pixels, poses = {}, {}, {}
    row_of_point = {point: row for row, point in enumerate(best_reconstruction.points3D)}
    for solved_image in best_reconstruction.images.values():
        if not solved_image.has_pose:
            continue
        name = solved_image.name
        poses[name] = np.asarray(solved_image.cam_from_world().matrix())
        camera = best_reconstruction.cameras[solved_image.camera_id]
        camera_parameters[name.split("/")[0]] = [camera.model.name, list(map(float, camera.params))]
        triangulated_points = [p for p in solved_image.points2D if p.has_point3D()]
        point_indices[name] = np.array(
            [row_of_point[p.point3D_id] for p in triangulated_points], np.int64
        )
        pixels[name] = np.array([p.xy for p in triangulated_points], np.float64).reshape(-1, 2)
    picture_names = list(poses)
    poses_without, focal_changes = leave_out_parts(best_reconstruction, job, picture_names)
    np.savez_compressed(
        folder / job["result"],
        empty=False,
        names=picture_names,
        cameras=json.dumps(camera_parameters),
        w2c=np.stack([poses[name] for name in picture_names]),
        points=np.array([point.xyz for point in best_reconstruction.points3D.values()]).reshape(
            -1, 3
        ),
        counts=[len(point_indices[name]) for name in picture_names],
        rows=np.concatenate([point_indices[name] for name in picture_names]),
        pixels=np.concatenate([pixels[name] for name in picture_names]),
        error_px=best_reconstruction.compute_mean_reprojection_error(),
        without=poses_without,
        longer=json.dumps(
            {
                name: _mean_and_sd(triangulated_points)
                for name, triangulated_points in focal_changes.items()
            }
        ),
    )


def _write_matches(folder: Path, job: dict) -> None:
    """Extract the features of all pictures and match them.

    The matches are used with every candidate lens, and only their verification depends on
    it."""
    import pycolmap

    done_file, database_file = folder / MATCHED_FILE, folder / DATABASE_FILE
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
    pairs_file = folder / PAIRS_FILE
    pairs_file.write_text("\n".join(f"{a} {b}" for a, b in _picture_pairs(job)) + "\n", "utf-8")
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


def _verify_matches(folder: Path, job: dict) -> None:
    """Assign lenses to the cameras, and drop matches that are geometrically impossible."""
    import pycolmap

    with pycolmap.Database.open(folder / DATABASE_FILE) as database:
        for name, files in job["pictures"].items():
            lens_model, camera_parameters, _ = job["lenses"][name]
            image = database.read_image_with_name(f"{name}/{files[0]}")
            camera = database.read_camera(image.camera_id)
            camera.model, camera.params = lens_model, camera_parameters
            # Without it fisheyes are matched as pinholes are.
            camera.has_prior_focal_length = True
            database.update_camera(camera)
        database.clear_two_view_geometries()
    verification_options = pycolmap.TwoViewGeometryOptions()
    verification_options.ransac.random_seed = SEED
    pycolmap.verify_matches(folder / DATABASE_FILE, folder / PAIRS_FILE, verification_options)


def _picture_pairs(job: dict) -> list[tuple[str, str]]:
    picture_names = {
        name: [f"{name}/{file}" for file in file_names]
        for name, file_names in job["pictures"].items()
    }
    moving_pictures = picture_names.pop(job["moving"])
    still_pictures = [file for file_names in picture_names.values() for file in file_names]
    picture_pairs = [
        (moving_pictures[i], moving_pictures[i + n])
        for n in FRAME_DISTANCES
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


def reconstruct_pictures(folder: Path, job: dict, solved_lens_folder: str = ""):
    """Reconstruct as many pictures as possible by incremental mapping, or return None if none
    match.

    Lenses stay fixed while pictures are added (the one of folder ``solved_lens_folder`` in any
    case), and their free parameters are refined at the end."""
    import pycolmap

    with pycolmap.Database.open(folder / DATABASE_FILE) as database:
        fixed_lens_names = {
            database.read_image_with_name(f"{name}/{files[0]}").camera_id
            for name, files in job["pictures"].items()
            if job["lenses"][name][2] != "lens" or name == solved_lens_folder
        }
    best_reconstruction = None
    for is_lens_fixed in (True, False):
        mapping_options = pycolmap.IncrementalPipelineOptions()
        mapping_options.random_seed = SEED
        # A first pair that is wrong ends with three pictures or so: others are tried then.
        mapping_options.multiple_models, mapping_options.min_model_size = True, 3
        mapping_options.extract_colors = False
        # Aria's own k1 to k6 are up to 2; the usual limit drops such pictures without a word.
        mapping_options.max_extra_param = mapping_options.mapper.max_extra_param = 20.0
        mapping_options.triangulation.max_extra_param = 20.0
        # A head turns more than it moves: 20 cm of way before a wall at 3 m are 4 degrees.
        mapping_options.mapper.init_min_tri_angle = 2.0
        mapping_options.mapper.init_min_num_inliers = 50
        mapping_options.mapper.filter_min_tri_angle = mapping_options.triangulation.min_angle = 0.75
        mapping_options.mapper.ba_local_min_tri_angle = 2.0
        mapping_options.mapper.abs_pose_min_num_inliers = 15
        refines_lens = not is_lens_fixed
        mapping_options.ba_refine_focal_length = mapping_options.ba_refine_extra_params = (
            refines_lens
        )
        mapping_options.mapper.abs_pose_refine_focal_length = refines_lens
        mapping_options.mapper.abs_pose_refine_extra_params = refines_lens
        mapping_options.constant_cameras = fixed_lens_names
        models_folder = folder / "models"
        models_folder.mkdir(exist_ok=True)
        found_models = pycolmap.incremental_mapping(
            folder / DATABASE_FILE, folder, models_folder, mapping_options
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
    adjust_bundle(best_reconstruction, *_known_lenses(best_reconstruction, job))
    return best_reconstruction


def adjust_bundle(
    reconstruction,
    focal_only_cameras: Collection[int],
    fixed_cameras: Collection[int],
    moving_camera: int | None = None,
) -> float:
    """Refine the poses, points and lenses of a reconstruction by bundle adjustment, and return the
    cost that is left.

    For the cameras ``focal_only_cameras`` only the focal length is refined, the lenses of the
    cameras ``fixed_cameras`` stay fixed, and that of a ``moving_camera`` camera is refined
    completely, because it has many pictures."""
    import pycolmap

    refinement_stages = [
        (True, False, {*focal_only_cameras, *fixed_cameras}),
        (False, False, set(fixed_cameras)),
    ]
    if moving_camera is not None:
        refinement_stages.insert(1, (True, True, set(reconstruction.cameras) - {moving_camera}))
    for refines_distortion, refines_centre, constant_cameras in refinement_stages:
        adjustment_config = pycolmap.BundleAdjustmentConfig()
        for image in reconstruction.reg_image_ids():
            adjustment_config.add_image(image)
        adjustment_config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        for camera in constant_cameras:
            adjustment_config.set_constant_cam_intrinsics(camera)
        final_options = pycolmap.BundleAdjustmentOptions()
        final_options.refine_focal_length = True
        final_options.refine_extra_params = refines_distortion
        final_options.refine_principal_point = refines_centre
        final_options.print_summary = False
        final_options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
        # Ceres' own; COLMAP's 0 takes four times as long for a ten thousandth of the way.
        final_options.ceres.solver_options.function_tolerance = 1e-6
        adjuster = pycolmap.create_default_bundle_adjuster(
            final_options, adjustment_config, reconstruction
        )
        summary = adjuster.solve()
    return summary.ceres_summary.final_cost


def restart_still_cameras(reconstruction, job: dict):
    """Return the best of a reconstruction and of those in which a still camera began anew, with the
    guessed lens, at each of the two places from which a flat scene looks the same."""
    import pycolmap

    known_lenses = _known_lenses(reconstruction, job)
    least_cost = adjust_bundle(reconstruction, *known_lenses)
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.random_seed = SEED
    still_images = [
        image
        for image in reconstruction.images.values()
        if image.has_pose and image.name.split("/")[0] != job["moving"]
    ]
    for image in still_images:
        seen_points = [point for point in image.points2D if point.has_point3D()]
        pixels = np.array([point.xy for point in seen_points])
        points = np.array([reconstruction.points3D[p.point3D_id].xyz for p in seen_points])
        guessed = pycolmap.Reconstruction(reconstruction)
        guessed_camera = guessed.cameras[image.camera_id]
        guessed_camera.params = job["lenses"][image.name.split("/")[0]][1]
        answer = pycolmap.estimate_absolute_pose(pixels, points, guessed_camera, options)
        if answer is None:
            continue
        guessed_pose = np.asarray(answer["cam_from_world"].matrix())
        for pose in (guessed_pose, mirror_pose(guessed_pose, points)):
            restarted = pycolmap.Reconstruction(guessed)
            restarted.frames[image.frame_id].rig_from_world = pycolmap.Rigid3d(pose)
            restarted_cost = adjust_bundle(restarted, *known_lenses)
            if restarted_cost < least_cost and points_are_in_front(restarted):
                reconstruction, least_cost = restarted, restarted_cost
    return reconstruction


def points_are_in_front(reconstruction) -> bool:
    """Check that no point lies behind a camera that shows it, where an error costs nothing."""
    for image in reconstruction.images.values():
        if not image.has_pose:
            continue
        z_axis = image.cam_from_world().matrix()[2]
        for pixel in image.points2D:
            if pixel.has_point3D():
                position = reconstruction.points3D[pixel.point3D_id].xyz
                if z_axis[:3] @ position + z_axis[3] <= 0:
                    return False
    return True


def mirror_pose(w2c: np.ndarray, points: np.ndarray) -> np.ndarray:  # [3, 4], [N, 3] -> [3, 4]
    """Compute the second pose from which points near a plane look the same.

    Refinement ends in the one of both in which it begins (Schweighofer and Pinz 2006, "Robust pose
    estimation from a planar target")."""
    centre = points.mean(axis=0)
    plane_normal = np.linalg.svd(points - centre, full_matrices=False)[2][2]
    centre_in_camera = w2c[:, :3] @ centre + w2c[:, 3]
    sight_line = centre_in_camera / np.linalg.norm(centre_in_camera)
    rotation = _reflection(sight_line) @ w2c[:, :3] @ _reflection(plane_normal)
    return np.c_[rotation, centre_in_camera - rotation @ centre]


def _reflection(normal: np.ndarray) -> np.ndarray:  # [3] -> [3, 3]
    return np.eye(3) - 2 * np.outer(normal, normal)


def _known_lenses(reconstruction, job: dict) -> tuple[list[int], list[int], int | None]:
    """List the cameras with a free focal length, those with a fixed lens, and the moving camera."""
    camera_by_folder = {
        image.name.split("/")[0]: image.camera_id for image in reconstruction.images.values()
    }
    focal_free_cameras, fixed_lens_cameras = [], []
    for name, camera in camera_by_folder.items():
        free_parameters = job["lenses"][name][2]
        if free_parameters == "focal length":
            focal_free_cameras.append(camera)
        elif free_parameters == "nothing":
            fixed_lens_cameras.append(camera)
    moving_camera = camera_by_folder.get(job["moving"])
    return (
        focal_free_cameras,
        fixed_lens_cameras,
        None if moving_camera in fixed_lens_cameras else moving_camera,
    )


def ordered_parts(count: int) -> list[slice]:
    """Divide what is in order into parts that are left out, one after another."""
    ends = [part_index * count // PART_COUNT for part_index in range(PART_COUNT + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def leave_out_parts(
    reconstruction, job: dict, picture_names: list[str]
) -> tuple[np.ndarray, dict[str, list[float]]]:  # [N, PARTS, 3, 4]
    """Repeat the reconstruction's refinement with some pictures left out, to measure the
    uncertainty.

    Each part also lacks a sector of each still picture's points, since a few that lie together can
    hold its camera at a wrong place. Still cameras begin anew in each part, as in the whole: where
    two places fit equally well, the parts differ. For fixed lenses, also measure by which share the
    focal length would grow."""
    import pycolmap

    poses = np.full((len(picture_names), PART_COUNT, 3, 4), np.nan)
    focal_free_cameras, fixed_lens_cameras, moving_camera = _known_lenses(reconstruction, job)
    folder_by_camera = {
        image.camera_id: image.name.split("/")[0] for image in reconstruction.images.values()
    }
    focal_changes: dict[str, list[float]] = {
        folder_by_camera[camera]: [] for camera in fixed_lens_cameras
    }
    image_ids = {
        image.name: image.image_id for image in reconstruction.images.values() if image.has_pose
    }
    moving_pictures = sorted(name for name in image_ids if name.split("/")[0] == job["moving"])
    for part_index, part in enumerate(ordered_parts(len(moving_pictures))):
        part_pictures = moving_pictures[part]
        if not part_pictures:
            continue
        partial_reconstruction = pycolmap.Reconstruction(reconstruction)
        for name in part_pictures:
            partial_reconstruction.deregister_frame(
                partial_reconstruction.images[image_ids[name]].frame_id
            )
        for name, image_id in image_ids.items():
            if name.split("/")[0] != job["moving"]:
                _leave_out_sector(partial_reconstruction, image_id, part_index)
        if (
            partial_reconstruction.num_points3D() < 10
            or partial_reconstruction.num_reg_images() < 3
        ):
            continue
        partial_reconstruction = restart_still_cameras(partial_reconstruction, job)
        shared_points = [
            point_id
            for point_id in partial_reconstruction.points3D
            if point_id in reconstruction.points3D
        ]
        partial_positions = np.array(
            [partial_reconstruction.points3D[point_id].xyz for point_id in shared_points]
        )
        full_positions = np.array(
            [reconstruction.points3D[point_id].xyz for point_id in shared_points]
        )
        scale, rotation_matrix, translation = robust_similarity(partial_positions, full_positions)
        for row, name in enumerate(picture_names):
            image = partial_reconstruction.images[image_ids[name]]
            if not image.has_pose:
                continue
            pose = np.asarray(image.cam_from_world().matrix())
            rotation = pose[:, :3] @ rotation_matrix.T
            poses[row, part_index] = np.c_[rotation, scale * pose[:, 3] - rotation @ translation]
        if fixed_lens_cameras:
            focal_before = {
                camera: partial_reconstruction.cameras[camera].mean_focal_length()
                for camera in fixed_lens_cameras
            }
            adjust_bundle(
                partial_reconstruction,
                (*focal_free_cameras, *fixed_lens_cameras),
                (),
                moving_camera,
            )
            for camera, full_focal in focal_before.items():
                focal_change = (
                    partial_reconstruction.cameras[camera].mean_focal_length() / full_focal - 1
                )
                focal_changes[folder_by_camera[camera]].append(focal_change)
    return poses, focal_changes


def _leave_out_sector(reconstruction, image_id: int, part_index: int) -> None:
    """Remove a still picture's points in one of PART_COUNT sectors about their middle, each of as
    many points."""
    image = reconstruction.images[image_id]
    rows = [row for row, point in enumerate(image.points2D) if point.has_point3D()]
    pixels = np.array([image.points2D[row].xy for row in rows]).reshape(-1, 2)
    across, down = (pixels - np.median(pixels, axis=0)).T
    around = np.argsort(np.arctan2(down, across))
    for index in around[ordered_parts(len(rows))[part_index]]:
        reconstruction.delete_observation(image_id, rows[index])


def _mean_and_sd(relative_changes: Sequence[float]) -> tuple[float, float]:
    """Compute the mean and the jackknife standard deviation of relative focal length changes."""
    if len(relative_changes) < 2:
        return 0.0, 1.0
    return float(np.mean(relative_changes)), float(
        np.sqrt((len(relative_changes) - 1) * np.var(relative_changes))
    )


def read_structure(file: Path) -> Structure | None:
    """Read the reconstruction from its file, or return None if it is empty."""
    with np.load(file, allow_pickle=False) as npz_arrays:
        if bool(npz_arrays["empty"]):
            return None
        picture_names = [str(name) for name in npz_arrays["names"]]
        row_ends = np.cumsum(npz_arrays["counts"])[:-1]
        return Structure(
            w2c=dict(zip(picture_names, npz_arrays["w2c"], strict=True)),
            cameras={
                k: (camera_model, tuple(n))
                for k, (camera_model, n) in json.loads(str(npz_arrays["cameras"])).items()
            },
            points=npz_arrays["points"],
            point_indices=dict(
                zip(picture_names, np.split(npz_arrays["rows"], row_ends), strict=True)
            ),
            pixels=dict(zip(picture_names, np.split(npz_arrays["pixels"], row_ends), strict=True)),
            error_px=float(npz_arrays["error_px"]),
            partial_poses=dict(zip(picture_names, npz_arrays["without"], strict=True)),
            focal_changes={
                k: (length_change, change_sd)
                for k, (length_change, change_sd) in json.loads(str(npz_arrays["longer"])).items()
            },
        )
