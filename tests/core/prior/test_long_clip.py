"""Test that a long clip stored in mapped files gives the same values."""

import pytest
import torch
from torch import Tensor

from egox_core import frame_store
from egox_core.cameras.path import CameraPath
from egox_core.depth.adapters import socket_sources
from egox_core.depth.roles import align_sources
from egox_core.depth.trust import with_trust
from egox_core.frames import Frames
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from lab.drawn import SyntheticSpec, SyntheticTake, make_take

FRAMES, WIDTH, HEIGHT = 5, 96, 48


@pytest.fixture(scope="module")
def take() -> SyntheticTake:
    return make_take(
        SyntheticSpec(
            seed=2, frames=FRAMES, exo_width=WIDTH, exo_height=HEIGHT, ego_size=48, edge_samples=1
        )
    )


def make_maps(take: SyntheticTake) -> dict[str, Tensor]:
    """Compute all maps of a clip, from two depth models' outputs to the ego prior."""
    depth_m = take.exo_depth_m
    small_depth = depth_m[:, ::2, ::2]
    normalized_intrinsics = torch.tensor([[0.8, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]]).expand(
        FRAMES, 3, 3
    )
    moge_payload = {
        "depth": depth_m,
        "normal": torch.zeros(1),
        "mask": depth_m < depth_m.max() * 0.95,
        "intrinsics": normalized_intrinsics,
    }
    da3_payload = {"depth": small_depth / 3, "mode": "mono", "confidence": 1 + small_depth}
    sockets = {
        "moge_geometry": moge_payload,
        "da3_geometry": da3_payload,
    }
    sky_mask = torch.zeros(FRAMES, HEIGHT // 2, WIDTH // 2)
    sky_mask[:, :2] = 1
    depth, *_ = align_sources(
        list(socket_sources(sockets)),
        frames=Frames.of_count(FRAMES),
        exo=CameraPath.of_exo(None, take.exo.pose),
        sky_mask=sky_mask,
        dynamic_mask=take.exo_dynamic.float(),
    )
    depth = with_trust(depth)
    scene = build_scene(take.exo_rgb, depth)
    prior = render_ego_prior(scene, take.trajectory(), prior_preset("clean"))
    return {
        "depth": depth.depth_m,
        "dynamic": depth.dynamic,
        "sky": depth.sky,
        "trust": depth.trust,
        "coverage": prior.coverage,
        "ego depth": prior.depth_m,
    }


def test_maps_of_a_long_clip_are_mapped_files(take, monkeypatch):
    maps_in_memory = make_maps(take)
    monkeypatch.setattr(frame_store, "MEMORY_LIMIT", 0)
    for name, mapped_values in make_maps(take).items():
        assert torch.equal(mapped_values.nan_to_num(-1), maps_in_memory[name].nan_to_num(-1)), name
        assert frame_store._mapped_pages(mapped_values) and not frame_store._mapped_pages(
            maps_in_memory[name]
        ), name
        assert float(mapped_values.float().nan_to_num(0).std()) > 0, name
