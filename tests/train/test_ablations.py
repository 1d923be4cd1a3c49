"""Test trainings with one part switched off, such as geometry or prior."""

from itertools import combinations

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
        config = tiny_training.make_config(training_folder, conditioning=conditioning)
        sample = tiny_training.load_first_sample(config)
        noise = torch.randn(1, 16, 2, 4, 10, generator=torch.Generator().manual_seed(0))
        exo_noise = noise[..., : sample.grid[2]]
        return (
            noised_input(sample, noise, torch.tensor([0.25]), config.conditioning),
            sample,
            exo_noise,
        )

    default_input, sample, exo_noise = make_input()
    exo, ego = slice(sample.grid[2]), slice(sample.grid[2], None)
    assert torch.equal(default_input[:, :16, ..., exo], sample.exo)
    assert default_input[:, 20:, ..., ego].any()
    without_prior = make_input(prior="zero")[0]
    assert not without_prior[:, 20:, ..., ego].any()
    noised = make_input(exo_clean=False)[0]
    expected_exo = 0.75 * sample.exo + 0.25 * exo_noise
    torch.testing.assert_close(noised[:, :16, ..., exo], expected_exo)
    for other, channels, columns in (
        (without_prior, slice(20, None), ego),
        (noised, slice(16), exo),
    ):
        other[:, channels, ..., columns] = default_input[:, channels, ..., columns]
        assert torch.equal(other, default_input), "nothing else was changed"


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
    sample = tiny_training.load_first_sample(tiny_training.make_config(training_folder))
    names = ("usual", "no geometry", "noised exo", "noised exo, learnt")
    latents = [
        sample_ego(
            base_model, gga_scope, sample, ConditioningConfig(**ABLATIONS.get(name, {})), steps=3
        )
        for name in names
    ]
    assert all(latent.shape == sample.ego.shape and latent.isfinite().all() for latent in latents)
    assert not any(torch.equal(*pair) for pair in combinations(latents, 2))


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
    first_lora, run = read_lora(first_lora_file)[0], checkpoint_folders(training_folder / "run")
    settings = {
        **first_settings,
        "output": str(training_folder / "later"),
        "init_lora": str(first_lora_file),
        "steps": 2,
        "optimizer": {"learning_rate": 1e-12, "warmup_steps": 1},
    }

    def start(**changes) -> dict[str, torch.Tensor]:
        config = parse_config({**settings, **changes})
        return make_trainable(config, torch.device("cpu")).tensors()

    # alpha / rank is inside the file's B and in the new layers as well: the effect must be the
    # same, not doubled.
    start_tensors, trained_tensors = start(), load_file(run[-1] / "trainable.safetensors")
    assert all(torch.allclose(start_tensors[n], x, atol=1e-7) for n, x in trained_tensors.items())
    train(parse_config(settings))
    later_lora, metadata = read_lora(training_folder / "later" / "lora.safetensors")
    assert all(torch.allclose(later_lora[n], x, atol=1e-6) for n, x in first_lora.items())
    assert '"init_lora": "lora.safetensors"' in metadata["egox.config"]
    state = load_checkpoint(checkpoint_folders(training_folder / "later")[-1])
    assert {float(x["step"]) for x in state.optimizer["state"].values()} == {2.0}
    with refuses("init_lora"):  # going on without it would not be the same run
        train(parse_config({**settings, "steps": 3, "init_lora": None}))
    # A LoRA of higher rank starts with the same effect.
    wide = start(lora={"rank": 8, "alpha": 8, "targets": ["attn1", "ffn"]})
    for name in (name for name in first_lora if ".lora_A." in name):
        up_name = name.replace(".lora_A.", ".lora_B.")
        assert len(wide[name]) == 8 and wide[name].abs().amax(dim=1).gt(0).all()
        # read_lora has alpha / rank inside B; the wider LoRA's is 1.
        product = first_lora[up_name].float() @ first_lora[name].float()
        assert torch.allclose(wide[up_name] @ wide[name], product, atol=1e-6)


def test_init_lora_rejects_other_model_or_rank(training_folder, tiny_training, caplog):
    first_settings, first_lora_file = train_first_run(training_folder, tiny_training, steps=1)

    def start(**changes) -> None:
        settings = {**first_settings, "init_lora": str(first_lora_file), **changes}
        make_trainable(parse_config(settings), torch.device("cpu"))

    for changes, message in (
        ({"lora": {"rank": 2, "targets": ["attn1", "ffn"]}}, "lora.safetensors"),
        ({"init_lora": str(training_folder / "none.safetensors")}, "not there"),
        ({"task": "base_i2v"}, "init_lora"),
    ):
        with refuses(message):
            start(**changes)
    tiny_training.make_base(training_folder / "base.safetensors", layers=3)
    with refuses("a different model"):
        start()
    tiny_training.make_base(training_folder / "base.safetensors", seed=1)
    start()
    assert "not on this base" in caplog.text
