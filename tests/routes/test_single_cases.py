"""Test inputs that are not crossed with pictures and frames."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from egox_core import stages
from egox_core.cameras import CameraModel
from egox_core.exchange import export_path
from egox_core.hands import draw_hands
from egox_core.robots import camera_fit, make_episodes
from egox_core.scene import viewer_camera
from egox_core.stereo import StereoForm, second_eye
from egox_core.types import CameraTrajectory, DepthVideo, of_frames
from egox_train.video_writer import write_video
from tests.path_forms import FORMS, FORMS_WITH_BOTH_CAMERAS
from tests.refusals import refuses

from .drawn_clip import (
    CLIP_FRAMES,
    FPS,
    Clip,
    drawn_take,
)
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
