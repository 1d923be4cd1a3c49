"""Test the released sampler on golden predictions, and its noise schedule."""

import pytest
import torch
from safetensors.torch import load_file

from egox_core.wan.schedule import (
    make_scheduler,
    released_schedule,
    sample_released,
    truncated_timesteps,
)
from tests.refusals import refuses


@pytest.fixture(scope="module")
def golden_steps(repo_root, device):
    pytest.importorskip("diffusers", reason="its solver")
    return load_file(repo_root / "tests/golden/denoise_6step.safetensors", str(device))


@pytest.fixture(scope="module")
def predictions(golden_steps):
    return [golden_steps[f"gga3.noise_pred_after_cfg_and_exo_zero.{i}"] for i in range(6)]


class ReplayModel:
    """Return recorded predictions one after another, like a flow model of ComfyUI."""

    def __init__(self, predictions, latent_image=None, noise=None):
        self.predictions = predictions
        self.timesteps = []
        self.latent_image, self.noise = latent_image, noise

    def __call__(self, x, sigma):
        self.timesteps.append(sigma * 1000)
        return x - sigma.view(-1, 1, 1, 1, 1) * self.predictions[len(self.timesteps) - 1]


def test_timesteps_are_recovered_from_any_schedule():
    for steps in (1, 4, 20, 33, 100, 250):
        for shift in (1.0, 3.0, 8.0):
            schedule = released_schedule(steps, shift)
            assert torch.equal(truncated_timesteps(schedule[0], schedule), schedule[1])
            assert torch.equal(
                truncated_timesteps(schedule[0][steps // 2 :], schedule), schedule[1][steps // 2 :]
            )
            assert (truncated_timesteps(schedule[0]) - schedule[1]).abs().max() <= 1


def test_sampler_reproduces_the_golden_steps(golden_steps, predictions):
    model = ReplayModel(predictions)
    callback_entries = []
    sampled_latent = sample_released(
        model,
        golden_steps["in.initial_latent"],
        released_schedule(6)[0],
        callback=callback_entries.append,
    )
    # v goes through x - sigma v and back in float32: 6e-8 * |x| / sigma, about 1e-6 a step.
    assert (sampled_latent - golden_steps["gga3.latents_after_step.5"]).abs().max() <= 2e-5
    assert [float(t[0]) for t in model.timesteps] == [float(t) for t in golden_steps["timesteps"]]
    assert [entry["i"] for entry in callback_entries] == list(range(6))
    assert (
        callback_entries[-1]["denoised"] - sampled_latent
    ).abs().max() < 1.0  # the last preview is close to the result, not noise


def test_first_noise_is_not_scaled(golden_steps, predictions):
    sigmas = released_schedule(6)[0]
    initial_noise = golden_steps["in.initial_latent"]
    scaled_noise = sigmas[0] * initial_noise
    model = ReplayModel(
        predictions, latent_image=torch.zeros_like(initial_noise), noise=initial_noise
    )
    unscaled_result = sample_released(ReplayModel(predictions), initial_noise, sigmas)
    assert torch.equal(sample_released(model, scaled_noise, sigmas), unscaled_result)
    # An image to start from, or a start in the middle, keeps what the host mixed.
    model = ReplayModel(
        predictions, latent_image=torch.ones_like(initial_noise), noise=initial_noise
    )
    assert not torch.equal(sample_released(model, scaled_noise, sigmas), unscaled_result)


def test_sampling_is_cancelled_by_its_callback(golden_steps, predictions):
    def raise_interrupt(entry):
        if entry["i"] == 1:
            raise KeyboardInterrupt

    model = ReplayModel(predictions)
    with pytest.raises(KeyboardInterrupt):
        sample_released(
            model,
            golden_steps["in.initial_latent"],
            released_schedule(6)[0],
            callback=raise_interrupt,
        )
    assert len(model.timesteps) == 2


@pytest.mark.parametrize(
    "sigmas", [[1.0], [0.5, 0.9, 0.0], [1.5, 0.5, 0.0], [float("nan"), 0.0], [0.5, 0.5]]
)
def test_sigmas_that_no_flow_schedule_has_are_refused(sigmas):
    with refuses("sigmas"):
        make_scheduler(torch.tensor(sigmas))


def test_bad_schedule_numbers_are_refused():
    for steps, shift in ((0, 3.0), (1000, 3.0), (50, 0.0), (50, float("nan"))):
        with refuses():
            released_schedule(steps, shift)
