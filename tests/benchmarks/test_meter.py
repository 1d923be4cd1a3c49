"""The kernel distance and the classifier behind it: what it compares, that it is no bias's, that its test can fail."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from benchmarks.meter import FIRST_ROOM, TRICKS, blurred, holds, kinds_of, noisy, sharpened  # noqa: E402
from benchmarks.support.drawn_features import (  # noqa: E402
    CELL,
    FEATURES,
    KINDS,
    SIZE,
    WEIGHTS,
    KernelDistance,
    at_size,
    facts_of_net,
    features_of,
    load_net,
)
from lab.drawn import make_take  # noqa: E402
from lab.small_model.clips import clip_spec  # noqa: E402
from lab.small_model.settings import FIRST_SEED, MOST_CLIPS, DemoTraining  # noqa: E402


@pytest.fixture(scope="module")
def take():
    spec = clip_spec(FIRST_ROOM - 1, DemoTraining().clips)
    return make_take(replace(spec, frames=2, exo_width=56, exo_height=32))


def test_its_rooms_are_nobody_elses() -> None:
    assert all(FIRST_SEED[split] + MOST_CLIPS[split] <= FIRST_ROOM - 1 for split in FIRST_SEED)


def test_distance_is_the_mean_over_pairs_of_different_takes() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(4, 2, FEATURES)), draw.normal(0.5, 1, size=(4, 2, FEATURES))

    def kernel(a, b):
        return (a @ b / FEATURES + 1) ** 3

    sums = [np.mean([kernel(x, y) for x in a[i] for y in b[j]])
            for i, j in itertools.permutations(range(4), 2)
            for a, b in ((ours, ours), (theirs, theirs), (ours, theirs), (theirs, ours))]
    within, across = np.reshape(sums, (-1, 4))[:, :2].sum(), np.reshape(sums, (-1, 4))[:, 2:].sum()
    assert KernelDistance.between(ours, theirs).estimate().mean == pytest.approx((within - across) / 12)


def test_equal_sets_are_at_zero_and_others_are_not() -> None:
    draw = np.random.default_rng(1)
    one, two = draw.normal(size=(2, 48, 3, FEATURES))
    same = KernelDistance.between(one, two)
    assert same.estimate().low < 0 < same.estimate().high
    near, far = (KernelDistance.between(one + shift, two) for shift in (0.3, 0.6))
    assert 0 < near.estimate().low and near.estimate().high < far.estimate().mean
    lead = near.estimate(far, share=0.5)
    assert lead.mean == pytest.approx(near.estimate().mean - 0.5 * far.estimate().mean) and lead.high < 0


def test_places_are_named_by_their_solid(take) -> None:
    kinds, names = kinds_of(take), list(KINDS)
    assert kinds.shape == (2, SIZE // CELL, SIZE // CELL)
    assert {"table", "person", "wall"} <= {names[int(k)] for k in kinds.unique() if k >= 0}
    for row, column in ((3, 5), (20, 9), (30, 30)):
        solid = take.scene.solids[int(take.ego_index[1, CELL * row + 2, CELL * column + 2])]
        words = KINDS[names[int(kinds[1, row, column])]]
        assert solid.name.split()[0] in words or (not words and solid.group in ("body", "held"))


def test_the_classifier_that_is_kept_knows_a_new_room(take) -> None:
    assert WEIGHTS.stat().st_size < 2e6 and facts_of_net()["places named rightly"] > 0.9
    net, known = load_net(), kinds_of(take)
    with torch.no_grad():
        named = net(at_size(take.ego_rgb.numpy())).argmax(1)
    assert float((named == known)[known >= 0].float().mean()) > 0.6
    assert features_of(net, [take.ego_rgb.numpy()]).shape == (1, 2, FEATURES)
    small = take.ego_rgb.numpy()[:, ::2, ::2]
    assert at_size(small).shape == (2, 3, SIZE, SIZE) and float(at_size(small).abs().max()) <= 1


def test_disturbances_do_what_they_say(take) -> None:
    video = take.ego_rgb.numpy()

    def steepness(v):
        return np.abs(np.diff(v.astype(float), axis=2)).mean()

    assert steepness(blurred(video, 2)) < steepness(video) < steepness(sharpened(video))
    assert np.std(noisy(np.full_like(video, 128), 9).astype(float)) == pytest.approx(9, rel=0.02)


def test_the_meters_test_can_fail() -> None:
    rising = {**{f"truth, blur {b}": d for b, d in (("0.5", 0.1), ("1", 0.2), ("2", 0.3), ("4", 0.4))},
              **{f"truth, noise {n}": d for n, d in (("2", 0.1), ("5", 0.2), ("10", 0.3))}}
    good = {name: {"mean": d} for name, d in rising.items()}
    good |= {f"{name}, less the model's": {"mean": -0.01, "high": 0.01} for name in TRICKS}
    assert holds(good)
    for name, value in (("truth, blur 2", {"mean": 0.15}), ("truth, noise 2", {"mean": -0.01}),
                        (f"{TRICKS[1]}, less the model's", {"mean": -0.2, "high": -0.1})):
        assert not holds({**good, name: value})
