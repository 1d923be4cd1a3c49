"""Predicted ego views: rays meet the pixels that they should, views are joined whatever their
order, training goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from egox_core.cameras import CameraModel, preset_camera
from egox_core.cameras.gopro import GOPRO_DISTORTION
from egox_core.errors import EgoXInputError
from egox_core.predict.files import PREDICTOR_FILE, load_predictor
from egox_core.predict.moment import ViewMoment, read_moment, write_moment
from egox_core.predict.network import PredictorSize, ViewPredictor, walk_weights, weighted
from egox_core.predict.rays import batch_views, camera_rays, follow, project_points
from egox_core.train.checkpoints import checkpoint_folders
from egox_core.train.config import parse_config
from egox_core.train.loop import train
from egox_core.train.predicting import MomentSamples, predict_step
from lab.drawn import SyntheticSpec, SyntheticTake, covisible, make_take
from lab.drawn.gazes import draw_gazes, ego_pictures
from lab.small_model.moments import moment_of

GOPRO = CameraModel(
    lens="opencv_fisheye",
    width=480,
    height=270,
    fx=220.0,
    fy=220.0,
    cx=240.0,
    cy=135.0,
    distortion=GOPRO_DISTORTION,
    max_angle_deg=95.0,
)
SMALL = PredictorSize(exo=(16, 16, 32), ego=(16, 16, 32), bins=8, steps=6, features=4, hidden=8)


@pytest.fixture(scope="module")
def take() -> SyntheticTake:
    return make_take(
        SyntheticSpec(
            seed=11,
            frames=1,
            exo_views=4,
            exo_width=224,
            exo_height=128,
            ego_size=64,
            texture="plain",
            edge_samples=1,
        )
    )


@pytest.fixture(scope="module")
def moment(take: SyntheticTake) -> ViewMoment:
    return moment_of(take, 0, draw_gazes(np.random.default_rng(0), take.ego_w2c[0], 2))


@pytest.fixture(scope="module")
def model() -> ViewPredictor:
    """Random in its zero layers too: one that has learnt nothing would pass any test of order."""
    torch.manual_seed(3)
    made = ViewPredictor(SMALL)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


@torch.no_grad()
def picture(model: ViewPredictor, moment: ViewMoment, views: tuple[int, ...]) -> Tensor:
    return model(batch_views([moment], [views], [moment.ego_w2c[:1]]), 32, 32).rgb


def test_an_exact_ray_meets_the_exact_exo_pixel(take: SyntheticTake, moment: ViewMoment) -> None:
    batch = batch_views([moment], [range(4)], [moment.ego_w2c[:1]])
    rays = camera_rays(take.ego_camera, 64, 64, torch.device("cpu")).flatten(0, 1)
    depth = take.ego_ray_depth_m[0].flatten()
    places, told = follow(batch, [rays], depth.nan_to_num(1.0)[None, None, :, None])
    for number, view in enumerate(take.views):
        known = covisible(view, 0)
        visible = known.visible.flatten()
        assert visible.sum() > 100 and told[0, number, 0, visible, 0, 0].min() == 1
        uv = (places[0, number, 0, :, 0, :2] + 1) * torch.tensor([224.0, 128.0]) / 2 - 0.5
        assert (uv - known.exo_uv.flatten(0, 1))[visible].abs().max() < 0.01
        u, v = uv[visible].round().long().clamp_min(0).T
        same = (
            view.exo_index[0, v.clamp_max(127), u.clamp_max(223)]
            == take.ego_index[0].flatten()[visible]
        )
        assert same.float().mean() > 0.9  # the rest lies at outlines, half a pixel aside


def test_rays_of_turned_and_fisheye_cameras_come_back_to_their_pixel() -> None:
    for camera in (preset_camera("aria_released", 448), GOPRO):
        width, height = camera.stored_size
        rays = camera_rays(camera, width, height, torch.device("cpu"))[::37, ::41]
        places, seen = project_points(camera, rays * 2.5)
        columns = (2 * torch.arange(0, width, 41) + 1) / width - 1
        rows = (2 * torch.arange(0, height, 37) + 1) / height - 1
        assert seen.float().mean() > 0.6
        expected = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
        assert (places - expected)[seen].abs().max() < 1e-3


def test_order_and_copies_of_views_tell_nothing(model: ViewPredictor, moment: ViewMoment) -> None:
    four = picture(model, moment, (0, 1, 2, 3))
    assert (four - picture(model, moment, (2, 0, 3, 1))).abs().max() < 1e-4
    one = picture(model, moment, (0,))
    assert (one - picture(model, moment, (0, 0, 0, 0))).abs().max() < 1e-4
    assert (four - one).abs().max() > 1e-2
    assert picture(model, moment, (0, 1, 2, 3, 0, 1, 2, 3)).shape == four.shape


def test_one_view_is_joined_as_several_are() -> None:
    """The way of one view alone against the general one, which two equal views take."""
    generator = torch.Generator().manual_seed(1)
    values, logits = (
        torch.randn(2, 1, 5, 3, generator=generator),
        torch.randn(2, 1, 5, 1, generator=generator),
    )
    seen = torch.tensor([1.0, 0, 1, 1, 0]).view(1, 1, 5, 1).expand(2, 1, 5, 1)
    one, two = (
        weighted(values, logits, seen),
        weighted(*(x.repeat(1, 2, 1, 1) for x in (values, logits, seen))),
    )
    assert (one[0] - two[0]).abs().max() < 1e-6 and (one[1] - two[1]).abs().max() < 1e-6


def test_walk_ends_as_a_plain_loop_says() -> None:
    opacity = torch.rand(4, 7, generator=torch.Generator().manual_seed(2))
    expected, left = torch.zeros_like(opacity), torch.ones(4)
    for step in range(7):
        expected[:, step] = left if step == 6 else left * opacity[:, step]
        left = left * (1 - opacity[:, step])
    assert torch.allclose(walk_weights(opacity), expected, atol=1e-6)


def test_gazes_are_other_pictures_of_the_same_room(take: SyntheticTake, moment: ViewMoment) -> None:
    own = ego_pictures(take, [0], take.ego_w2c)
    assert (own[0].int() - take.ego_rgb[0].int()).abs().max() <= 1
    assert (moment.ego[1].float() - moment.ego[0].float()).abs().mean() > 10
    cosine = (moment.ego_w2c[1:, 2, :3] * moment.ego_w2c[0, 2, :3]).sum(-1)
    assert (cosine < 0.999).all() and (cosine > -0.2).all()


def test_a_moment_comes_back_from_its_file_and_bad_ones_are_refused(
    moment: ViewMoment, tmp_path: Path
) -> None:
    file = tmp_path / "one.safetensors"
    write_moment(moment, file)
    back = read_moment(file)
    assert torch.equal(back.exo, moment.exo) and torch.equal(back.ego_w2c, moment.ego_w2c)
    assert back.exo_cameras == moment.exo_cameras and torch.equal(back.up, moment.up)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(EgoXInputError, match="one.safetensors"):
        read_moment(file)
    with pytest.raises(EgoXInputError, match="a camera and a pose for each picture"):
        replace(moment, exo=moment.exo[:3])
    with pytest.raises(EgoXInputError, match="1 to 8"):
        replace(moment, exo=moment.exo.repeat(3, 1, 1, 1))


@pytest.fixture
def values(moment: ViewMoment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(
        "egox_core.train.model.PredictorSize", lambda steps: replace(SMALL, steps=steps)
    )
    for split, count in (("train", 3), ("validation", 1)):
        for number in range(count):
            write_moment(moment, tmp_path / "cache" / split / f"{number}.safetensors")
    return {
        "task": "predict",
        "cache": str(tmp_path / "cache"),
        "output": str(tmp_path / "out"),
        "steps": 4,
        "batch_size": 2,
        "predict": {"size": 32, "gazes": 2, "steps": 6},
        "optimizer": {"warmup_steps": 0, "decay": "constant"},
        "checkpoint": {"every": 2},
        "validation": {"every": 2},
        "ema_decay": 0.9,
    }


def test_training_stops_goes_on_and_leaves_a_predictor(values: dict, tmp_path: Path) -> None:
    train(parse_config(values))
    train(parse_config({**values, "steps": 2, "output": str(tmp_path / "two")}))
    train(parse_config({**values, "output": str(tmp_path / "two")}))
    whole, parts = (load_predictor(tmp_path / name / PREDICTOR_FILE) for name in ("out", "two"))
    assert whole.size == replace(SMALL, steps=6) and len(checkpoint_folders(tmp_path / "two")) == 2
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)
    )
    log = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8")
    assert "validation/psnr" in log


def test_a_step_teaches_and_draws_the_same_for_the_same_number(values: dict) -> None:
    config = parse_config({**values, "predict": {**values["predict"], "exo_targets": 0.5}})
    samples = MomentSamples(config, "train")
    torch.manual_seed(0)
    model = ViewPredictor(SMALL)
    kinds = [samples.items_of_step(step, 2) for step in range(8)]
    assert kinds == [samples.items_of_step(step, 2) for step in range(8)]
    assert {item.other >= 0 for step in kinds for item, _ in step} == {True, False}
    assert all(item.other not in item.views for step in kinds for item, _ in step)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(6):
        result, _ = predict_step(model, samples, kinds[0])
        losses.append(result.loss.item())
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None for p in model.parameters())
