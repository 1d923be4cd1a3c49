"""Test the second eye's picture: the plain form, a ray-traced room, shifts, holes and warnings."""

from dataclasses import replace

import pytest
import torch

from egox_core.cameras import CameraModel, preset_camera, sensor_from_upright
from egox_core.cameras.path import CameraPath
from egox_core.scene import build_scene
from egox_core.stereo import StereoForm, second_eye
from egox_core.stereo.right_eye import iter_second_eye
from egox_core.stereo.warp import (
    fill_holes,
    fill_nearness,
    find_source_positions,
    snap_edges,
)
from egox_core.types import DepthVideo
from lab.drawn import SyntheticSpec, make_take
from lab.drawn.shading import crease_neighbours
from lab.drawn.views import Renderer
from tests.poses import make_path, replace_ego, still_poses
from tests.twins.second_eye import move_reference

PICTURE_SIZE = 128
ROOM = SyntheticSpec(
    seed=760028,
    frames=1,
    exo_width=224,
    exo_height=PICTURE_SIZE,
    ego_size=PICTURE_SIZE,
    texture="soft",
)
STEREO_FORM = StereoForm(stabilise="off")


def test_pixel_shifts_equal_the_plain_implementation():
    nearness = 0.5 + 0.02 * torch.rand(20, 24)
    nearness[5:15, 8:17] += 1.0
    camera = preset_camera("aria_released", 24).upright().crop(0, 2, 24, 20)
    eye_offset = torch.tensor([0.2, 0.0, 0.0])
    source_uv, shifted_nearness = find_source_positions(camera, nearness, eye_offset)
    plain_source_uv = move_reference(camera, nearness, eye_offset)
    assert torch.allclose(source_uv, plain_source_uv, atol=1e-4, equal_nan=True)
    assert 10 < int(shifted_nearness.isnan().sum()) < 200


def test_depth_edges_are_moved_to_picture_edges():
    """Check that a depth edge 2 px beside a picture edge is moved to it where depth is observed."""
    picture = torch.zeros(12, 24, 3)
    nearness = torch.full((12, 24), 0.5)
    picture[:, 12:], nearness[:, 10:] = 1.0, 1.0
    observed_mask = torch.arange(12)[:, None].expand(12, 24) < 8
    snapped_nearness = snap_edges(nearness, observed_mask, picture)
    assert torch.equal(snapped_nearness[:8], 0.5 + picture[:8, :, 0] / 2)
    assert torch.equal(snapped_nearness[8:], nearness[8:])


@pytest.fixture(scope="module")
def room():
    """Provide a drawn take with its left eye's video, scene and camera path."""
    take = make_take(ROOM)
    scene = build_scene(take.exo_rgb, take.depth_video())
    return (take.ego_frames(), scene, take.trajectory()), take


def test_right_eye_agrees_with_the_ray_traced_one(room):
    """Check that the right eye's picture reaches 30 dB against ray tracing where the room is
    observed."""
    left_eye, take = room
    right_w2c = take.ego.w2c.clone()
    right_w2c[..., 3] -= STEREO_FORM.eyes_m * sensor_from_upright(1)[:, 0]
    neighbours = crease_neighbours(take.scene)
    renderer = Renderer(take.scene, replace(take.ego, w2c=right_w2c), neighbours, ROOM.edge_samples)
    true_picture = renderer.render_full([0], take.scene.indices(head=False)).rgb.view(
        PICTURE_SIZE, PICTURE_SIZE, 3
    )
    (right_eye,) = iter_second_eye(*left_eye, torch.tensor([[STEREO_FORM.eyes_m, 0.0, 0.0]]))
    hole_mask = right_eye.source.isnan().any(-1)
    column, row = right_eye.source.nan_to_num(0.0).round().long().unbind(-1)
    seen_mask = (
        right_eye.observed[row.clamp(0, PICTURE_SIZE - 1), column.clamp(0, PICTURE_SIZE - 1)]
        & ~hole_mask
    )
    squared_error, unshifted_squared_error = (
        (picture - true_picture)[seen_mask].square().mean()
        for picture in (right_eye.rgb, left_eye[0][0])
    )
    assert squared_error < 1e-3
    assert unshifted_squared_error > 10 * squared_error
    assert right_eye.rgb.isfinite().all()
    assert 0.005 < hole_mask.float().mean() < 0.1


def test_shifted_video_is_remarked_and_followed(room):
    """Check that an ego video turned or shifted against the depth gives a remark and a right second
    eye."""
    (video, scene, path), _ = room
    true_eye = second_eye(video, scene, path, STEREO_FORM)
    shift_px = 3
    assert true_eye.off_px < 1
    assert not true_eye.warnings()
    inner_slices = (slice(None), *(slice(16, -16),) * 2)
    stereo_difference = (true_eye.rgb - video).abs()
    shifted_w2c = path.ego.w2c.clone()
    shifted_w2c[:, 1, 3] += 0.1
    for shifted_video, expected_path, reverse_px in (
        (video.roll(shift_px, 2), path, -shift_px),
        (video, replace_ego(path, w2c=shifted_w2c), 0),
    ):
        shifted_eye = second_eye(shifted_video, scene, expected_path, STEREO_FORM)
        assert reverse_px == 0 or shifted_eye.off_px == pytest.approx(shift_px, abs=0.7)
        assert shifted_eye.warnings()[0].startswith(
            f"Warning: Image and depth are {shifted_eye.off_px:.1f} px apart"
        )
        # Depth went along: the picture moves as much as it did.
        shifted_error = (
            (shifted_eye.rgb.roll(reverse_px, 2) - true_eye.rgb)[inner_slices].abs().mean()
        )
        assert shifted_error < 0.25 * stereo_difference[inner_slices].mean()
    assert " 10 cm)" in shifted_eye.notes[1].text


def test_very_near_wall_is_warned_of():
    """Check that a wall at 20 cm, which differs by 8 px between the eyes, gives a warning."""
    camera = CameraModel.pinhole(64, 64, 32.0)
    video = (camera.pixel_rays()[0] / 2 + 0.5).expand(2, -1, -1, -1)
    depth = DepthVideo(depth_m=torch.full((2, 64, 64), 0.2), exo=CameraPath.of_exo(camera))
    left_eye = (
        video,
        build_scene(video, depth),
        make_path(still_poses(2), camera),
        StereoForm(stabilise="off", eyes_m=0.05),
    )
    progress_reports = []
    second_eye_result = second_eye(
        *left_eye, progress=lambda *report: progress_reports.append(report)
    )
    assert "is nearer than 0.3 m" in second_eye_result.warnings()[-1]
    colour_difference = second_eye_result.rgb[:, 8:-8, 8:-16] - video[:, 8:-8, 16:-8]
    assert colour_difference.abs().mean() < 0.002
    progress_reports.pop()
    with pytest.raises(IndexError):  # as a cancel at the last report
        second_eye(*left_eye, progress=lambda *_: progress_reports.pop())


def test_unobserved_depth_is_kept_at_a_distance():
    observed_mask = torch.zeros(16, 16, dtype=torch.bool)
    observed_mask[4:9, 4:9] = True
    kept_nearness = fill_nearness(torch.full((16, 16), 1 / 0.2), observed_mask)
    assert torch.allclose(kept_nearness, torch.where(observed_mask, 1 / 0.2, 1 / 0.4))


def test_holes_are_filled_from_the_far_side():
    picture = torch.zeros(6, 12, 3)
    nearness = torch.full((6, 12), 0.5)
    picture[:, 7:], nearness[:, :4] = 1.0, 2.0
    nearness[:, 4:7] = torch.nan
    assert torch.equal(fill_holes(picture, nearness)[:, 4:7], torch.ones(6, 3, 3))
    assert torch.equal(fill_holes(picture, nearness.flip(1))[:, 5:8], torch.zeros(6, 3, 3))
