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
            seed=3, frames=5, fps=4.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
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


@pytest.mark.parametrize("preset", ["released", "released_wild", "clean", "exact"])
def test_the_node_renders_as_the_core_does(take, scene, preset):
    from egox_pack.egox_core.prior.options import prior_preset
    from egox_pack.egox_core.prior.render import render_ego_prior

    prior, coverage, preview, depth, *class_masks, splat = render_prior(
        take, scene=scene, preset=preset
    )
    assert prior.shape == preview.shape == (5, 64, 64, 3)
    assert coverage.shape == (5, 64, 64)
    expected_prior = render_ego_prior(scene, take.trajectory(), prior_preset(preset))
    assert torch.equal(coverage.bool(), expected_prior.coverage) and torch.allclose(
        prior, expected_prior.rgb, atol=1e-5
    )
    unobserved, doubtful_mask, earlier_mask = class_masks
    assert torch.equal(unobserved, 1 - coverage)
    assert not (doubtful_mask * earlier_mask).any()
    assert 0 < float(doubtful_mask.sum()) < float((coverage - doubtful_mask - earlier_mask).sum())
    assert depth.kind == "metric z"
    assert len(splat.counts) == 5 and 0 < int(splat.counts.min())
    assert depth.exo.camera.stored_size == (64, 64)
    assert torch.equal(depth.valid, expected_prior.coverage)
    true_depth = take.ego_depth_m[2]
    common_mask = depth.valid[2] & torch.isfinite(true_depth)
    assert float(((depth.depth_m[2] / true_depth)[common_mask] - 1).abs().median()) < 0.05


def test_hidden_lines_follow_the_lora(pack, take, scene):
    """Check that a changed LoRA updates the hidden lines without drawing the prior again."""
    from comfy.model_patcher import ModelPatcher
    from egox_pack.nodes.patch.lora_metadata import attach_lora_metadata

    def model_with_metadata(**metadata):
        patcher = ModelPatcher(torch.nn.Linear(1, 1), torch.device("cpu"), torch.device("cpu"))
        attach_lora_metadata(patcher, metadata)
        return patcher

    inputs = {"scene": scene, "trajectory": take.trajectory(), "preset": "exact"}
    drawn_prior, prior_without_hidden = (
        render_prior(take, **inputs),
        render_prior(take, **inputs, hidden_lines="leave out"),
    )
    assert (
        float((drawn_prior[1] - prior_without_hidden[1]).sum()) == float(drawn_prior[5].sum()) > 0
    )
    prior_by_lora = render_prior(
        take, **inputs, model=model_with_metadata(**{"egox.hidden_lines": "leave out"})
    )
    assert prior_by_lora[0] is prior_without_hidden[0]
    assert torch.equal(render_prior(take, **inputs, model=model_with_metadata())[1], drawn_prior[1])


def test_a_device_without_float64_leaves_drawing_to_the_cpu(take, scene, monkeypatch):
    """Check that points are drawn on the CPU if ComfyUI's device is a Mac's, which lacks
    float64."""
    import comfy.model_management
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    inputs = (take.trajectory(), "clean", "preset", scene)
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("mps"))
    assert "drawn on the CPU, not on mps" in str(EgoXRenderEgoPrior.execute(*inputs).ui)


def test_images_and_depth_can_replace_a_scene(take, scene):

    prior_of_images = render_prior(take, exo_images=take.exo_frames(), depth=take.depth_video())
    assert torch.equal(prior_of_images[1], render_prior(take, scene=scene)[1])
    with refuses("neither a scene"):
        render_prior(take, exo_images=take.exo_frames())


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


def test_frames_of_another_size_are_resized_to_the_depth(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    half_size_frames = take.exo_frames()[:, ::2, ::2]
    scene = EgoXBuildScene.execute(half_size_frames, take.depth_video(), "auto").args[0]
    assert scene.exo.camera.stored_size == (128, 64)


def test_wrong_depth_and_a_misplaced_head_have_a_badge(take, scene, are_remarks_blank):
    from egox_pack.egox_core.scene.own_take import WARNING
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    ego_trajectory = take.trajectory()
    for notes, badge in (((), None), ((WARNING,), "strangeDepth")):
        output = EgoXRenderEgoPrior.execute(
            ego_trajectory, "clean", "preset", replace(scene, notes=notes)
        )
        preview = output.ui["egox_preview"][0]
        assert preview["badge"] == badge
        assert all(note.text in preview["text"] for note in notes)
    misplaced_path = replace_ego(
        ego_trajectory, w2c=ego_trajectory.ego.w2c * torch.tensor([1.0, 1, 1, 99])
    )
    output = EgoXRenderEgoPrior.execute(misplaced_path, "clean", "preset", scene)
    assert output.ui["egox_preview"][0]["badge"] == "impossiblePlace"


def test_facts_stand_folded_and_disputed_ones_first(take, scene):
    from egox_pack.egox_core.remarks import FactRow
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    rows = (
        FactRow(fact="depth.unit", value="m", by="default"),
        FactRow(fact="ego.unit", value="cm", by="declared", others=("m (a file)",)),
    )
    output = EgoXRenderEgoPrior.execute(
        replace(take.trajectory(), facts=rows[1:]), "clean", "preset", replace(scene, facts=rows)
    )
    preview = output.ui["egox_preview"][0]
    assert preview["facts"]["disputed"] == 1
    first_line, *other_lines = preview["facts"]["text"].splitlines()
    assert first_line == "ego.unit: cm (by declared); otherwise: m (a file)"
    assert "depth.unit: m (by default)" in other_lines
    assert first_line not in preview["text"]
    assert preview["facts"]["text"] in output.ui["text"][0]


def test_3d_viewers_see_what_the_ego_camera_sees(take, scene, read_ply):
    """Check the camera that is passed to ComfyUI's 3-D viewers."""
    from egox_pack.nodes.ego_pose import EgoXEgoPoseInput
    from egox_pack.nodes.scene import EgoXBuildScene

    ego_trajectory = take.trajectory()
    axis_signs = np.array([1, -1, -1])
    point_cloud_file = EgoXBuildScene.execute(take.exo_frames(), take.depth_video(), "auto").args[1]
    xyz, _ = read_ply(point_cloud_file.get_data())
    inputs = {**node_defaults(EgoXEgoPoseInput), "base": ego_trajectory}
    viewer_camera = EgoXEgoPoseInput.execute(**inputs).args[2]
    position, target, quaternion = (
        np.array(list(viewer_camera[name].values()))
        for name in ("position", "target", "quaternion")
    )
    local_points = Rotation.from_quat(quaternion).inv().apply(xyz - position) * axis_signs
    w2c = ego_trajectory.ego.upright_w2c[0].numpy()
    points = np.concatenate([scene.static.xyz.numpy(), scene.moving[0].xyz.numpy()])
    np.testing.assert_allclose(local_points, points @ w2c[:, :3].T + w2c[:, 3], atol=1e-4)
    np.testing.assert_allclose(Rotation.from_quat(quaternion).apply([0, 0, -1]), target - position)


def test_connected_masks_replace_those_of_the_depth(take):
    from egox_pack.nodes.scene import EgoXBuildScene

    empty_mask = torch.zeros(1, 64, 64)  # what the host's loaders give for "no mask"
    corner_mask = torch.zeros(5, 64, 128)
    corner_mask[:, :8, :8] = 1
    frames, depth = take.exo_frames(), take.depth_video()
    masked_scene = EgoXBuildScene.execute(frames, depth, "mask", dynamic_mask=empty_mask).args[0]
    corner_scene = EgoXBuildScene.execute(
        frames, depth, "mask", dynamic_mask=corner_mask, sky_mask=corner_mask
    ).args[0]
    assert len(masked_scene.moving[0]) == int(
        (take.exo_dynamic[0] & torch.isfinite(take.exo_depth_m[0])).sum()
    )
    assert len(corner_scene.moving[0]) == 0
    assert len(corner_scene.static) <= 64 * 128 - 64


@pytest.mark.parametrize("sample", ["calm_room", "synthetic_room", "four_cameras/exo3"])
def test_comfyui_renders_the_splat_like_the_prior(pack, repo_root, sample):
    """Check that ComfyUI's Render Splat draws the same pictures as the prior, for a pinhole camera.

    In the second sample thousands of points lie beside the camera, before which Render Splat would
    stop. In the third one the wearer sees an exo pixel 8.4 px wide.
    """
    import comfy_extras.nodes_gaussian_splat as splat_nodes
    from egox_pack.egox_core import stages
    from egox_pack.egox_core.cameras import CameraModel
    from egox_pack.egox_core.scene import viewer_camera
    from egox_pack.egox_core.take import load_take
    from egox_pack.nodes.render_ego_prior import EgoXRenderEgoPrior

    take = load_take(repo_root / "sample" / sample, frame_count=1)
    scene, _ = stages.scene(take.read_exo(), take.depth)
    ego_trajectory = take.trajectory.with_depth_camera(take.depth.exo)
    camera = viewer_camera(ego_trajectory)
    size_px = 448
    focal_px = size_px / 2 / math.tan(math.radians(camera["fov"]) / 2)
    centre_px = size_px / 2 - 0.5
    pinhole = CameraModel(
        lens="pinhole",
        width=size_px,
        height=size_px,
        fx=focal_px,
        fy=focal_px,
        cx=centre_px,
        cy=centre_px,
    )
    ego = replace(ego_trajectory.ego.upright, lens=pinhole)
    prior, _ = stages.prior(
        scene, replace(ego_trajectory, ego=ego), preset="clean", draw_anyway=True
    )
    splat = EgoXRenderEgoPrior.execute(
        ego_trajectory, "clean", "preset", scene, draw_anyway=True
    ).args[-1]
    images, _ = splat_nodes.RenderSplat.execute(
        splat, size_px, size_px, 1, 1.0, 2.0, 0.0, 0.0, "#000000", "color", camera
    ).args
    for image, rgb, observed_mask in zip(images, prior.rgb, prior.coverage, strict=True):
        mean_square_error = (image - rgb)[observed_mask].square().mean()
        assert -10 * math.log10(mean_square_error) > 29


def test_the_splat_has_an_item_per_frame(take, scene):
    from egox_pack.nodes.scene_splat import SceneSplat

    splat = SceneSplat(scene)
    assert "sh" not in vars(splat), "nothing is made before a node reads it"
    moving_counts = [len(scene.moving[frame]) for frame in range(5)]
    assert min(moving_counts) > 0
    assert splat.counts.tolist() == [len(scene.static) + count for count in moving_counts]
    assert splat.positions.shape == (5, int(splat.counts.max()), 3)
    last_points = scene.points(4)
    exo_from_scene = scene.exo.at(0).float()
    points_in_exo = last_points.xyz @ exo_from_scene[:, :3].T + exo_from_scene[:, 3]
    assert torch.allclose(splat.positions[4, : len(last_points)], points_in_exo, atol=1e-5)


def test_gaussians_at_an_image_rim_have_valid_axes():
    """Check the axes of Gaussians at a fisheye picture's rim."""
    from egox_core.scene import gaussians

    steps = torch.tensor(
        [[[0, 0], [0, 0], [0, 0]], [[1, 2], [0, 0], [0, 0]], [[0, 1], [0, 0], [0, 0]]]
    )
    steps_right, steps_down = steps.float().unbind(-1)
    points = type("Points", (), {"steps": torch.stack((steps_right, steps_down), -1)})
    axes, sigmas = gaussians._surface_patches(points, torch.eye(3))
    assert torch.allclose(axes @ axes.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert (sigmas > 0).all()
    assert torch.isfinite(gaussians._quaternions(axes)).all()


def test_an_askew_patch_has_the_spread_of_its_steps():
    from egox_core.scene import gaussians

    steps = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]])
    points = type("Points", (), {"steps": steps})
    axes, sigmas = gaussians._surface_patches(points, torch.eye(3))
    spread = axes @ torch.diag_embed((sigmas / gaussians.SIGMA_STEPS).square()) @ axes.mT
    assert torch.allclose(spread[:, :2, :2], (steps @ steps.mT)[:, :2, :2], atol=1e-4)
