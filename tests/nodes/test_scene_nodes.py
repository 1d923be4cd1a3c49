"""Build Scene, Render Ego Prior and Scene to Point Cloud as the host calls them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.poses import with_ego
from tests.refusals import refuses
from tools.rigs.model_rig import node_defaults


@pytest.fixture(scope="module")
def take(pack):
    from egox_pack.lab.drawn import SyntheticSpec, make_take

    return make_take(
        SyntheticSpec(
            seed=3, frames=5, fps=4.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
        )
    )


@pytest.fixture(scope="module")
def scene(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    return EgoXBuildScene.execute(take.exo_frames(), take.depth_video(), "auto").args[0]


def render(take, **changes):
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    inputs = dict(trajectory=take.trajectory(), preset="clean", dynamic="preset")
    return EgoXRenderEgoPrior.execute(**{**inputs, **changes}).args


@pytest.mark.parametrize("preset", ["released", "released_wild", "clean", "exact"])
def test_render(take, scene, preset):
    from egox_pack.egox_core.prior.options import prior_preset
    from egox_pack.egox_core.prior.render import render_ego_prior

    prior, coverage, preview, depth, *masks = render(take, scene=scene, preset=preset)
    assert prior.shape == preview.shape == (5, 64, 64, 3) and coverage.shape == (5, 64, 64)
    expected = render_ego_prior(scene, take.trajectory(), prior_preset(preset))
    assert torch.equal(coverage.bool(), expected.coverage) and torch.allclose(
        prior, expected.rgb, atol=1e-5
    )
    nothing, doubtful, earlier = masks
    assert torch.equal(nothing, 1 - coverage) and not (doubtful * earlier).any()
    assert 0 < float(doubtful.sum()) < float((coverage - doubtful - earlier).sum())
    assert depth.kind == "metric z" and depth.exo.camera.stored_size == (64, 64)
    assert torch.equal(depth.valid, expected.coverage)
    truth = take.ego_depth_m[2]
    both = depth.valid[2] & torch.isfinite(truth)
    assert float(((depth.depth_m[2] / truth)[both] - 1).abs().median()) < 0.05


def test_hidden_lines_follow_the_lora(pack, take, scene):
    """Whoever changes the LoRA's strength waits for no second drawing."""
    from comfy.model_patcher import ModelPatcher
    from egox_pack.nodes.patch.lora_metadata import attach_lora_metadata

    def model(**metadata):
        patcher = ModelPatcher(torch.nn.Linear(1, 1), torch.device("cpu"), torch.device("cpu"))
        attach_lora_metadata(patcher, metadata)
        return patcher

    inputs = {"scene": scene, "trajectory": take.trajectory(), "preset": "exact"}
    drawn_prior, left = render(take, **inputs), render(take, **inputs, hidden_lines="leave out")
    assert float((drawn_prior[1] - left[1]).sum()) == float(drawn_prior[5].sum()) > 0
    follows = render(take, **inputs, model=model(**{"egox.hidden_lines": "leave out"}))
    assert follows[0] is left[0]
    assert torch.equal(render(take, **inputs, model=model())[1], drawn_prior[1])


def test_the_host_says_where_to_draw(take, scene, monkeypatch):
    """Here on a device that this machine lacks, as a Mac's has no float64."""
    import comfy.model_management
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    inputs = (take.trajectory(), "clean", "preset", scene)
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("mps"))
    assert "drawn on the CPU, not on mps" in str(EgoXRenderEgoPrior.execute(*inputs).ui)


def test_images_and_depth_do_instead_of_a_scene(take, scene):

    direct = render(take, exo_images=take.exo_frames(), depth=take.depth_video())
    assert torch.equal(direct[1], render(take, scene=scene)[1])
    with refuses("neither a scene"):
        render(take, exo_images=take.exo_frames())


def test_what_was_drawn_is_drawn_once(take, scene, monkeypatch):
    """The prior's pictures lead to scene and path. Decode Ego Half looks at them once per path."""
    from egox_pack.nodes.host.remember import DRAWN_FROM
    from egox_pack.nodes.show import judgement

    path = take.trajectory()
    prior = render(take, scene=scene, trajectory=path)[0]
    assert DRAWN_FROM[prior]["scene"] is scene
    assert DRAWN_FROM[prior]["trajectory"].ego is path.ego, "with the scene's own exo camera"
    drawn, draw = [], judgement.PathViews.of
    monkeypatch.setattr(judgement.PathViews, "of", lambda *a, **k: drawn.append(1) or draw(*a, **k))
    first, again = (judgement.followed_path(prior * gain, scene, path)[0] for gain in (1.0, 0.5))
    assert drawn == [1] and first.text().startswith("The view is") and again.step == 1


def test_frames_of_the_depths_shape_are_resized(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    half = take.exo_frames()[:, ::2, ::2]
    scene = EgoXBuildScene.execute(half, take.depth_video(), "auto").args[0]
    assert scene.exo.camera.stored_size == (128, 64)


def test_depth_of_another_take_and_a_head_in_a_wrong_place_have_a_badge(take, scene, wordless):
    from egox_pack.egox_core.scene.own_take import WARNING
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    path = take.trajectory()
    for notes, badge in (((), None), ((WARNING,), "strangeDepth")):
        output = EgoXRenderEgoPrior.execute(path, "clean", "preset", replace(scene, notes=notes))
        preview = output.ui["egox_preview"][0]
        assert preview["badge"] == badge and all(note.text in preview["text"] for note in notes)
    lost = with_ego(path, w2c=path.ego.w2c * torch.tensor([1.0, 1, 1, 99]))
    output = EgoXRenderEgoPrior.execute(lost, "clean", "preset", scene)
    assert output.ui["egox_preview"][0]["badge"] == "strangePlace"


def test_viewers_see_what_the_ego_camera_sees(take, scene, read_ply):
    """In the host's axes: y up, cameras look along -z."""
    from egox_pack.nodes.ego_pose import EgoXEgoPoseInput
    from egox_pack.nodes.scene import EgoXBuildScene

    path, flip = take.trajectory(), np.array([1, -1, -1])
    file = EgoXBuildScene.execute(take.exo_frames(), take.depth_video(), "auto").args[1]
    xyz, _ = read_ply(file.get_data())
    values = {**node_defaults(EgoXEgoPoseInput), "base": path}
    viewer = EgoXEgoPoseInput.execute(**values).args[2]
    place, target, turn = (
        np.array(list(viewer[name].values())) for name in ("position", "target", "quaternion")
    )
    local = Rotation.from_quat(turn).inv().apply(xyz - place) * flip
    w2c = path.ego.upright_w2c[0].numpy()
    points = np.concatenate([scene.static.xyz.numpy(), scene.moving[0].xyz.numpy()])
    np.testing.assert_allclose(local, points @ w2c[:, :3].T + w2c[:, 3], atol=1e-4)
    np.testing.assert_allclose(Rotation.from_quat(turn).apply([0, 0, -1]), target - place)


def test_host_masks_stand_in_for_the_depths_own(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    nothing = torch.zeros(1, 64, 64)  # what the host's loaders give for "no mask"
    still = torch.zeros(5, 64, 128)
    still[:, :8, :8] = 1
    frames, depth = take.exo_frames(), take.depth_video()
    masked_scene = EgoXBuildScene.execute(frames, depth, "mask", dynamic_mask=nothing).args[0]
    masked = EgoXBuildScene.execute(frames, depth, "mask", dynamic_mask=still, sky_mask=still).args[
        0
    ]
    assert len(masked_scene.moving[0]) == int(
        (take.exo_dynamic[0] & torch.isfinite(take.exo_depth_m[0])).sum()
    )
    assert len(masked.moving[0]) == 0 and len(masked.static) <= 64 * 128 - 64


def test_host_renders_the_splat_like_the_prior(pack, repo_root):
    """Render Splat at the ego camera of calm_room, whose lens both draw as a pinhole."""
    import comfy_extras.nodes_gaussian_splat as host
    from egox_pack.egox_core import stages
    from egox_pack.egox_core.cameras import CameraModel
    from egox_pack.egox_core.scene import viewer_camera
    from egox_pack.egox_core.take import load_take
    from egox_pack.nodes.scene import EgoXBuildScene

    take = load_take(repo_root / "sample" / "calm_room", frame_count=1)
    scene, _, splat = EgoXBuildScene.execute(take.read_exo(), take.depth, "auto").args
    path = take.trajectory.beside(take.depth.exo)
    camera = viewer_camera(path)
    size = 448
    focal = size / 2 / math.tan(math.radians(camera["fov"]) / 2)
    middle = size / 2 - 0.5
    pinhole = CameraModel(
        lens="pinhole", width=size, height=size, fx=focal, fy=focal, cx=middle, cy=middle
    )
    ego = replace(path.ego.upright, lens=pinhole)
    prior, _ = stages.prior(scene, replace(path, ego=ego), preset="clean", draw_anyway=True)
    images, _ = host.RenderSplat.execute(
        splat, size, size, 1, 1.0, 2.0, 0.0, 0.0, "#000000", "color", camera
    ).args
    observed = prior.coverage[0]
    error = (images[0] - prior.rgb[0])[observed].square().mean()
    assert -10 * math.log10(error) > 29


def test_splat_has_an_item_per_frame(take, scene):
    from egox_pack.nodes.scene_splat import SceneSplat

    splat = SceneSplat(scene)
    assert "sh" not in vars(splat), "nothing is made before a node reads it"
    moving = [len(scene.moving[frame]) for frame in range(5)]
    assert min(moving) > 0
    assert splat.counts.tolist() == [len(scene.static) + count for count in moving]
    assert splat.positions.shape == (5, int(splat.counts.max()), 3)
    last = scene.points(4)
    exo_from_scene = scene.exo.at(0).float()
    in_exo = last.xyz @ exo_from_scene[:, :3].T + exo_from_scene[:, 3]
    assert torch.allclose(splat.positions[4, : len(last)], in_exo, atol=1e-5)


def test_splat_of_a_rim_has_axes():
    """Steps that are missing, or lie along each other, as at the rim of a fisheye's image circle."""
    from egox_core.scene import gaussians

    steps = torch.tensor(
        [[[0, 0], [0, 0], [0, 0]], [[1, 2], [0, 0], [0, 0]], [[0, 1], [0, 0], [0, 0]]]
    )
    right, down = steps.float().unbind(-1)
    points = type("Points", (), {"steps": torch.stack((right, down), -1)})
    axes, sigmas = gaussians._patches(points, torch.eye(3))
    assert torch.allclose(axes @ axes.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert (sigmas > 0).all() and torch.isfinite(gaussians._quaternions(axes)).all()
