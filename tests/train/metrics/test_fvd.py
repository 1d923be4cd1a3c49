"""Test FVD, motion smoothness and DINO matching."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import sqrtm

from egox_core.errors import EgoXInputError
from egox_train.data.object_masks import ObjectMasks
from egox_train.metrics.fvd import frechet_distance
from egox_train.metrics.temporal import (
    AMT_NETWORK,
    AmtInterpolation,
    _amt_module,
    motion_smoothness,
)
from tests.refusals import refuses


def test_frechet_distance_of_known_sets_is_exact():
    rng = np.random.default_rng(0)
    first_set = rng.normal(size=(50, 4))
    assert frechet_distance(first_set, first_set) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first_set, first_set + [3.0, 0, 4.0, 0]) == pytest.approx(25)
    # Doubled about its mean: every deviation s becomes 2 s, and (2 s - s)² adds up to the trace.
    widened_set = first_set.mean(0) + 2 * (first_set - first_set.mean(0))
    assert frechet_distance(first_set, widened_set) == pytest.approx(
        np.trace(np.cov(first_set, rowvar=False, bias=True))
    )
    with refuses("at least two"):
        frechet_distance(first_set[:1], first_set)
    # With scipy's matrix root of the covariances' product, also where they are singular (5 videos
    # of 8 features); a touch of the identity keeps the root real.
    for count in (30, 5):
        first_set, second_set = rng.normal(size=(count, 8)), rng.normal(size=(count, 8)) * 2 + 1
        first_covariance, second_covariance = (
            np.cov(x, rowvar=False, bias=True) + 1e-9 * np.eye(8) for x in (first_set, second_set)
        )
        covariance_root = sqrtm(first_covariance @ second_covariance).real
        expected_distance = np.square(first_set.mean(0) - second_set.mean(0)).sum() + np.trace(
            first_covariance + second_covariance - 2 * covariance_root
        )
        assert frechet_distance(first_set, second_set) == pytest.approx(expected_distance, rel=1e-3)


def test_smoothness_is_one_for_even_motion_and_less_for_jerks():
    def mean_frame(before, after):
        return (before + after) / 2

    even_video = torch.arange(0, 36, 4).view(9, 1, 1, 1).expand(9, 128, 128, 3) / 255
    # The interpolated frame is cut to whole levels, and rounding may leave it a hair below one.
    assert motion_smoothness(even_video, mean_frame) == pytest.approx(1, abs=1.001 / 255)
    jerky_video = torch.zeros(9, 128, 128, 3)
    jerky_video[1::2] = 0.2
    assert motion_smoothness(jerky_video, mean_frame) == pytest.approx(0.8)
    # Of four frames only the second lies between two others that are looked at; the last has no
    # successor.
    four_frames = torch.zeros(4, 128, 128, 3)
    four_frames[1], four_frames[3] = 0.4, 1.0
    assert motion_smoothness(four_frames, mean_frame) == pytest.approx(0.6)
    for frames in (torch.zeros(2, 128, 128, 3), torch.zeros(5, 64, 128, 3)):
        with refuses("three frames"):
            motion_smoothness(frames, mean_frame)


def test_amt_network_refuses_other_weights(tmp_path):
    try:
        amt_module = _amt_module()
    except EgoXInputError as error:
        pytest.skip(str(error))
    assert "vbench" not in sys.modules  # the shell is gone again
    weights = {
        k: v.clone().contiguous() for k, v in amt_module.Model(**AMT_NETWORK).state_dict().items()
    }
    save_file(weights, tmp_path / "amt.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    video = torch.rand(3, 128, 136, 3)
    interpolation = AmtInterpolation(tmp_path / "amt.safetensors")
    # padded to 16 and cut again
    assert interpolation(*video[:2].movedim(-1, 1).split(1)).shape == (1, 3, 128, 136)
    assert 0 < motion_smoothness(video, interpolation) < 1
    with refuses("a different model"):
        AmtInterpolation(tmp_path / "other.safetensors")


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_objects_are_matched_by_appearance(network_writers, tmp_path, kind):
    pytest.importorskip("transformers")
    from egox_train.metrics.dino_matching import DinoFeatures, match_by_features, object_features

    network_writers.write_dino(tmp_path / "dino", kind)
    dino_features = DinoFeatures(tmp_path / "dino")
    true_videos, generated_video = torch.full((2, 2, 64, 64, 3), 0.5)
    true_masks, generated_masks = (np.zeros((count, 2, 64, 64), bool) for count in (2, 3))
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.1, 1.0]])
    # Red above, blue below; in the made video the red one lies below, and both are numbered anew.
    for columns, number in ((slice(4, 28), 0), (slice(34, 58), 1)):
        true_videos[:, columns, 20:44], generated_video[:, columns, 20:44] = (
            colours[number],
            colours[1 - number],
        )
        true_masks[number, :, columns, 20:44] = generated_masks[1 - number, :, columns, 20:44] = (
            True
        )
    assert dino_features(true_videos).shape == (2, 16, 16, 32)
    object_vectors = object_features(true_masks, dino_features(true_videos))
    assert np.allclose(np.linalg.norm(object_vectors, axis=1), 1)
    video_masks = ObjectMasks(ids=("red", "blue"), truth=true_masks, generated=generated_masks)
    matched_masks = match_by_features(video_masks, generated_video, true_videos, dino_features)
    for number in range(2):
        object_pixels = generated_video[torch.from_numpy(matched_masks.generated[number])]
        assert torch.equal(object_pixels.unique(dim=0), colours[number : number + 1]), number
    single_match = match_by_features(
        replace(video_masks, generated=generated_masks[:1]),
        generated_video,
        true_videos,
        dino_features,
    )
    assert sorted(single_match.generated.any(axis=(1, 2, 3)).tolist()) == [False, True]
    with refuses("DINOv3 or DINOv2 folder"):
        DinoFeatures(tmp_path)
