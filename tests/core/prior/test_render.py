"""Test the rendered ego prior: positions, frames, colours, options and refused input."""

from dataclasses import replace

import pytest
import torch

from egox_core import stages
from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, look_at
from egox_core.prior import gaussians, render
from egox_core.prior.options import PRIOR_PRESETS, PriorOptions, prior_preset
from egox_core.prior.render import iter_ego_prior, render_ego_prior
from egox_core.prior.splat_points import SplatOptions
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from egox_core.scene.gaussians import SIGMA_STEPS
from egox_core.types import CameraTrajectory, PointCloud, PointSet, of_frames
from lab.drawn import SyntheticSpec, covisible, make_take
from tests.poses import make_path, still_poses
from tests.refusals import refuses

SMALL_TAKE = SyntheticSpec(
    seed=2, frames=3, fps=2.0, exo_width=224, exo_height=128, ego_size=128, edge_samples=1
)


@pytest.fixture(scope="module")
def take():
    return make_take(SMALL_TAKE)


@pytest.fixture(scope="module")
def scene(take):
    return build_scene(take.exo_rgb, take.depth_video())


def make_points(xyz: list[list[float]], grey: int = 200) -> PointSet:
    point_count = len(xyz)
    return PointSet(
        xyz=torch.tensor(xyz),
        rgb=torch.full((point_count, 3), grey, dtype=torch.uint8),
        steps=0.06 * torch.eye(3)[None, :, :2].repeat(point_count, 1, 1),
        instance=torch.zeros(point_count, dtype=torch.int16),
        coarse=torch.ones(point_count, dtype=torch.bool),
        **dict.fromkeys(("edge", "stray", "depth_range"), torch.zeros(point_count)),
    )


def make_cloud(points: PointSet, frames: int = 1, frame: str = "exo") -> PointCloud:
    return PointCloud(
        static=points,
        moving=[PointSet.empty()] * frames,
        exo=CameraPath.of_exo(
            CameraModel.pinhole(64, 48, 50.0), still_poses(1)[0] if frame == "world" else None
        ),
    )


FISHEYE = CameraModel(
    lens="opencv_fisheye",
    width=96,
    height=96,
    fx=43.0,
    fy=43.0,
    cx=48.0,
    cy=47.0,
    distortion=(0.05, 0.01, 0.0, 0.0),
    quarter_turns=1,
)
EGO_CAMERAS = [
    FISHEYE,
    replace(FISHEYE, quarter_turns=3),
    replace(
        FISHEYE, lens="aria_fisheye", distortion=(0.02, 0.01, 0, 0, 0, 0, 1e-3, 0, 0, 0, 0, 1e-3)
    ),
    CameraModel.pinhole(96, 80, 60.0),
]


@pytest.mark.parametrize("camera", EGO_CAMERAS)
@pytest.mark.parametrize("preset", list(PRIOR_PRESETS))
def test_point_is_drawn_where_the_lens_projects_it(camera, preset, device):
    point_xyz = [0.3, -0.2, 1.2]
    options = replace(prior_preset(preset), device=str(device))
    prior = render_ego_prior(
        make_cloud(make_points([point_xyz])), make_path(still_poses(1), camera), options
    )
    expected_uv, _ = camera.project(torch.tensor([point_xyz]))
    drawn_centre = prior.coverage[0].nonzero().float().mean(0).flip(0)
    assert (drawn_centre - expected_uv[0]).abs().max() < 0.8
    assert float(prior.depth_m[0][prior.coverage[0]].mean()) == pytest.approx(1.2, rel=0.03)
    assert torch.equal(torch.isnan(prior.depth_m), ~prior.coverage)
    assert not prior.rgb[~prior.coverage].any()


@pytest.fixture(scope="module")
def large_frame():
    """Draw one frame at a quarter of the released size, and find which ego pixels exo sees."""
    sizes = {"exo_width": 392, "exo_height": 224, "ego_size": 224, "edge_samples": 1}
    take = make_take(SyntheticSpec(seed=5, frames=1, **sizes))
    return take, build_scene(take.exo_rgb, take.depth_video()), covisible(take, 0)


@pytest.mark.parametrize(("preset", "min_psnr_db"), [("clean", 30.0), ("released", 21.5)])
def test_prior_agrees_with_the_drawn_ego_video(large_frame, preset, min_psnr_db):
    """Check that the rendered prior is close to the true ego video."""
    take, scene, covisible_masks = large_frame
    prior = render_ego_prior(
        scene, take.trajectory(), replace(prior_preset(preset), dynamic="keep")
    )
    compared_mask = covisible_masks.static & prior.coverage[0]
    error = (prior.rgb - take.ego_rgb.float() / 255)[0, compared_mask].square().mean()
    assert -10 * error.log10() >= min_psnr_db
    assert prior.coverage[0, covisible_masks.visible].float().mean() >= 0.95


@pytest.fixture(scope="module")
def full_prior(take, scene):
    return render_ego_prior(scene, take.trajectory())


def test_frames_are_rendered_one_by_one(take, scene, full_prior):
    progress_calls: list[tuple[int, int]] = []
    first_frame = next(
        iter_ego_prior(
            scene,
            take.trajectory(),
            progress=lambda done, total, stage: progress_calls.append((done, total)),
        )
    )
    assert progress_calls == [(0, 3)], "nothing is rendered ahead"
    assert torch.equal(first_frame.coverage, full_prior.coverage[0])
    # Sums of weights may be added in another order from run to run.
    assert torch.allclose(first_frame.rgb, full_prior.rgb[0], atol=1e-5)


def test_dynamic_options_leave_out_head_or_wearer(take, scene):
    path = take.trajectory()
    options = replace(prior_preset("clean"), supersample=1)
    kept_pixels, headless_pixels, bodyless_pixels, static_pixels = (
        next(iter_ego_prior(scene, path, replace(options, dynamic=dynamic_option))).coverage.sum()
        for dynamic_option in ("keep", "without head", "without wearer", "leave out")
    )
    assert kept_pixels >= headless_pixels > bodyless_pixels >= static_pixels
    ego_centre = camera_centre(path.ego.w2c[0]).float()
    moving_points = scene.moving[0]
    head_mask = (moving_points.xyz - ego_centre).norm(dim=-1) < 0.25
    assert bool(head_mask.any()), "the exo camera sees the head"
    head_scene = make_cloud(moving_points.select(head_mask), frame="world")
    assert not render_ego_prior(
        head_scene, of_frames(path, slice(1)), replace(options, dynamic="without head")
    ).coverage.any()


def test_filter_that_removes_most_points_is_remarked(take):
    """Check that the released preset, which draws nothing of noisy depth, gives a remark."""
    depth = take.depth_video()
    noise = torch.randn(depth.depth_m.shape, generator=torch.Generator().manual_seed(0))
    noisy_scene = build_scene(
        take.exo_rgb, replace(depth, depth_m=depth.depth_m * (1 + 0.05 * noise))
    )
    path = take.trajectory()
    for drawn_scene, preset, is_remarked in (
        (noisy_scene, "released", True),
        (noisy_scene, "clean", False),
    ):
        _, report = stages.prior(drawn_scene, path, preset=preset, draw_anyway=True)
        assert any("it is noisy" in warning for warning in report.warnings()) is is_remarked


def test_scene_scale_draws_a_small_scene_at_its_true_size(take, scene, full_prior):
    small_ego, small_exo = (
        replace(small_path, w2c=small_path.w2c * small_path.w2c.new_tensor([1, 1, 1, 0.1]))
        for small_path in (take.trajectory().ego, take.exo)
    )
    depth = replace(take.depth_video(), depth_m=0.1 * take.exo_depth_m, exo=small_exo)
    small_path = CameraTrajectory(ego=small_ego, exo=small_exo)
    small_scene = build_scene(take.exo_rgb, depth)
    for scene_scale, min_coverage, is_remarked in ((None, 0.5, True), (0.1, 0.99, False)):
        prior, report = stages.prior(
            small_scene,
            small_path,
            "clean",
            scene_scale=scene_scale,
            draw_anyway=True,
            device="cpu",
        )
        assert any("scene_scale" in warning for warning in report.warnings()) is is_remarked
        assert (
            float(prior.coverage.sum() / full_prior.coverage.sum()) > min_coverage
        ) is not is_remarked
    with refuses("scene_scale: got 0"):
        stages.prior(small_scene, small_path, "clean", scene_scale=0.0)


def test_near_bound_is_a_distance_not_a_z_depth():
    """Check that a point at 0.25 m is drawn though its z depth is only 4 cm."""
    lens = replace(FISHEYE, distortion=(), fx=30.0, fy=30.0, quarter_turns=0)
    shoulder_point = make_points([[0.246, 0.0, 0.043]])
    shoulder_point = replace(shoulder_point, steps=0.03 * torch.eye(3)[None, :, 1:])
    assert render_ego_prior(
        make_cloud(shoulder_point), make_path(still_poses(1), lens)
    ).coverage.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(w2c=still_poses(1)), "1 poses for 3 frames"),
        (
            dict(w2c=torch.diag(torch.tensor([1.0, 1, -1, 1]))[:3].double().repeat(3, 1, 1)),
            "reflection",
        ),
        (
            dict(
                exo_w2c=still_poses(3) + torch.eye(4).double()[3] * torch.arange(3.0)[:, None, None]
            ),
            "moving exo camera",
        ),
        (dict(exo_w2c=torch.zeros(3, 4, dtype=torch.float64)), "rotation"),
    ],
)
def test_bad_poses_are_refused_before_rendering(change, message):
    scene = make_cloud(make_points([[0.0, 0.0, 2.0]]), frames=3)
    path = make_path(**{"w2c": still_poses(3), "camera": EGO_CAMERAS[-1], "fps": 30.0} | change)
    with refuses(message):
        iter_ego_prior(scene, path)


def test_an_empty_cloud_and_singular_intrinsics_are_refused():
    with refuses("without points"):
        iter_ego_prior(make_cloud(PointSet.empty()), make_path(still_poses(1), EGO_CAMERAS[-1]))
    with refuses("positive focal"):
        replace(EGO_CAMERAS[-1], fx=0.0)


@pytest.mark.parametrize(
    "option_name", ["dynamic", "device", "static", "hidden_lines", "style", "prior preset"]
)
def test_bad_options_are_refused(option_name):
    with refuses(option_name.partition("_")[0]):
        if option_name == "prior preset":
            prior_preset("best")
        (SplatOptions if option_name == "style" else PriorOptions)(**{option_name: "other"})


def test_released_presets_draw_the_mean_background(take, scene):
    """Check that both released presets draw the mean background, and only the wild one moving
    points."""
    path, mean_points = take.trajectory(), scene.mean_static()
    red_points = replace(
        mean_points, rgb=torch.tensor([[255, 0, 0]], dtype=torch.uint8).expand(len(mean_points), 3)
    )
    red_scene = replace(scene, mean_static=lambda progress: red_points)
    for preset in PRIOR_PRESETS:
        frame = next(
            iter_ego_prior(red_scene, path, replace(prior_preset(preset), dynamic="leave out"))
        )
        covered_pixels = frame.rgb[frame.coverage]
        assert (float(covered_pixels[:, 1:].max()) < 1e-3) == preset.startswith("released"), preset
    released_frame, wild_frame = (
        next(iter_ego_prior(red_scene, path, prior_preset(preset_name)))
        for preset_name in ("released", "released_wild")
    )
    moving_mask = wild_frame.rgb[..., 1] > 0.05
    assert bool(moving_mask.any())
    assert float(released_frame.rgb[..., 1].max()) < 1e-3


def test_exact_preset_leaves_out_exo_pixels_of_the_head(take, scene):
    """Check that the exact preset never draws exo pixels of the wearer's head, also in fused
    scenes."""
    path = of_frames(take.trajectory(), slice(1))
    exo_centre, ego_centre = (camera_centre(w2c) for w2c in (take.exo.pose, path.ego.w2c[0]))
    head_points = scene.moving[0]
    head_points = head_points.select((head_points.xyz - ego_centre.float()).norm(dim=-1) < 0.12)
    assert len(head_points) > 20
    stretched_head = replace(
        head_points, xyz=(exo_centre + 1.5 * (head_points.xyz.double() - exo_centre)).float()
    )  # half as far again, on the same pixels

    first_scene = replace(
        scene, static=PointSet.empty(), moving=[stretched_head], exo=scene.exo.select(slice(1))
    )
    other_exo_w2c = compose(
        take.exo.pose, look_at((3.0, 3.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    )
    second_scene = replace(first_scene, exo=replace(first_scene.exo, w2c=other_exo_w2c))
    clean_count = len(visible_points(first_scene, path, prior_preset("clean")))
    assert clean_count > 0.9 * len(stretched_head)
    for head_scene, expected_point_count in (
        (first_scene, 0),
        (fuse_scenes([first_scene, first_scene]), 0),
        (fuse_scenes([first_scene, second_scene]), clean_count),
    ):
        head_count = len(visible_points(head_scene, path, prior_preset("exact")))
        assert head_count == expected_point_count


def visible_points(scene: PointCloud, path: CameraTrajectory, options: PriorOptions) -> PointSet:
    """List the points of a scene that are drawn in its first frame."""
    return render.visible_points(
        scene.static, scene, 0, path.ego.w2c[0], path.ego.camera.quarter_turns, options
    )


OUT_OF_MEMORY = torch.OutOfMemoryError("Memory is full. Tried to allocate 2 GiB")


def exhaust_device_memory(monkeypatch, error: Exception = OUT_OF_MEMORY):
    """Make torch raise an out-of-memory error when points are moved to the device "meta"."""
    original_to = PointSet.to

    def raise_for_meta(points: PointSet, device: torch.device) -> PointSet:
        if device.type == "meta":
            raise error
        return original_to(points, device)

    monkeypatch.setattr(PointSet, "to", raise_for_meta)


def test_prior_is_drawn_on_the_cpu_when_the_device_fails(scene, take, monkeypatch):
    """Check that the prior is drawn on the CPU if the GPU is full or lacks float64."""
    memory_error = "CUDA error: out of memory"
    exhaust_device_memory(
        monkeypatch, getattr(torch, "AcceleratorError", RuntimeError)(memory_error)
    )
    (cpu_prior, cpu_report), *other_results = (
        stages.prior(scene, take.trajectory(), "clean", device=device_name)
        for device_name in ("cpu", "meta", "mps")
    )
    for (prior, report), expected_text in zip(
        other_results, (f"meta: {memory_error}", "mps: "), strict=True
    ):
        assert torch.equal(prior.rgb, cpu_prior.rgb) and torch.equal(
            prior.coverage, cpu_prior.coverage
        )
        assert f"on the CPU, not on {expected_text}" in report.warnings()[-1]
    assert not cpu_report.warnings()


# The step of .06 m at 4 m is 3.4, 8.4 and 33.6 px of a picture of the reference height. In the
# prior, gaps of 4 px are filled, and a patch of over 20 px is cut.
@pytest.mark.parametrize(("focal_px", "part_count"), [(40.0, 1), (100.0, 3), (400.0, 5)])
def test_no_gaussian_is_coarser_than_the_gaps_that_are_filled(focal_px, part_count):
    camera = CameraModel.pinhole(96, 80, focal_px)
    scene = make_cloud(make_points([[0.0, 0.0, 4.0]]))
    (gaussian_set,) = gaussians.iter_ego_gaussians(scene, make_path(still_poses(1), camera))
    assert len(gaussian_set) == part_count**2
    part_m = 0.06 / part_count
    sigma_m = SIGMA_STEPS * part_m
    assert torch.allclose(gaussian_set.scales[:, :2], torch.full((part_count**2, 2), sigma_m))
    parts_m = (torch.arange(part_count) - (part_count - 1) / 2) * part_m
    expected_xy = torch.cartesian_prod(parts_m, parts_m).flip(-1)
    assert torch.allclose(gaussian_set.positions[:, :2], expected_xy, atol=1e-6)
