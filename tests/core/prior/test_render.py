"""The prior has everything in the right place, the right frame and the right colours. Options and
bad input are tested."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from egox_core import stages
from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre, compose, invert, look_at
from egox_core.prior import drawing, render
from egox_core.prior.options import PRIOR_PRESETS, PriorOptions, prior_preset
from egox_core.prior.render import iter_ego_prior, render_ego_prior
from egox_core.prior.splat_points import SplatOptions
from egox_core.scene.build import build_scene
from egox_core.scene.fusion import fuse_scenes
from egox_core.scene.surface import lift
from egox_core.takes.wearer_body import meets_head
from egox_core.types import CameraTrajectory, PointCloud, PointSet, of_frames
from lab.drawn import SyntheticSpec, covisible, make_take
from tests.poses import path_of, still, with_ego, with_exo
from tests.refusals import refuses

SMALL = SyntheticSpec(seed=2, frames=5, fps=2.0, exo_width=392, exo_height=224, ego_size=224)


@pytest.fixture(scope="module")
def take():
    return make_take(SMALL)


@pytest.fixture(scope="module")
def scene(take):
    return build_scene(take.exo_rgb, take.depth_video())


def points_at(xyz: list[list[float]], grey: int = 200) -> PointSet:
    count = len(xyz)
    return PointSet(
        xyz=torch.tensor(xyz),
        rgb=torch.full((count, 3), grey, dtype=torch.uint8),
        steps=0.06 * torch.eye(3)[None, :, :2].repeat(count, 1, 1),
        instance=torch.zeros(count, dtype=torch.int16),
        coarse=torch.ones(count, dtype=torch.bool),
        **dict.fromkeys(("edge", "stray", "depth_range"), torch.zeros(count)),
    )


def cloud(points: PointSet, frames: int = 1, frame: str = "exo") -> PointCloud:
    return PointCloud(
        static=points,
        moving=[PointSet.empty()] * frames,
        exo=CameraPath.of_exo(
            CameraModel.pinhole(64, 48, 50.0), still(1)[0] if frame == "world" else None
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
CAMERAS = [
    FISHEYE,
    replace(FISHEYE, quarter_turns=3),
    replace(
        FISHEYE, lens="aria_fisheye", distortion=(0.02, 0.01, 0, 0, 0, 0, 1e-3, 0, 0, 0, 0, 1e-3)
    ),
    CameraModel.pinhole(96, 80, 60.0),
]


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("preset", list(PRIOR_PRESETS))
def test_a_point_lands_where_the_lens_puts_it(camera, preset, device):
    xyz = [0.3, -0.2, 1.2]
    options = replace(prior_preset(preset), device=str(device))
    prior = render_ego_prior(cloud(points_at([xyz])), path_of(still(1), camera), options)
    uv, _ = camera.project(torch.tensor([xyz]))
    middle = prior.coverage[0].nonzero().float().mean(0).flip(0)
    assert (middle - uv[0]).abs().max() < 0.8
    assert float(prior.depth_m[0][prior.coverage[0]].mean()) == pytest.approx(1.2, rel=0.03)
    assert torch.equal(torch.isnan(prior.depth_m), ~prior.coverage)
    assert not prior.rgb[~prior.coverage].any()


def test_the_scene_frame_decides_how_poses_are_read(take, scene):
    """World scene, exo-frame scene with and without the exo pose: the same pictures by three
    ways."""
    path = take.trajectory()
    options = replace(prior_preset("clean"), supersample=1)

    def two_frames(*how):
        return list(islice(iter_ego_prior(*how, options), 2))

    exo_scene = build_scene(take.exo_rgb, with_exo(take.depth_video(), None))
    ego_from_exo = compose(path.ego.w2c, invert(take.exo.pose))
    direct = path_of(ego_from_exo, path.ego.camera)
    others = two_frames(exo_scene, path) + two_frames(exo_scene, direct)
    for right, other in zip(two_frames(scene, path) * 2, others, strict=True):
        # float32 points in two frames round differently by some 1e-7 m: a pixel in thousands may
        # change hands.
        assert float((right.coverage != other.coverage).float().mean()) < 2e-3
        both = right.coverage & other.coverage
        assert float((right.rgb - other.rgb)[both].abs().mean()) < 2e-3


@pytest.mark.parametrize(("preset", "static_db"), [("clean", 28.0), ("released", 18.0)])
def test_the_prior_shows_what_the_ego_camera_sees(take, scene, preset, static_db):
    """A quarter of the issue's size, so textures are coarser: benchmarks/prior.py measures the bars
    at full size."""
    prior = render_ego_prior(
        scene, take.trajectory(), replace(prior_preset(preset), dynamic="keep")
    )
    masks = [covisible(take, t) for t in range(SMALL.frames)]
    where = torch.stack([each.static for each in masks]) & prior.coverage
    error = (prior.rgb - take.ego_rgb.float() / 255)[where].square().mean()
    assert -10 * error.log10() >= static_db
    assert prior.coverage[torch.stack([each.visible for each in masks])].float().mean() >= 0.95


@pytest.fixture(scope="module")
def whole(take, scene):
    return render_ego_prior(scene, take.trajectory())


def test_frames_come_one_by_one(take, scene, whole):
    progress_calls: list[tuple[int, int]] = []
    first = next(
        iter_ego_prior(
            scene,
            take.trajectory(),
            progress=lambda done, total, stage: progress_calls.append((done, total)),
        )
    )
    assert progress_calls == [(0, 5)], "nothing is rendered ahead"
    assert torch.equal(first.coverage, whole.coverage[0])
    # Sums of weights may be added in another order from run to run.
    assert torch.allclose(first.rgb, whole.rgb[0], atol=1e-5)


def test_dynamic_handling(take, scene):
    path, draw = take.trajectory(), replace(prior_preset("clean"), supersample=1)
    keep, headless, bodyless, still = (
        next(iter_ego_prior(scene, path, replace(draw, dynamic=choice))).coverage.sum()
        for choice in ("keep", "without head", "without wearer", "leave out")
    )
    assert keep >= headless > bodyless >= still
    centre = camera_centre(path.ego.w2c[0]).float()
    moving = scene.moving[0]
    head = (moving.xyz - centre).norm(dim=-1) < 0.25
    assert bool(head.any()), "the exo camera sees the head"
    only_head = cloud(moving.select(head), frame="world")
    assert not render_ego_prior(
        only_head, of_frames(path, slice(1)), replace(draw, dynamic="without head")
    ).coverage.any()


def test_a_filter_that_takes_most_points_is_named(take):
    """Depth with 5 % of noise, of which the released preset draws nothing."""
    depth = take.depth_video()
    noise = torch.randn(depth.depth_m.shape, generator=torch.Generator().manual_seed(0))
    noisy = build_scene(take.exo_rgb, replace(depth, depth_m=depth.depth_m * (1 + 0.05 * noise)))
    path = take.trajectory()
    for points, preset, named in ((noisy, "released", True), (noisy, "clean", False)):
        _, report = stages.prior(points, path, preset=preset, draw_anyway=True)
        assert any("it is noisy" in words for words in report.warnings()) is named


def test_a_toy_room_is_drawn_as_a_room_where_its_size_is_said(take, scene, whole):
    small_ego, small_exo = (
        replace(path, w2c=path.w2c * path.w2c.new_tensor([1, 1, 1, 0.1]))
        for path in (take.trajectory().ego, take.exo)
    )
    depth = replace(take.depth_video(), depth_m=0.1 * take.exo_depth_m, exo=small_exo)
    path, toy = CameraTrajectory(ego=small_ego, exo=small_exo), build_scene(take.exo_rgb, depth)
    for scale, shown, named in ((None, 0.5, True), (0.1, 0.99, False)):
        prior, report = stages.prior(
            toy, path, "clean", scene_scale=scale, draw_anyway=True, device="cpu"
        )
        assert any("scene_scale" in words for words in report.warnings()) is named
        assert (float(prior.coverage.sum() / whole.coverage.sum()) > shown) is not named
    with refuses("scene_scale: got 0"):
        stages.prior(toy, path, "clean", scene_scale=0.0)


def test_poses_that_are_not_drawn_are_counted(take, scene):
    path = take.trajectory()
    twice = path.ego.w2c.repeat(2, 1, 1)
    longer, _ = stages.path(twice, camera=path.ego.camera, exo_w2c=path.exo.pose)
    _, report = stages.prior(scene, longer, preset="clean")
    assert "the path has 10 poses, the scene 5 frames" in report.text()


def test_near_and_far(monkeypatch):
    monkeypatch.setattr(drawing, "NEAR_M", 1.0)
    scene = cloud(points_at([[0.0, 0.0, 0.5], [0.4, 0.0, 2.0], [-0.9, 0.0, 6.0]]))
    options = PriorOptions(far_m=4.0)
    prior = render_ego_prior(scene, path_of(still(1), CAMERAS[-1]), options)
    depths = prior.depth_m[prior.coverage]
    assert len(depths) > 0 and bool(((depths > 1.9) & (depths < 2.1)).all())


def test_near_is_a_distance_not_a_z_depth():
    """At 80 degrees a shoulder 0.25 m away has a z depth of 4 cm. It must not fall to the near
    bound."""
    lens = replace(FISHEYE, distortion=(), fx=30.0, fy=30.0, quarter_turns=0)
    shoulder = points_at([[0.246, 0.0, 0.043]])
    shoulder = replace(shoulder, steps=0.03 * torch.eye(3)[None, :, 1:])
    assert render_ego_prior(cloud(shoulder), path_of(still(1), lens)).coverage.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(w2c=still(1)), "1 poses for 3 frames"),
        (
            dict(w2c=torch.diag(torch.tensor([1.0, 1, -1, 1]))[:3].double().repeat(3, 1, 1)),
            "reflection",
        ),
        (
            dict(exo_w2c=still(3) + torch.eye(4).double()[3] * torch.arange(3.0)[:, None, None]),
            "moving exo camera",
        ),
        (dict(exo_w2c=torch.zeros(3, 4, dtype=torch.float64)), "rotation"),
    ],
)
def test_bad_poses_are_refused_before_rendering(change, message):
    scene = cloud(points_at([[0.0, 0.0, 2.0]]), frames=3)
    path = path_of(**{"w2c": still(3), "camera": CAMERAS[-1], "fps": 30.0} | change)
    with refuses(message):
        iter_ego_prior(scene, path)


def test_an_empty_cloud_and_singular_intrinsics_are_refused():
    with refuses("without points"):
        iter_ego_prior(cloud(PointSet.empty()), path_of(still(1), CAMERAS[-1]))
    with refuses("positive focal"):
        replace(CAMERAS[-1], fx=0.0)


@pytest.mark.parametrize(
    "name", ["dynamic", "device", "static", "hidden_lines", "style", "prior preset"]
)
def test_bad_options_are_refused(name):
    with refuses(name.partition("_")[0]):
        if name == "prior preset":
            prior_preset("best")
        (SplatOptions if name == "style" else PriorOptions)(**{name: "other"})


def test_a_smaller_picture_shows_the_same(take, scene, whole):
    path = take.trajectory()
    small = render_ego_prior(scene, with_ego(path, lens=path.ego.camera.rescale(112, 112))).coverage
    halved = whole.coverage.float().view(5, 112, 2, 112, 2).mean((2, 4)) > 0.5
    assert (small & halved).sum() > 0.93 * (small | halved).sum()


def test_released_takes_every_second_sample_each_way():
    depth, grey = torch.full((448, 20), 2.0), torch.zeros(448, 20, 3, dtype=torch.uint8)
    maps = depth, grey, depth > 0, CameraModel.pinhole(20, 448, 300.0).depth_rays()
    coarse = lift(*maps).coarse.view(448, 20)
    assert coarse[::2, ::2].all() and coarse.sum() == 224 * 10
    small = lift(*(part[:128] for part in maps))
    assert bool(small.coarse.all()), "a picture of 128 px is coarser than that already"
    assert prior_preset("released").coarse and not prior_preset("clean").coarse


def test_clean_leaves_out_the_head_that_the_camera_sits_in():
    """The face's inner side would hide everything, the ego camera being behind it."""
    wall = points_at([[x / 20, y / 20, 3.0] for x in range(-20, 21) for y in range(-20, 21)])
    head = points_at([[x / 100, y / 100, 0.12] for x in range(-5, 6) for y in range(-5, 6)], 20)
    prior = render_ego_prior(cloud(PointSet.join(head, wall)), path_of(still(1), CAMERAS[3]))
    assert bool(prior.coverage[0, 40, 48]) and float(prior.rgb[0, 40, 48].mean()) > 0.7


def test_released_draws_the_mean_background_and_the_wild_one_what_moves(take, scene):
    """Only the released presets request the mean, filtered by range. Only the wild one draws moving
    points."""
    path, mean = take.trajectory(), scene.mean_static()
    red = replace(mean, rgb=torch.tensor([[255, 0, 0]], dtype=torch.uint8).expand(len(mean), 3))
    red_scene = replace(scene, mean_static=lambda progress: red)
    for preset in PRIOR_PRESETS:
        frame = next(
            iter_ego_prior(red_scene, path, replace(prior_preset(preset), dynamic="leave out"))
        )
        covered_pixels = frame.rgb[frame.coverage]
        assert (float(covered_pixels[:, 1:].max()) < 1e-3) == preset.startswith("released"), preset
    still, wild = (
        next(iter_ego_prior(red_scene, path, prior_preset(p)))
        for p in ("released", "released_wild")
    )
    moved = wild.rgb[..., 1] > 0.05
    assert bool(moved.any()) and float(still.rgb[..., 1].max()) < 1e-3
    near_frame = next(
        iter_ego_prior(red_scene, path, replace(prior_preset("released"), max_range=1e-9))
    )
    assert float(near_frame.coverage.float().mean()) < float(still.coverage.float().mean())


def test_exact_leaves_out_what_exo_sees_of_the_head(take, scene):
    """This holds also where depth puts it behind the head. Fused scenes look from each of their
    cameras."""
    path, exact = take.trajectory(), prior_preset("exact")
    turns = path.ego.camera.quarter_turns
    exo = camera_centre(take.exo.pose)
    head = scene.moving[0]
    centre = camera_centre(path.ego.w2c[0])
    head = head.select((head.xyz - centre.float()).norm(dim=-1) < 0.12)
    assert len(head) > 20 and bool(meets_head(head.xyz, exo, path.ego.w2c[0], turns).all())
    melted = replace(
        head, xyz=(exo + 1.5 * (head.xyz.double() - exo)).float()
    )  # half as far again, on the same pixels
    assert bool(meets_head(melted.xyz, exo, path.ego.w2c[0], turns).all())
    aside = replace(head, xyz=head.xyz + torch.tensor([0.0, 0.0, 0.6]))
    assert not bool(meets_head(aside.xyz, exo, path.ego.w2c[0], turns).any())

    one = replace(scene, static=PointSet.empty(), moving=[melted], exo=scene.exo.of(slice(1)))
    aside = compose(take.exo.pose, look_at((3.0, 3.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0)))
    other = replace(one, exo=replace(one.exo, w2c=aside))
    path = of_frames(path, slice(1))
    all_but_near = len(visible_points(one, path, prior_preset("clean")))
    assert all_but_near > 0.9 * len(melted)
    for head_scene, count in (
        (one, 0),
        (fuse_scenes([one, one]), 0),
        (fuse_scenes([one, other]), all_but_near),
    ):
        assert len(visible_points(head_scene, path, exact)) == count


def visible_points(scene: PointCloud, path: CameraTrajectory, options: PriorOptions) -> PointSet:
    """Find the drawn part of the first frame."""
    return render._visible_points(
        scene.static, scene, 0, path.ego.w2c[0], path.ego.camera.quarter_turns, options
    )


CARD_FULL = torch.OutOfMemoryError("Memory is full. Tried to allocate 2 GiB")


def fill_card(monkeypatch, error: Exception = CARD_FULL):
    """Make the device "meta" run out of memory for points."""
    to = PointSet.to

    def full(points: PointSet, device: torch.device) -> PointSet:
        if device.type == "meta":
            raise error
        return to(points, device)

    monkeypatch.setattr(PointSet, "to", full)


def test_what_a_card_cannot_draw_is_drawn_on_the_cpu(scene, take, monkeypatch):
    """The card is full, or it can't be used, as a Mac's without float64."""
    full = "CUDA error: out of memory"
    fill_card(monkeypatch, getattr(torch, "AcceleratorError", RuntimeError)(full))
    (right, on_cpu), *others = (
        stages.prior(scene, take.trajectory(), "clean", device=card)
        for card in ("cpu", "meta", "mps")
    )
    for (prior, report), words in zip(others, (f"meta: {full}", "mps: "), strict=True):
        assert torch.equal(prior.rgb, right.rgb) and torch.equal(prior.coverage, right.coverage)
        assert f"the prior is drawn on the CPU, not on {words}" in report.warnings()[-1]
    assert not on_cpu.warnings()
