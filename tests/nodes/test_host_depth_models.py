"""Test the node Depth Align on ComfyUI's own depth models with random weights.

The real weights can't be downloaded here. ComfyUI's code reads the weights and makes the
payloads, so that their numbers can be compared with ComfyUI's own unprojection."""

import importlib
import math

import pytest
import torch

from tests.refusals import refuses
from tools.rigs.model_rig import import_core_module

FRAMES, HEIGHT, WIDTH = 2, 56, 98
BACKBONE = {
    "hidden_size": 64,
    "num_attention_heads": 1,
    "num_hidden_layers": 4,
    "layer_norm_eps": 1e-6,
    "use_swiglu_ffn": False,
}


@pytest.fixture(scope="module")
def pictures(comfy_host):
    # MoGe takes the text encoders' type, which is half precision even on a CPU, and there torch
    # can't resize in it.
    from comfy.cli_args import args

    old_setting = args.fp32_text_enc
    args.fp32_text_enc = True
    yield torch.rand(FRAMES, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    args.fp32_text_enc = old_setting


def draw_random_weights(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Fill a model with small random weights, and with ones for its norm layers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in module.named_parameters():
            is_norm = values.dim() == 1 and name.endswith("weight") or "layer_scale" in name
            values.copy_(
                torch.ones_like(values)
                if is_norm
                else 0.02 * torch.randn(values.shape, generator=generator)
            )
    return module.state_dict()


def stack_config(output_channels: int | None) -> dict:
    """Describe one of MoGe v2's convolution stacks, with five levels of 4 channels.

    The neck, without ``output_channels``, takes uv as well."""
    return {
        "dim_in": [10, 2, 2, 2, 2] if output_channels is None else [4] * 5,
        "dim_res_blocks": [4] * 5,
        "dim_out": [4] * 5 if output_channels is None else [None] * 4 + [output_channels],
        "num_res_blocks": [1] * 5,
        "resamplers": ["conv_transpose"] * 4,
        "res_block_in_norm": "none",
        "res_block_hidden_norm": "none",
    }


def make_moge_model():
    from comfy.ldm.moge.model import MoGeModel, MoGeModelV2

    model = MoGeModelV2(
        encoder={"backbone": BACKBONE, "intermediate_layers": [0, 1, 2, 3], "dim_out": 8},
        neck=stack_config(None),
        points_head=stack_config(3),
        mask_head=stack_config(1),
        scale_head={"dims": [64, 16, 1]},
        normal_head=stack_config(3),
        dtype=torch.float32,
    )
    weights = draw_random_weights(model, 1)
    weights["mask_head.output_blocks.4.bias"].fill_(3.0)  # all in the mask
    weights["scale_head.2.bias"].fill_(0.7)  # a metric scale of about 2
    return MoGeModel(weights)


@pytest.fixture(scope="module")
def moge_payload(pictures) -> dict:
    from comfy_extras.nodes_moge import MoGeInference

    options = {
        "resolution_level": 0,
        "fov_x_degrees": 60.0,
        "batch_size": 1,
        "force_projection": True,
        "apply_mask": True,
    }
    with torch.inference_mode():
        return MoGeInference.execute(make_moge_model(), pictures, **options).result[0]


def test_depth_and_camera_of_moge_v2_are_read(pack, moge_payload):
    depth = import_core_module(pack, "depth.moge").moge_depth(moge_payload).depth
    points = moge_payload["points"]
    assert depth.kind == "metric z"
    torch.testing.assert_close(depth.depth_m, moge_payload["depth"].float())
    torch.testing.assert_close(depth.depth_m, points[..., 2].float())  # z depth, no ray length
    uv, _ = depth.exo.camera.project(points[0].reshape(-1, 3).double())
    expected_pixels = torch.cartesian_prod(torch.arange(HEIGHT), torch.arange(WIDTH)).flip(1)
    assert float((uv - expected_pixels).abs().max()) < 1e-2
    assert depth.exo.camera.fx == pytest.approx(WIDTH / 2 / math.tan(math.radians(30)), rel=1e-4)


@pytest.fixture(scope="module")
def da3_model(pictures):
    """Load a small Depth Anything 3 model with ComfyUI's code."""
    import comfy.ops
    import comfy.sd
    from comfy.ldm.depth_anything_3.model import DepthAnything3Net

    network = DepthAnything3Net(
        backbone_name="vits",
        out_layers=(5, 7, 9, 11),
        head_features=32,
        head_out_channels=(16, 16, 16, 16),
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
        head_type="dualdpt",
        head_dim_in=768,
        head_output_dim=2,
        alt_start=4,
        qknorm_start=4,
        rope_start=4,
        cat_token=True,
        has_cam_dec=True,
    )
    model = comfy.sd.load_diffusion_model_state_dict(
        draw_random_weights(network, 3), model_options={"dtype": torch.float32}
    )
    assert type(model.model.diffusion_model).__name__ == "DepthAnything3Net"
    return model


@pytest.mark.parametrize("pose_method", ["cam_dec", "ray_pose"])
def test_depth_and_camera_of_depth_anything_3_are_read(pack, pictures, da3_model, pose_method):
    from comfy.ldm.depth_anything_3.preprocess import compute_target_size
    from comfy_extras.nodes_depth_anything_3 import DA3Inference

    mode = {"mode": "multiview", "ref_view_strategy": "first", "pose_method": pose_method}
    with torch.inference_mode():
        (payload,) = DA3Inference.execute(
            da3_model, pictures, 140, "upper_bound_resize", mode
        ).result
    source = import_core_module(pack, "depth.da3").da3_depth(payload)
    exo = source.depth.exo
    assert source.depth.kind == "relative z" and not exo.lens_guessed
    assert source.depth.trust.shape == payload["depth"].shape == (FRAMES, HEIGHT, WIDTH)
    assert float(source.depth.trust.min()) >= 0
    assert exo.camera.cx == (WIDTH - 1) / 2
    if pose_method == "cam_dec":  # in the pixels of the picture that the model saw
        input_height, input_width = compute_target_size(HEIGHT, WIDTH, 140)
        intrinsics = payload["intrinsics"][0].double()
        assert intrinsics[0, :2, 2].tolist() == pytest.approx([input_width / 2, input_height / 2])
        focal_px = float(intrinsics[:, 0, 0].median())
        assert exo.camera.fx == pytest.approx(focal_px * WIDTH / input_width, rel=1e-5)


def test_moge_on_a_cpu_sees_every_fourth_frame_of_a_video(pack, comfy_host, monkeypatch):
    """Check the depth of a clip, in the half precision that ComfyUI chooses on a CPU, too."""
    from comfy.cli_args import args

    monkeypatch.setattr(args, "fp32_text_enc", False)
    model = make_moge_model()
    assert (model.load_device.type, model.dtype) == ("cpu", torch.float16)
    clip = torch.rand(6, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(2))
    node = importlib.import_module(f"{pack.__name__}.nodes.moge_video").EgoXMoGeVideo
    with torch.inference_mode():
        (payload,) = node.execute(clip, model).result
        (payload_of_seen,) = node.execute(clip[4:5], model).result
    assert model.dtype == torch.float16, "the loaded model itself is as it was"
    source = import_core_module(pack, "depth.moge").moge_depth(payload)
    assert source.depth.kind == "metric z"
    assert len(source.depth.depth_m) == len(payload["intrinsics"]) == 6
    seen_depth = payload_of_seen["depth"][0]
    torch.testing.assert_close(payload["depth"][4], seen_depth)
    torch.testing.assert_close(payload["depth"][5], seen_depth)
    assert not torch.equal(payload["depth"][0], seen_depth)


def test_moge_files_of_two_projections_give_what_their_two_layers_give(pack, comfy_host, tmp_path):
    """Check a file of ViT-S's kind, which ComfyUI's loader refuses, against the network itself."""
    import folder_paths
    from comfy.ldm.moge.model import MoGeModel

    model = make_moge_model().model.float()
    model.encoder.intermediate_layers = [1, 3]
    model.encoder.output_projections = model.encoder.output_projections[:2]
    with pytest.raises(RuntimeError, match=r"output_projections\.2"):
        MoGeModel(model.state_dict())
    torch.save({"model": model.state_dict(), "model_config": {}}, tmp_path / "vits.pt")
    picture = torch.rand(1, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(3))
    moge_video = importlib.import_module(f"{pack.__name__}.nodes.moge_video")
    folder_paths.add_model_folder_path("geometry_estimation", str(tmp_path))
    try:
        loaded = moge_video._load_moge("vits.pt")
        with torch.inference_mode():
            (payload,) = moge_video.EgoXMoGeVideo.execute(picture, model_name="vits.pt").result
    finally:
        folder_paths.folder_names_and_paths["geometry_estimation"][0].remove(str(tmp_path))
    with torch.inference_mode():
        given, expected = (net.float()(picture.movedim(-1, 1), 64) for net in (loaded.model, model))
    for name in expected:
        torch.testing.assert_close(given[name], expected[name], atol=2e-3, rtol=2e-3)
    assert bool(payload["is_metric"]) and len(payload["depth"]) == 1
    with refuses("MoGe's weights"):
        moge_video.EgoXMoGeVideo.execute(picture)
