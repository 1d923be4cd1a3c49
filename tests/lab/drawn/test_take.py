"""Test synthetic takes: exact geometry, repeatability, motion and written files."""

import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import camera_centre
from egox_core.safe_files import read_json
from egox_core.take import load_take
from lab.drawn import SyntheticSpec, SyntheticTake, covisible, make_take, shading, write_take
from lab.drawn.layout import draw_layout
from lab.drawn.solids import distance
from tests.refusals import refuses

SMALL_SPEC = SyntheticSpec(seed=3, frames=5, exo_width=224, exo_height=128, ego_size=128)
TWO_FRAME_SPEC = SyntheticSpec(
    seed=3, frames=2, exo_width=128, exo_height=80, ego_size=80, edge_samples=1
)


@pytest.fixture(scope="module")
def take() -> SyntheticTake:
    return make_take(SMALL_SPEC)


@pytest.fixture(scope="module")
def two_frame_take() -> SyntheticTake:
    return make_take(TWO_FRAME_SPEC)


def _psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def colours_in_both(take: SyntheticTake, frame: int) -> tuple[torch.Tensor, ...]:  # [N, 3] each
    """Look up the colours of points that both the exo and the ego camera see, in each camera's
    picture."""
    masks = covisible(take, frame)
    sampled_exo = (
        torch.from_numpy(
            cv2.remap(take.exo_rgb[frame].numpy(), masks.exo_uv.numpy(), None, cv2.INTER_LINEAR)
        ).float()
        / 255
    )
    pictures = sampled_exo, sampled_exo.roll(2, 1), take.ego_rgb[frame].float() / 255
    return tuple(picture[masks.static] for picture in pictures)


@pytest.mark.parametrize("which", ["exo", "ego"])
def test_depth_lies_on_the_solids(take, which):
    """Check that each pixel's depth lies on the surface of a solid."""
    camera_path = take.exo if which == "exo" else take.ego
    rays = camera_path.camera.pixel_rays(dtype=torch.float64)[0]
    for frame in (0, 4):
        w2c = camera_path.at(frame)
        depth = (take.exo_depth_m if which == "exo" else take.ego_depth_m)[frame].double()
        solid_indices = (
            (take.exo_index if which == "exo" else take.ego_index)[frame].long().reshape(-1)
        )
        points = (rays / rays[..., 2:] * depth[..., None]).reshape(-1, 3)
        points = points @ w2c[:, :3] + camera_centre(w2c)
        for solid_index in solid_indices.unique().tolist():
            solid = take.scene.solids[solid_index]
            pose = take.scene.world_from_solid[frame, solid_index].double()
            local_points = (points[solid_indices == solid_index] - pose[:, 3]) @ pose[:, :3]
            # 1e-4 m: float32 rays of up to 7 m; a grazed sphere turns them into a tenth of a
            # millimetre at most.
            assert distance(solid.kind, solid.size, local_points).max() < 3e-4
            shrunk_solid = replace(solid, size=tuple(max(s - 5e-3, 0.0) for s in solid.size))
            assert (
                distance(shrunk_solid.kind, shrunk_solid.size, local_points).min() > 1e-3
            )  # and not somewhere within it


def test_both_cameras_see_the_same_colours(take):
    """Check that surface points have the same colour in the exo and the ego picture."""
    for frame in (0, 3):
        sampled_colours, shifted_colours, true_colours = colours_in_both(take, frame)
        assert len(true_colours) > 0.05 * 128 * 128
        assert _psnr(sampled_colours, true_colours) > max(
            25, _psnr(shifted_colours, true_colours) + 4
        )


def test_no_solid_darkens_what_lies_beyond_its_slab(two_frame_take, monkeypatch):
    """Check that colours are the same if every neighbour is asked about every hit."""
    thin_slabs = shading._thin_slabs

    def endless_slabs(scene) -> tuple[torch.Tensor, ...]:
        directions, offsets_m, reach_m = thin_slabs(scene)
        return directions, offsets_m, torch.full_like(reach_m, torch.inf)

    monkeypatch.setattr(shading, "_thin_slabs", endless_slabs)
    take = make_take(TWO_FRAME_SPEC)
    assert torch.equal(take.exo_rgb, two_frame_take.exo_rgb)
    assert torch.equal(take.ego_rgb, two_frame_take.ego_rgb)


def test_equal_specs_give_equal_takes(two_frame_take):
    """Check that equal specifications give equal takes."""
    thread_count = torch.get_num_threads()
    repeated_take = make_take(TWO_FRAME_SPEC)
    torch.set_num_threads(2)
    try:
        threaded_take = make_take(TWO_FRAME_SPEC)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(thread_count)
    for name in "exo_rgb ego_rgb exo_depth_m ego_depth_m exo_index ego_index".split():
        assert torch.equal(getattr(two_frame_take, name), getattr(repeated_take, name)), name
    assert (
        repeated_take.exo == two_frame_take.exo == threaded_take.exo
        and repeated_take.ego == two_frame_take.ego == threaded_take.ego
    )
    changed_pixels = (threaded_take.exo_rgb.int() - two_frame_take.exo_rgb.int()).abs() > 1
    assert changed_pixels.float().mean() < 1e-3
    other_take = make_take(replace(TWO_FRAME_SPEC, seed=4, frames=1))
    assert not torch.equal(other_take.exo_rgb[0], two_frame_take.exo_rgb[0])


HANDHELD = [
    ("shake", {"exo_motion": 0.03, "exo_turn_deg": 3.0}, (0.01, 0.15), (1, 12)),
    ("pan", {"exo_turn_deg": 40.0}, (0.0, 1e-6), (39, 41)),
    ("dolly", {"exo_motion": 1.0}, (0.9, 1.1), (0, 6)),
    ("walk-around", {"exo_turn_deg": 40.0}, (0.9, 2.3), (36, 45)),
]


@pytest.mark.parametrize("path, size, metres, degrees", HANDHELD, ids=lambda v: str(v)[:12])
def test_handheld_exo_camera_moves_as_specified(path, size, metres, degrees):
    spec = replace(TWO_FRAME_SPEC, exo_path=path, frames=5, fps=2.0, **size)
    poses = draw_layout(spec).scene.exo.w2c
    farthest_m = (camera_centre(poses) - camera_centre(poses[:1])).norm(dim=-1).max()
    rotations = Rotation.from_matrix((poses[:, :, :3] @ poses[0, :, :3].T).numpy())
    largest_angle_deg = np.degrees(rotations.magnitude().max())
    assert metres[0] <= farthest_m <= metres[1] and degrees[0] <= largest_angle_deg <= degrees[1]


def test_wrong_specs_are_refused():
    for wrong_fields in (
        {"frames": 0},
        {"exo_width": 8},
        {"texture": "marble"},
        {"edge_samples": 0},
        {"exo_motion": 1.1},
        {"object_scale": 9.0},
        {"exo_views": 5},
    ):
        with refuses("expected .*Fix"):
            SyntheticSpec(**wrong_fields)


def test_written_take_is_read_back(take, tmp_path):
    write_take(take, tmp_path / "take")
    loaded_take = load_take(tmp_path / "take", frame_count=5)
    assert loaded_take.notes.prompt == take.prompt
    assert loaded_take.trajectory.ego.camera == take.ego.camera  # the exact lens, not a preset
    assert torch.allclose(loaded_take.trajectory.ego.w2c, take.ego.w2c, atol=1e-6)
    assert torch.allclose(loaded_take.depth.exo.pose, take.exo.pose, atol=1e-6)
    assert torch.equal(loaded_take.depth.depth_m, take.exo_depth_m.half().float())
    assert torch.equal(loaded_take.depth.dynamic, take.exo_dynamic)
    assert loaded_take.hands is not None and loaded_take.hands.valid.all()
    assert torch.allclose(loaded_take.hands.joints, take.hands.joints, atol=1e-6)
    for name in ("fx", "fy", "cx", "cy", "width", "height"):
        exact_camera, read_value = (
            getattr(c, name) for c in (take.exo.camera, loaded_take.depth.exo.camera)
        )
        assert read_value == pytest.approx(exact_camera, abs=1e-6)
    assert (
        _psnr(loaded_take.read_exo().float() / 255, take.exo_frames()) > 28
    )  # 4:2:0 and a lossy codec
    with np.load(tmp_path / "take" / "depth.npz", allow_pickle=False) as arrays:
        assert arrays["depth_m"].dtype == np.float16 and arrays["dynamic"].dtype == bool
    with zipfile.ZipFile(tmp_path / "take" / "depth.npz") as archive:
        compressed_bytes = sum(member.compress_size for member in archive.infolist())
    assert compressed_bytes < 0.3 * 2 * take.exo_depth_m.numel()


def test_exo_cameras_share_scene_and_truth(two_frame_take, tmp_path):
    """Check that takes with one, two and four exo cameras agree in the cameras and the ego video
    that they share."""
    four_view_take = make_take(replace(TWO_FRAME_SPEC, exo_views=4))
    for name in "exo_rgb exo_depth_m exo_index ego_rgb ego_depth_m".split():
        assert torch.equal(getattr(four_view_take, name), getattr(two_frame_take, name)), name
    assert four_view_take.exo == two_frame_take.exo and four_view_take.ego == two_frame_take.ego
    assert (
        two_frame_take.views == (two_frame_take,)
        and len(four_view_take.views) == 4
        and four_view_take.prompt == two_frame_take.prompt
    )
    two_view_take = make_take(replace(TWO_FRAME_SPEC, exo_views=2, frames=1))
    assert torch.equal(two_view_take.further[0].exo.w2c, four_view_take.further[0].exo.w2c)
    for view in four_view_take.further:
        assert view.ego_rgb is four_view_take.ego_rgb and view.trajectory().exo == view.exo
        sampled_colours, _, true_colours = colours_in_both(view, 1)
        assert _psnr(sampled_colours, true_colours) > 25
    write_take(four_view_take, tmp_path)
    folders = sorted(tmp_path.iterdir())
    assert [folder.name for folder in folders] == ["exo1", "exo2", "exo3", "exo4"]
    assert len({(folder / "ego_ground_truth.mp4").read_bytes() for folder in folders}) == 1
    for folder, view in zip(folders, four_view_take.views, strict=True):
        loaded_take = load_take(folder, frame_count=1)
        assert torch.allclose(loaded_take.depth.exo.pose, view.exo.pose, atol=1e-6)
        assert torch.equal(loaded_take.depth.depth_m, view.exo_depth_m[:1].half().float())


def test_the_shipped_sample_is_a_full_take(repo_root):
    folder = repo_root / "sample" / "synthetic_room"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    loaded_take = load_take(folder)
    assert loaded_take.depth.depth_m.shape == (
        49,
        448,
        784,
    ) and loaded_take.trajectory.ego.w2c.shape == (
        49,
        3,
        4,
    )
    meta_content = read_json(folder / "meta.json")
    assert (
        meta_content["ego_camera"]["quarter_turns"] == 1 and "[Ego view]" in meta_content["prompt"]
    )
    # The poses drawn from the sample's seed are the ones in the file: the script still makes this
    # sample.
    scene_layout = draw_layout(SyntheticSpec(seed=44, texture="soft"))
    assert np.allclose(
        meta_content["ego_extrinsics"], scene_layout.scene.ego.w2c.numpy(), atol=1e-6
    )
    assert np.allclose(
        meta_content["camera_extrinsics"], scene_layout.scene.exo.pose.numpy(), atol=1e-6
    )
