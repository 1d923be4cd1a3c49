"""Test the nodes that build and draw scenes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.poses import replace_ego
from tests.refusals import refuses
from tools.rigs.model_rig import node_defaults


@pytest.fixture(scope="module")
def take(pack):
    from egox_pack.lab.drawn import SyntheticSpec, make_take

    return make_take(
        SyntheticSpec(
            seed=3, frames=2, fps=4.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
        )
    )


@pytest.fixture(scope="module")
def scene(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    return EgoXBuildScene.execute(take.exo_frames(), take.depth_video(), "auto").args[0]


def render_prior(take, **changes):
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    inputs = dict(trajectory=take.trajectory(), preset="clean", dynamic="preset")
    return EgoXRenderEgoPrior.execute(**{**inputs, **changes}).args


def show_prior(trajectory, scene) -> dict:
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    return EgoXRenderEgoPrior.execute(trajectory, "clean", "preset", scene).ui


@pytest.mark.parametrize("preset", ["released_wild", "exact"])
def test_the_node_renders_as_the_core_does(take, scene, preset):
    from egox_pack.egox_core.prior.options import prior_preset
    from egox_pack.egox_core.prior.render import render_ego_prior

    prior, coverage, preview, depth, *class_masks, splat = render_prior(
        take, scene=scene, preset=preset
    )
    assert prior.shape == preview.shape == (2, 64, 64, 3)
    expected_prior = render_ego_prior(scene, take.trajectory(), prior_preset(preset))
    assert torch.equal(coverage.bool(), expected_prior.coverage)
    assert torch.allclose(prior, expected_prior.rgb, atol=1e-5)
    unobserved, doubtful_mask, earlier_mask = class_masks
    assert torch.equal(unobserved, 1 - coverage)
    assert not (doubtful_mask * earlier_mask).any()
    assert 0 < float(doubtful_mask.sum()) < float((coverage - doubtful_mask - earlier_mask).sum())
    assert depth.kind == "metric z" and depth.exo.camera.stored_size == (64, 64)
    assert torch.equal(depth.valid, expected_prior.coverage)
    ratio = (depth.depth_m / take.ego_depth_m)[depth.valid & torch.isfinite(take.ego_depth_m)]
    assert float((ratio - 1).abs().median()) < 0.05


def test_hidden_lines_follow_the_lora(pack, take, scene, monkeypatch):
    """Check that a changed LoRA updates the hidden lines without drawing the prior again."""
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher
    from egox_pack.nodes.patch.lora_metadata import attach_lora_metadata

    def model_with_metadata(**metadata):
        patcher = ModelPatcher(torch.nn.Linear(1, 1), torch.device("cpu"), torch.device("cpu"))
        attach_lora_metadata(patcher, metadata)
        return patcher

    inputs = {"scene": scene, "trajectory": take.trajectory(), "preset": "exact"}
    # A Mac's device lacks float64, so that the CPU draws.
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("mps"))
    drawn, left_out = (
        render_prior(take, **inputs, hidden_lines=choice) for choice in ("draw", "leave out")
    )
    assert float((drawn[1] - left_out[1]).sum()) == float(drawn[5].sum()) > 0
    model = model_with_metadata(**{"egox.hidden_lines": "leave out"})
    assert render_prior(take, **inputs, model=model)[0] is left_out[0]
    assert torch.equal(render_prior(take, **inputs, model=model_with_metadata())[1], drawn[1])


def test_views_along_a_path_are_drawn_once(take, scene, monkeypatch):
    """Check that two videos of one path share the views drawn for the comparison."""
    from egox_pack.nodes import path_views
    from egox_pack.nodes.host.remember import PRIOR_SOURCES
    from egox_pack.nodes.show import judgement

    ego_trajectory = take.trajectory()
    prior = render_prior(take, scene=scene, trajectory=ego_trajectory)[0]
    assert PRIOR_SOURCES[prior]["scene"] is scene
    assert PRIOR_SOURCES[prior]["trajectory"].ego is ego_trajectory.ego, (
        "with the scene's own exo camera"
    )
    draw_calls = []
    draw_views = path_views.PathViews.of
    monkeypatch.setattr(
        path_views.PathViews, "of", lambda *a, **k: draw_calls.append(1) or draw_views(*a, **k)
    )
    first_path, second_path = (
        judgement.measure_path_error(prior * brightness, scene, ego_trajectory)[0]
        for brightness in (1.0, 0.5)
    )
    assert (
        draw_calls == [1] and first_path.text().startswith("The view is") and second_path.step == 1
    )


def test_images_and_depth_can_replace_a_scene(take, scene):
    images = {"exo_images": take.exo_frames()}
    drawn = render_prior(take, **images, depth=take.depth_video())
    assert torch.equal(drawn[1], render_prior(take, scene=scene)[1])
    with refuses("neither a scene"):
        render_prior(take, **images)


def test_wrong_depth_and_a_misplaced_head_have_a_badge(take, scene, are_remarks_blank):
    from egox_pack.egox_core.scene.own_take import WARNING

    path = take.trajectory()
    far_path = replace_ego(path, w2c=path.ego.w2c * torch.tensor([1.0, 1, 1, 99]))
    for head_path, notes, badge in (
        (path, (), None),
        (path, (WARNING,), "strangeDepth"),
        (far_path, (), "impossiblePlace"),
    ):
        preview = show_prior(head_path, replace(scene, notes=notes))["egox_preview"][0]
        assert preview["badge"] == badge and all(note.text in preview["text"] for note in notes)


def test_facts_stand_folded_and_disputed_ones_first(take, scene):
    from egox_pack.egox_core.remarks import FactRow

    rows = (
        FactRow(fact="depth.unit", value="m", by="default"),
        FactRow(fact="ego.unit", value="cm", by="declared", others=("m (a file)",)),
    )
    ui = show_prior(replace(take.trajectory(), facts=rows[1:]), replace(scene, facts=rows))
    preview = ui["egox_preview"][0]
    facts = preview["facts"]
    assert facts["disputed"] == 1
    first_line, *other_lines = facts["text"].splitlines()
    assert first_line == "ego.unit: cm (by declared); otherwise: m (a file)"
    assert "depth.unit: m (by default)" in other_lines
    assert first_line not in preview["text"] and facts["text"] in ui["text"][0]


def test_3d_viewers_see_what_the_ego_camera_sees(take, scene, read_ply):
    """Check the camera that is passed to ComfyUI's 3-D viewers."""
    from egox_pack.nodes.ego_pose import EgoXEgoPoseInput
    from egox_pack.nodes.scene import EgoXBuildScene

    ego_trajectory = take.trajectory()
    half_frames = take.exo_frames()[:, ::2, ::2]  # are resized to the depth
    built_scene, cloud = EgoXBuildScene.execute(half_frames, take.depth_video(), "auto").args[:2]
    assert built_scene.exo.camera.stored_size == (128, 64)
    xyz, _ = read_ply(cloud.get_data())
    inputs = {**node_defaults(EgoXEgoPoseInput), "base": ego_trajectory}
    viewer_camera = EgoXEgoPoseInput.execute(**inputs).args[2]
    position, target, quaternion = (
        np.array(list(viewer_camera[name].values()))
        for name in ("position", "target", "quaternion")
    )
    rotation = Rotation.from_quat(quaternion)
    local_points = rotation.inv().apply(xyz - position) * [1, -1, -1]
    w2c = ego_trajectory.ego.upright_w2c[0].numpy()
    points = np.concatenate([scene.static.xyz.numpy(), scene.moving[0].xyz.numpy()])
    np.testing.assert_allclose(local_points, points @ w2c[:, :3].T + w2c[:, 3], atol=1e-4)
    np.testing.assert_allclose(rotation.apply([0, 0, -1]), target - position)


def test_connected_masks_replace_those_of_the_depth(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    corner_mask = torch.zeros(2, 64, 128)
    corner_mask[:, :8, :8] = 1
    empty_mask = torch.zeros(1, 64, 64)  # what the host's loaders give for "no mask"
    own_count = int((take.exo_dynamic[0] & torch.isfinite(take.exo_depth_m[0])).sum())
    for masks, moving_count in (
        ({"dynamic_mask": empty_mask}, own_count),
        ({"dynamic_mask": corner_mask, "sky_mask": corner_mask}, 0),
    ):
        built_scene = EgoXBuildScene.execute(
            take.exo_frames(), take.depth_video(), "mask", **masks
        ).args[0]
        assert len(built_scene.moving[0]) == moving_count
    assert len(built_scene.static) <= 64 * 128 - 64


@pytest.mark.parametrize(
    "sample", [pytest.param("synthetic_room", marks=pytest.mark.slow), "four_cameras/exo3"]
)
def test_comfyui_renders_the_splat_like_the_prior(pack, repo_root, sample):
    """Check that ComfyUI's Render Splat draws the same pictures as the prior, for a pinhole camera.

    In the first sample thousands of points lie beside the camera, before which Render Splat would
    stop. In the second one the wearer sees an exo pixel 8.4 px wide.
    """
    import comfy_extras.nodes_gaussian_splat as splat_nodes
    from egox_pack.egox_core import stages
    from egox_pack.egox_core.cameras import CameraModel
    from egox_pack.egox_core.scene import viewer_camera
    from egox_pack.egox_core.take import load_take
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    take = load_take(repo_root / "sample" / sample, frame_count=1)
    scene, _ = stages.scene(take.read_exo(), take.depth)
    path = take.trajectory.with_depth_camera(take.depth.exo)
    camera = viewer_camera(path)
    size_px = 448
    focal_px = size_px / 2 / math.tan(math.radians(camera["fov"]) / 2)
    ego = replace(path.ego.upright, lens=CameraModel.pinhole(size_px, size_px, focal_px))
    prior, _ = stages.prior(scene, replace(path, ego=ego), preset="clean", draw_anyway=True)
    splat = EgoXRenderEgoPrior.execute(path, "clean", "preset", scene, draw_anyway=True).args[-1]
    images, _ = splat_nodes.RenderSplat.execute(
        splat, size_px, size_px, 1, 1.0, 2.0, 0.0, 0.0, "#000000", "color", camera
    ).args
    mean_square_error = (images - prior.rgb)[prior.coverage].square().mean()
    assert -10 * math.log10(mean_square_error) > 29


def test_the_splat_has_an_item_per_frame(scene):
    from egox_pack.nodes.scene_splat import SceneSplat

    splat = SceneSplat(scene)
    assert "sh" not in vars(splat), "nothing is made before a node reads it"
    counts = [len(scene.points(frame)) for frame in range(2)]
    assert splat.counts.tolist() == counts and min(counts) > len(scene.static)
    assert splat.positions.shape == (2, max(counts), 3)
    exo_from_scene = scene.exo.at(0).float()
    points_in_exo = scene.points(1).xyz @ exo_from_scene[:, :3].T + exo_from_scene[:, 3]
    assert torch.allclose(splat.positions[1, : counts[1]], points_in_exo, atol=1e-5)


def test_a_patch_has_the_spread_of_its_steps():
    """Check an askew surface patch, and patches of a picture's rim, which have no step."""
    from egox_core.scene import gaussians

    steps = [[[3, 4], [0, 1], [0, 0]], [[0, 0]] * 3, [[0, 1], [0, 0], [0, 0]]]
    points = type("Points", (), {"steps": torch.tensor(steps).float()})
    axes, sigmas = gaussians._surface_patches(points, torch.eye(3))
    assert torch.allclose(axes @ axes.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert (sigmas > 0).all() and torch.isfinite(gaussians._quaternions(axes)).all()
    spread = axes @ torch.diag_embed((sigmas / gaussians.SIGMA_STEPS).square()) @ axes.mT
    expected = points.steps[0] @ points.steps[0].mT
    assert torch.allclose(spread[0, :2, :2], expected[:2, :2], atol=1e-4)
