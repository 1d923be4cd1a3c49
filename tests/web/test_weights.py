"""Test that JavaScript and Python compute the same attention weights from the geometry."""

import json
import math

import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.gga.bias import dense_bias
from egox_core.gga.geometry import gga_geometry
from egox_core.gga.options import GgaOptions
from egox_core.page.geometry import geometry_file, weight_legend
from egox_core.types import DepthVideo
from lab.drawn import SyntheticSpec, make_take

MODES = [
    ("released", 3.0),
    ("released", 0.5),
    ("released", 0.0),
    ("released", 25.0),
    ("paper", 2.0),
    ("power", 1.5),
    ("off", 3.0),
]


@pytest.fixture(scope="module")
def geometry():
    drawn_take = make_take(
        SyntheticSpec(seed=3, frames=9, exo_width=96, exo_height=64, ego_size=64, edge_samples=1)
    )
    depth = drawn_take.exo_depth_m.clone()
    depth[:, :20, :40] = torch.nan
    trust_map = torch.linspace(0, 1, depth.numel()).view_as(depth)
    return gga_geometry(
        DepthVideo(depth_m=depth, trust=trust_map, exo=CameraPath.of_exo(drawn_take.exo.camera)),
        drawn_take.trajectory(),
        "exact",
        frames=9,
        exo_size=(96, 64),
        ego_size=(64, 64),
    )


@pytest.mark.parametrize("soft", [False, True])
def test_the_pages_weights_equal_the_models(run_node, geometry, tmp_path, soft):
    latent_frames, h, w_exo, w_ego = geometry.grid
    cases = [
        {"at": at, "strength": {"mode": mode, "lambda": value, "soft": soft}}
        for mode, value in MODES
        for at in ([0, 0, 0], [1, 2, 3], [2, 3, 1])
    ]
    page_data = {"grid": list(geometry.grid)}
    (tmp_path / "cases.json").write_text(json.dumps({"told": page_data, "cases": cases}), "utf-8")
    (tmp_path / "geometry.bin").write_bytes(geometry_file(geometry)[0])
    answer = json.loads(
        run_node("weights.mjs", str(tmp_path / "cases.json"), str(tmp_path / "geometry.bin"))
    )
    assert answer["latents"] == [0, 1, 1, 2, 2, latent_frames - 1]
    trusted_mask = geometry.key_trust.view(latent_frames, h, w_exo + w_ego)[..., :w_exo] > 0
    assert trusted_mask.any() and not trusted_mask.all()
    for case, page_weights in zip(cases, answer["results"], strict=True):
        frame, row, column = case["at"]
        options = GgaOptions(
            mode=case["strength"]["mode"], lambda_g=case["strength"]["lambda"], soft_trust=soft
        )
        bias = dense_bias(geometry, options).view(
            latent_frames, h, w_exo + w_ego, latent_frames, h, w_exo + w_ego
        )
        expected_weights = bias[frame, row, w_exo + column, frame, :, :w_exo].exp().flatten()
        known_mask = trusted_mask[frame].flatten()
        # JSON says null where the page has no weight.
        assert [value is None for value in page_weights] == (~known_mask).tolist(), case
        page_weight_tensor = torch.tensor(
            [math.nan if value is None else value for value in page_weights]
        )
        # The bias is made in float32, whose 1 + cos has seven digits.
        assert torch.allclose(
            page_weight_tensor[known_mask], expected_weights[known_mask], rtol=1e-4, atol=1e-6
        ), case


def test_weight_1_is_in_the_middle_of_the_legend():
    position_by_label = {tick["label"]: tick["at"] for tick in weight_legend()["ticks"]}
    assert (
        position_by_label["1"] == 0.5
        and position_by_label["0"] == 0
        and position_by_label["4"] == pytest.approx(0.8)
    )
