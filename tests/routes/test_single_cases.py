"""Test inputs that are not crossed with pictures and frames."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core import stages
from egox_core.cameras import CameraModel
from egox_core.exchange import export_path
from egox_core.file_names import HEAD_TRAJECTORY
from egox_core.hands import HandTrack, draw_hands
from egox_core.robots import camera_fit, make_episodes
from egox_core.scene import viewer_camera
from egox_core.stereo import StereoForm, second_eye
from egox_core.takes import read_meta
from egox_core.types import CameraTrajectory, DepthVideo, of_frames
from egox_train.data.prepare_options import PrepareOptions
from egox_train.video_writer import write_video
from lab.drawn import write_take
from lab.sample import write_keypoints
from tests.path_forms import FORMS, FORMS_WITH_BOTH_CAMERAS
from tests.refusals import refuses
from tests.train.prepared_takes import prepare_and_read
from train_egox import main as train_egox

from .drawn_clip import (
    CLIP_FRAMES,
    FPS,
    PICTURES,
    SOURCE_FRAMES,
    Clip,
    drawn_take,
    intrinsics_matrix,
)
from .input_forms import align_depth
from .results import (
    ARRAY_TOLERANCE,
    FILE_TOLERANCE,
    DepthAndPath,
    check_cameras,
    check_later_results,
    check_second_eye,
    decibels,
    episode_columns,
    exact_gga_geometry,
    largest_difference,
    make_second_eye,
    rank_by_frame,
    reference_result,
    reference_scene,
    true_results,
)


def test_wide_intrinsics_beside_a_narrower_video(load_drawn_clip) -> None:
    """Check the lens when the intrinsics belong to a wider picture than the video."""
    clip, size = load_drawn_clip("as it is", "from 0", False), (126, 72)  # of whole 128x72
    frames = replace(clip.frames, source_size=size, size=size)
    narrow_depth_file = clip.folder / "narrow.npz"
    np.savez(narrow_depth_file, depth_m=np.full((SOURCE_FRAMES, *size[::-1]), 2, np.float32))
    meta = read_meta(clip.meta("wide", intrinsics_matrix(1540, 960, 540)))
    lens = stages.align(narrow_depth_file, frames=frames, meta=meta)[0].exo.camera
    assert (lens.fx, lens.cx, lens.cy) == pytest.approx((1540 * 72 / 1080, 63, 36), abs=1e-6)
    assert lens.fy == pytest.approx(lens.fx)


def test_lens_of_another_aspect_ratio(load_drawn_clip) -> None:
    """Check that a wide lens is cropped to the square ego picture."""
    clip = load_drawn_clip("as it is", "from 0", False)
    source_poses = clip.poses(of_exo=False)
    wide_poses = replace(
        source_poses, intrinsics=intrinsics_matrix(1000, 959.5, 539.5), size=(1920, 1080)
    )
    for form in ("colmap text", "transforms", "ours"):
        folder = clip.folder / f"wide {form}"
        folder.mkdir()
        ego_path, notes = stages.path(
            FORMS[form](folder, wide_poses),
            frames=clip.frames,
            ego_size=256,
            scene=reference_scene(clip),
        )
        lens = ego_path.ego.camera
        expected_focal = 1000 * 256 / 1080
        assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx(
            (expected_focal, expected_focal, 127.5, 127.5)
        )
        assert lens.stored_size == (256, 256) and "1080x1080" in notes.placed


def test_contradicting_arguments_are_refused(load_drawn_clip) -> None:
    """Check that an argument that contradicts the input file is refused."""
    clip = load_drawn_clip("as it is", "from 0", False)
    other_intrinsics, meta = intrinsics_matrix(50, 48, 32), read_meta(clip.exact_meta_file())
    depth = reference_result(clip).depth
    for source, options in (
        (clip.depth_file(), {"meta": meta, "camera": other_intrinsics}),
        (clip.depth_file(), {"meta": meta, "exo_w2c": clip.exo_pose + [[0, 0, 0, 1.0]]}),
        (depth, {"camera": other_intrinsics}),
        (depth, {"exo_w2c": clip.exo_pose + [[0, 0, 0, 1.0]]}),
    ):
        with refuses("camera|exo_w2c"):
            stages.align(source, frames=clip.frames, **options)
    with refuses("camera"):
        stages.scene(clip.exo, depth, camera=other_intrinsics)
    for source, options in ((clip.depth_file(), {"meta": meta}), (depth, {})):
        result = align_depth(
            clip, source, camera=clip.source_intrinsics, exo_w2c=clip.exo_pose, **options
        )
        check_cameras(clip, result, ARRAY_TOLERANCE)


def test_different_frames_are_refused(load_drawn_clip) -> None:
    """Check that depth and poses of different video frames can't be combined."""
    late_clip, early_clip = (
        load_drawn_clip("as it is", name, False) for name in ("from 4", "from 0")
    )
    depth, late_path = reference_result(late_clip)
    early_path = reference_result(early_clip).path
    late_scene = reference_scene(late_clip)
    ego_prior = stages.prior(late_scene, late_path)[0].rgb
    hands = replace(
        late_clip.take.hands.select(torch.tensor(late_clip.indices)),
        frames=late_clip.frames.without_sizes,
    )
    for combine in (
        lambda path: stages.prior(late_scene, path),
        lambda path: stages.judge(ego_prior, scene=late_scene, trajectory=path),
        lambda path: exact_gga_geometry(late_clip, depth, path),
        lambda path: rank_by_frame(depth, path),
        lambda path: camera_fit(late_scene, path, ego_prior, True),
        lambda path: second_eye(ego_prior, late_scene, path, StereoForm()),
        lambda path: episode_columns(late_clip.exo, ego_prior, depth, path, hands),
        lambda path: draw_hands(hands, path),
        lambda path: make_episodes(
            "a", "do it", late_clip.exo, ego_prior, replace(path, exo=depth.exo), hands, fps=24
        ),
    ):
        with refuses("moments of (scene|depth|hands) and path"):
            combine(early_path)


def test_path_of_unknown_world(load_drawn_clip) -> None:
    """Check that pose files of unknown world coordinates give one path, and its results."""
    clip = load_drawn_clip("as it is", "from 0", True)
    hands, depth = clip.take.hands.select(torch.tensor(clip.indices)), reference_result(clip).depth
    black_frames = torch.zeros(CLIP_FRAMES, 64, 64, 3, dtype=torch.uint8)
    paths = {}
    for form in FORMS.keys() - {*FORMS_WITH_BOTH_CAMERAS}:
        folder = clip.folder / f"unknown world {form}"
        folder.mkdir()
        pose_file = FORMS[form](folder, clip.poses(of_exo=False))
        paths[form], _ = stages.path(pose_file, frames=clip.frames, camera=clip.ego)
    path, true_values = paths["colmap text"], true_results(clip)
    for form, same_path in paths.items():
        assert same_path.exo is None and viewer_camera(same_path) == {}, form
        assert same_path.ego.camera == path.ego.camera, form
        assert largest_difference(same_path.ego.w2c, path.ego.w2c) < 2 * FILE_TOLERANCE, form
    assert decibels(stages.prior(reference_scene(clip), path)[0].rgb, true_values["prior"]) > 60
    check_second_eye(clip, DepthAndPath(depth, path))
    assert largest_difference(rank_by_frame(depth, path), true_values["rank"]) < 1e-5
    for compute in (
        lambda: hands.in_head(path),
        lambda: episode_columns(clip.exo, black_frames, depth, path, hands),
        lambda: exact_gga_geometry(clip, depth, path),
    ):
        with refuses("world"):
            compute()


def draw_two_views(load_drawn_clip) -> tuple[Clip, Clip]:
    """Draw a take that two exo cameras film."""
    first_view, clips = load_drawn_clip("as it is", "from 4", False), []
    for view_index, take in enumerate(drawn_take((96, 64), False, view_count=2).views):
        folder = first_view.folder / f"view {view_index}"
        folder.mkdir(exist_ok=True)
        write_video(folder / "exo.mp4", take.exo_rgb, FPS, quality=1)
        loaded_clip, _ = stages.load_clip(
            folder / "exo.mp4", start_frame=4, frame_count=CLIP_FRAMES
        )
        clip_fields = {"exo": loaded_clip.exo, "frames": loaded_clip.selection}
        clips.append(replace(first_view, take=take, folder=folder, **clip_fields))
    return clips[0], clips[1]


def stage_remarks(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> Mapping[str, list[str]]:
    """Collect the remarks that each stage makes, of the first frame where that is enough."""
    geometry_notes = exact_gga_geometry(clip, depth, path).notes()
    clip = replace(clip, exo=clip.exo[:1])
    depth, path = of_frames(depth, slice(1)), of_frames(path, slice(1))
    scene_points, _ = stages.scene(clip.exo, depth)
    drawn_prior, report = stages.prior(scene_points, path, draw_anyway=True)
    ego_prior = drawn_prior.rgb
    return {
        "prior": report.warnings(),
        "judge": stages.judge(ego_prior, scene=scene_points, trajectory=path)[1].warnings(),
        "geometry": geometry_notes,
        "second eye": make_second_eye(clip, depth, path).warnings(),
        "fit": camera_fit(scene_points, path, ego_prior, True).warnings(),
    }


def test_path_of_the_other_exo_camera(load_drawn_clip) -> None:
    """Check the results and the remark if the poses come from another exo camera's file."""
    path_view, clip = draw_two_views(load_drawn_clip)
    (depth, right_path), scene = reference_result(clip), reference_scene(clip)
    right_warnings = stages.prior(scene, right_path, draw_anyway=True)[1].warnings()
    assert not any("against" in warning for warning in right_warnings)
    unplaced_path, _ = stages.path(path_view.exact_meta_file(), frames=clip.frames, camera=clip.ego)
    for stage, remark_texts in stage_remarks(clip, depth, unplaced_path).items():
        assert any("another camera of the take" in remark for remark in remark_texts), stage
    placed_path, notes = stages.path(
        path_view.exact_meta_file(), frames=clip.frames, camera=clip.ego, scene=scene
    )
    assert "another camera of the take" in notes.placed
    check_later_results(clip, DepthAndPath(depth, placed_path))
    for path in (
        unplaced_path.with_depth_camera(depth.exo),
        unplaced_path.in_world_of(scene.exo),
    ):
        check_cameras(clip, DepthAndPath(depth, path), FILE_TOLERANCE)
    # Where depth has no pose, the videos tell.
    path_view_path, _ = stages.path(
        path_view.exact_meta_file(), frames=path_view.frames, camera=clip.ego
    )
    for compared_view, is_remarked in ((clip, True), (path_view, False)):
        unposed_depth, _ = stages.align(
            compared_view.depth_maps(), frames=compared_view.frames, camera=compared_view.lens
        )
        warnings = (
            *path_view_path.other_exo(unposed_depth.exo),
            *path_view_path.other_hands(compared_view.frames),
        )
        assert len(warnings) == (2 if is_remarked else 0)
        assert all("two cameras" in str(warning) for warning in warnings)


def test_worlds_that_contradict_are_remarked(load_drawn_clip) -> None:
    """Check that depth and poses in contradicting world coordinates cause a remark."""
    clip, world_from_other_world = load_drawn_clip("as it is", "from 4", True), np.eye(4)
    world_from_other_world[:3, :3] = [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]]
    world_from_other_world[:3, 3] = 0.3, 0.1, -0.2
    depth, _ = stages.align(
        clip.depth_maps(),
        frames=clip.frames,
        camera=clip.lens,
        exo_w2c=clip.exo_pose @ world_from_other_world,
    )
    path, _ = stages.path(clip.exact_meta_file(), frames=clip.frames, camera=clip.ego)
    for exos in ([depth.exo], stages.scene(clip.exo, depth)[0].exos):
        (remark,) = path.other_exo(*exos)
        assert "the same one, these are two worlds" in str(remark)


def test_distorted_lenses(load_drawn_clip) -> None:
    """Check that distorted lenses are cropped and resized together with the picture."""
    lenses = (
        {"lens": "opencv", "distortion": (-0.1, 0.02, 0.001, -0.002)},
        {"lens": "opencv_fisheye", "distortion": (0.03, -0.01, 0.002, 0.0)},
        {"lens": "pinhole"},
    )
    for picture_name in PICTURES:
        clip = load_drawn_clip(picture_name, "from 4", False)
        (width, height), used_picture, scale_factor = (
            clip.picture.source,
            clip.picture,
            clip.picture.scale,
        )
        for lens_index, lens_fields in enumerate(lenses):
            lens = CameraModel(
                width=width,
                height=height,
                fx=70,
                fy=71,
                cx=width / 2 - 4,
                cy=height / 2 + 3,
                **lens_fields,
            )
            meta = read_meta(clip.meta(f"lens {lens_index}", exo_camera=lens.to_json()))
            points = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double()
            points = points * torch.tensor([0.4, 0.3, 0.1]) + torch.tensor([0, 0, 1.5])
            source_uv = lens.project(points)[0] + 0.5
            expected_uv = (source_uv - torch.tensor([used_picture.left_px, 0])) * scale_factor - 0.5
            for result in (
                align_depth(clip, clip.depth_file(), meta=meta),
                align_depth(clip, clip.depth_file(), camera=lens),
                align_depth(clip, camera=lens),
            ):
                result_lens = result.depth.exo.camera
                result_uv = result_lens.rescale(*used_picture.size).project(points)[0]
                assert largest_difference(result_uv, expected_uv) < 1e-6, (
                    picture_name,
                    lens_fields["lens"],
                )


def test_keyframes_without_a_lens_are_upright(load_drawn_clip) -> None:
    """Check that keyframes without a lens are read as an upright view."""
    clip = load_drawn_clip("as it is", "from 4", False)
    upright_w2c = clip.take.ego.camera.upright_poses(clip.ego_w2c)
    frame_poses = zip(clip.indices, upright_w2c.tolist(), strict=True)
    keyframe_json = {"keyframes": [{"frame": index, "w2c": w2c} for index, w2c in frame_poses]}
    for lens in (CameraModel.pinhole(64, 64, 32), clip.ego.upright()):
        file_name, content = export_path(
            "keyframes", keyframe_json, lens, clip.frames.without_sizes, reference_scene(clip)
        )
        exported_file = clip.folder / file_name
        exported_file.write_bytes(content)
        for camera in (None, lens, clip.ego):
            ego_path, _ = stages.path(exported_file, frames=clip.frames, camera=camera)
            assert largest_difference(ego_path.ego.upright_w2c, upright_w2c) < ARRAY_TOLERANCE
    _, notes = stages.path(keyframe_json, frames=clip.frames)
    assert "turned by 90 degrees" in notes.placed


def test_viewer_angle_of_a_pinhole(load_drawn_clip) -> None:
    """Check that the viewer opens with the pinhole camera's angle of view."""
    clip = load_drawn_clip("as it is", "from 0", False)
    path, _ = stages.path(
        clip.take.ego.camera.upright_poses(clip.ego_w2c).numpy(),
        frames=clip.frames,
        camera=CameraModel.pinhole(64, 64, 32),
        exo_w2c=clip.exo_pose,
    )
    viewer_settings = viewer_camera(path)
    assert viewer_settings["fov"] == pytest.approx(90)
    quaternion = torch.tensor(list(viewer_settings["quaternion"].values())).double()
    assert (
        largest_difference(quaternion * quaternion[3].sign(), true_results(clip)["viewer's turn"])
        < 1e-5
    )


def test_prepared_clips(load_drawn_clip) -> None:
    """Check the cameras that prepared clips store."""
    for exo_moves, step, (width, height) in ((True, 1, (64, 64)), (False, 2, (48, 32))):
        picture_name = "square" if width == height else "half"
        clip = load_drawn_clip(picture_name, "from 4" if step == 1 else "every second", exo_moves)
        takes_folder = clip.folder / f"takes {exo_moves}"
        write_take(drawn_take((96, 64), exo_moves), takes_folder / "a", quality=1)
        prepare_options = PrepareOptions(
            frames=CLIP_FRAMES,
            stride=4,
            step=step,
            exo_size=(width, height),
            ego_size=height,
            device="cpu",
        )
        records, _ = prepare_and_read(
            takes_folder, clip.folder / f"set {exo_moves}", prepare_options
        )
        clip_record = next(
            prepared_record
            for prepared_record in records
            if prepared_record.start == clip.indices[0]
        )
        folder = clip.folder / f"set {exo_moves}" / clip_record.folder
        meta = read_meta(folder / "meta.json")
        depth, _ = stages.align(folder / "depth.npz", meta=meta)
        path, _ = stages.path(meta, count=CLIP_FRAMES)
        frames = clip.frames.without_sizes
        cut_depth_and_path = (
            replace(depth, exo=replace(depth.exo, frames=frames)),
            replace(path, ego=replace(path.ego, frames=frames)),
        )
        check_cameras(clip, DepthAndPath(*cut_depth_and_path), FILE_TOLERANCE)


def test_headpose_file(load_drawn_clip) -> None:
    """Check that a head pose file also gives the exo camera of a cropped picture."""
    clip = load_drawn_clip("square", "from 4", False)
    folder = clip.folder / "with head"
    write_take(clip.take, folder)
    write_keypoints(clip.take.spec, folder / "points.json")
    assert train_egox(["headpose", str(folder), "--keypoints", str(folder / "points.json")]) == 0
    path, _ = stages.path(folder / HEAD_TRAJECTORY, frames=clip.frames)
    black_frames = torch.zeros(CLIP_FRAMES, 64, 64, 3, dtype=torch.uint8)
    hands = HandTrack.unknown(CLIP_FRAMES)
    columns = episode_columns(clip.exo, black_frames, reference_result(clip).depth, path, hands)
    for name in ("egox.exo_K", "egox.exo_c2w"):
        assert (
            largest_difference(torch.from_numpy(columns[name]), true_results(clip)[name])
            < FILE_TOLERANCE
        ), name
