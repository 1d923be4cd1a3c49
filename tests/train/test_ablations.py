"""Test trainings with one part switched off, such as geometry or prior."""

import logging

import pytest
import torch
from safetensors.torch import load_file

from egox_core.wan.lora_settings import contradictions
from egox_train.train.checkpoints import checkpoint_folders, load_checkpoint
from egox_train.train.config import ConditioningConfig, parse_config
from egox_train.train.export import inspect
from egox_train.train.loop import train
from egox_train.train.lora import read_lora
from egox_train.train.loss import flow_loss, noised_input
from egox_train.train.model import make_trainable
from egox_train.train.sampling import sample_ego
from egox_train.wan.diffusers_processor import install_gga
from egox_train.wan.transformer import load_base
from tests.refusals import refuses

ABLATIONS = {
    "no geometry": {"gga_mode": "off"},
    "no prior": {"prior": "zero"},
    "grey prior": {"prior": "none"},
    "noised exo": {"exo_clean": False},
    "noised exo, learnt": {"exo_clean": False, "exo_loss": True},
    "exo alone": {"exo": "alone"},
    "halved positions": {"position_scale": 0.5},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_is_named_in_its_lora_file(training_folder, tiny_training, name):
    conditioning = ABLATIONS[name]
    tiny_training.train(training_folder, steps=2, conditioning=conditioning)
    metadata = inspect(training_folder / "run" / "lora.safetensors")
    expected = {
        "gga_mode": "released",
        "prior": "prior",
        "exo_clean": True,
        "exo_loss": False,
        "exo": "sees_ego",
        **conditioning,
    }
    assert {setting: metadata[f"egox.{setting}"] for setting in expected} == {
        setting: str(value).lower() for setting, value in expected.items()
    }
    warnings = contradictions(
        {}, {setting: value for setting, value in metadata.items() if setting.startswith("egox.")}
    )
    assert len(warnings) == ("noised" in name) + ("prior" in name)


def test_ablations_change_only_their_part_of_the_input(training_folder, tiny_training):
    """Check which channels of the model's input each ablation setting changes."""

    def make_input(**conditioning):
        training_config = tiny_training.make_config(training_folder, conditioning=conditioning)
        training_sample = tiny_training.load_first_sample(training_config)
        t, h, w_exo, w_ego = training_sample.grid
        torch.manual_seed(0)
        noise_latent = torch.randn(1, 16, t, h, w_exo + w_ego)
        return (
            noised_input(
                training_sample, noise_latent, torch.tensor([0.25]), training_config.conditioning
            ),
            training_sample,
            noise_latent,
        )

    default_input, sample, noise = make_input()
    w_exo = sample.grid[2]
    assert (
        torch.equal(default_input[:, :16, ..., :w_exo], sample.exo)
        and default_input[:, 20:, ..., w_exo:].abs().sum() > 0
    )
    input_without_prior = make_input(prior="zero")[0]
    assert input_without_prior[:, 20:, ..., w_exo:].abs().sum() == 0
    assert torch.equal(input_without_prior[:, :20], default_input[:, :20]) and torch.equal(
        input_without_prior[..., :w_exo], default_input[..., :w_exo]
    )
    input_with_noised_exo = make_input(exo_clean=False)[0]
    torch.testing.assert_close(
        input_with_noised_exo[:, :16, ..., :w_exo], 0.75 * sample.exo + 0.25 * noise[..., :w_exo]
    )
    assert torch.equal(input_with_noised_exo[:, 16:], default_input[:, 16:]) and torch.equal(
        input_with_noised_exo[..., w_exo:], default_input[..., w_exo:]
    )


def test_loss_covers_exo_only_if_it_is_learnt(training_folder, tiny_training):
    base_model = load_base(training_folder / "base.safetensors")
    gga_scope = install_gga(base_model)
    training_sample = tiny_training.load_first_sample(tiny_training.make_config(training_folder))
    noise_latent = torch.randn(1, 16, 2, 4, 10)
    with torch.no_grad():
        ego_result, canvas_result = (
            flow_loss(
                base_model,
                gga_scope,
                training_sample,
                noise_latent,
                torch.tensor([0.5]),
                ConditioningConfig(exo_clean=False, exo_loss=learnt),
            )
            for learnt in (False, True)
        )
    assert torch.equal(ego_result.prediction, canvas_result.prediction)
    assert float(ego_result.loss) == pytest.approx(
        float((ego_result.prediction - ego_result.target).square().mean()), rel=1e-6
    )
    assert float(ego_result.loss) != float(canvas_result.loss)


def test_sampling_uses_the_ablations_of_training(training_folder, tiny_training):
    base_model = load_base(training_folder / "base.safetensors").eval()
    gga_scope = install_gga(base_model)
    training_sample = tiny_training.load_first_sample(tiny_training.make_config(training_folder))
    latents = {
        name: sample_ego(
            base_model, gga_scope, training_sample, ConditioningConfig(**conditioning), steps=3
        )
        for name, conditioning in {"usual": {}, **ABLATIONS}.items()
    }
    assert all(
        latent.shape == training_sample.ego.shape and torch.isfinite(latent).all()
        for latent in latents.values()
    )
    distinct = ("usual", "no geometry", "noised exo", "noised exo, learnt")
    assert all(
        not torch.equal(latents[first_name], latents[second_name])
        for first_name in distinct
        for second_name in distinct
        if first_name < second_name
    )


def train_first_run(training_folder, tiny_training, **changed_settings):
    first_settings = tiny_training.make_settings(
        training_folder,
        lora={"rank": 4, "alpha": 8, "targets": ["attn1", "ffn"]},
        **changed_settings,
    )
    train(parse_config(first_settings))
    return first_settings, training_folder / "run" / "lora.safetensors"


def test_training_starts_from_a_lora_with_a_new_optimizer(training_folder, tiny_training):
    first_settings, first_lora_file = train_first_run(training_folder, tiny_training)
    later_settings = {
        **first_settings,
        "output": str(training_folder / "later"),
        "init_lora": str(first_lora_file),
        "steps": 2,
        "optimizer": {"learning_rate": 1e-12, "warmup_steps": 1},
    }
    # alpha / rank is inside the file's B and in the new layers as well: the effect must be the
    # same, not doubled.
    start_tensors = make_trainable(parse_config(later_settings), torch.device("cpu")).tensors()
    trained_tensors = load_file(
        checkpoint_folders(training_folder / "run")[-1] / "trainable.safetensors"
    )
    assert all(
        torch.allclose(start_tensors[tensor_name], trained_tensors[tensor_name], atol=1e-7)
        for tensor_name in trained_tensors
    )
    train(parse_config(later_settings))
    first_lora = read_lora(first_lora_file)[0]
    later_lora = read_lora(training_folder / "later" / "lora.safetensors")
    assert all(
        torch.allclose(first_lora[tensor_name], later_lora[0][tensor_name], atol=1e-6)
        for tensor_name in first_lora
    )
    assert '"init_lora": "lora.safetensors"' in later_lora[1]["egox.config"]
    state = load_checkpoint(checkpoint_folders(training_folder / "later")[-1])
    assert {
        float(parameter_state["step"]) for parameter_state in state.optimizer["state"].values()
    } == {2.0}
    with refuses("init_lora"):  # going on without it would not be the same run
        train(parse_config({**later_settings, "steps": 3, "init_lora": None}))


def test_lora_of_higher_rank_starts_with_the_same_effect(training_folder, tiny_training):
    first_settings, first_lora_file = train_first_run(training_folder, tiny_training)
    wider_settings = {
        **first_settings,
        "output": str(training_folder / "wider"),
        "init_lora": str(first_lora_file),
        "lora": {"rank": 8, "alpha": 8, "targets": ["attn1", "ffn"]},
    }
    start_tensors = make_trainable(parse_config(wider_settings), torch.device("cpu")).tensors()
    lower_rank_lora = read_lora(first_lora_file)[0]
    for name in (tensor_name for tensor_name in lower_rank_lora if ".lora_A." in tensor_name):
        up_name = name.replace(".lora_A.", ".lora_B.")
        assert (
            start_tensors[name].shape[0] == 8 and start_tensors[name].abs().amax(dim=1).gt(0).all()
        )
        # read_lora has alpha / rank inside B; the wider LoRA's is 1.
        assert torch.allclose(
            start_tensors[up_name] @ start_tensors[name],
            lower_rank_lora[up_name].float() @ lower_rank_lora[name].float(),
            atol=1e-6,
        )


def test_init_lora_rejects_other_model_or_rank(training_folder, tiny_training, caplog):
    first_settings, first_lora_file = train_first_run(training_folder, tiny_training, steps=1)
    later_settings = {
        **first_settings,
        "output": str(training_folder / "later"),
        "init_lora": str(first_lora_file),
    }
    with refuses("lora.safetensors"):
        train(parse_config({**later_settings, "lora": {"rank": 2, "targets": ["attn1", "ffn"]}}))
    with refuses("not there"):
        train(
            parse_config({**later_settings, "init_lora": str(training_folder / "none.safetensors")})
        )
    with refuses("init_lora"):
        parse_config({**later_settings, "task": "base_i2v"})
    tiny_training.make_base(training_folder / "base.safetensors", layers=3)
    with refuses("a different model"):
        train(parse_config(later_settings))
    tiny_training.make_base(training_folder / "base.safetensors", seed=1)
    with caplog.at_level(logging.WARNING):
        make_trainable(parse_config(later_settings), torch.device("cpu"))
    assert "not on this base" in caplog.text
