"""Comparison trainings (without GGA, prior, clean exo half) and trainings that start from a LoRA's
weights."""

import logging
from dataclasses import replace

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
def test_each_trains_and_says_so_in_its_file(workplace, tiny, name):
    conditioning = ABLATIONS[name]
    tiny.train(workplace, steps=2, conditioning=conditioning)
    metadata = inspect(workplace / "run" / "lora.safetensors")
    expected = {
        "gga_mode": "released",
        "prior": "prior",
        "exo_clean": True,
        "exo_loss": False,
        "exo": "sees_ego",
        **conditioning,
    }
    assert {k: metadata[f"egox.{k}"] for k in expected} == {
        k: str(v).lower() for k, v in expected.items()
    }
    warned = contradictions({}, {k: v for k, v in metadata.items() if k.startswith("egox.")})
    assert len(warned) == ("noised" in name) + ("prior" in name)


def test_what_each_one_takes_away(workplace, tiny):
    """The input's channels are 16 noisy latent, 4 mask and 16 condition, exo columns first."""

    def packed(**conditioning):
        config = tiny.config(workplace, conditioning=conditioning)
        sample = tiny.first_sample(config)
        t, h, w_exo, w_ego = sample.grid
        torch.manual_seed(0)
        noise = torch.randn(1, 16, t, h, w_exo + w_ego)
        return noised_input(sample, noise, torch.tensor([0.25]), config.conditioning), sample, noise

    usual, sample, noise = packed()
    w_exo = sample.grid[2]
    assert (
        torch.equal(usual[:, :16, ..., :w_exo], sample.exo)
        and usual[:, 20:, ..., w_exo:].abs().sum() > 0
    )
    without = packed(prior="zero")[0]
    assert without[:, 20:, ..., w_exo:].abs().sum() == 0
    assert torch.equal(without[:, :20], usual[:, :20]) and torch.equal(
        without[..., :w_exo], usual[..., :w_exo]
    )
    noised = packed(exo_clean=False)[0]
    torch.testing.assert_close(
        noised[:, :16, ..., :w_exo], 0.75 * sample.exo + 0.25 * noise[..., :w_exo]
    )
    assert torch.equal(noised[:, 16:], usual[:, 16:]) and torch.equal(
        noised[..., w_exo:], usual[..., w_exo:]
    )


def test_loss_stays_on_ego_unless_exo_is_to_be_learnt(workplace, tiny):
    model = load_base(workplace / "base.safetensors")
    scope = install_gga(model)
    sample = tiny.first_sample(tiny.config(workplace))
    noise = torch.randn(1, 16, 2, 4, 10)
    with torch.no_grad():
        ego, canvas = (
            flow_loss(
                model,
                scope,
                sample,
                noise,
                torch.tensor([0.5]),
                ConditioningConfig(exo_clean=False, exo_loss=learnt),
            )
            for learnt in (False, True)
        )
    assert torch.equal(ego.prediction, canvas.prediction)
    assert float(ego.loss) == pytest.approx(
        float((ego.prediction - ego.target).square().mean()), rel=1e-6
    )
    assert float(ego.loss) != float(canvas.loss)


def test_sampling_follows_the_training(workplace, tiny):
    """Attention and exo half are as in training. The prior comes with the sample."""
    model = load_base(workplace / "base.safetensors").eval()
    scope = install_gga(model)
    sample = tiny.first_sample(tiny.config(workplace))
    latents = {
        name: sample_ego(model, scope, sample, ConditioningConfig(**c), steps=3)
        for name, c in {"usual": {}, **ABLATIONS}.items()
    }
    assert all(m.shape == sample.ego.shape and torch.isfinite(m).all() for m in latents.values())
    distinct = ("usual", "no geometry", "noised exo", "noised exo, learnt")
    assert all(not torch.equal(latents[a], latents[b]) for a in distinct for b in distinct if a < b)


def test_exo_alone_is_one_function_in_training_and_sampling(workplace, tiny, monkeypatch):
    """The training's prediction, with blocks run again in backward or not, and kept and recomputed
    samples."""

    sample = tiny.first_sample(tiny.config(workplace))
    conditioning = ConditioningConfig(exo="alone")
    noise = torch.randn(sample.ego.shape)
    results = []
    for checkpointed in (False, True):
        model = load_base(workplace / "base.safetensors").train()
        scope = install_gga(model)
        if checkpointed:
            model.enable_gradient_checkpointing()
        result = flow_loss(model, scope, sample, noise, torch.tensor([0.5]), conditioning)
        result.loss.backward()
        results.append(
            (
                result.prediction.detach(),
                {k: p.grad for k, p in model.named_parameters() if p.grad is not None},
            )
        )
    (plain, gradients), (again, repeated) = results
    assert torch.equal(plain, again) and gradients.keys() == repeated.keys()
    assert all(torch.allclose(gradients[k], repeated[k], rtol=1e-5, atol=1e-8) for k in gradients)
    sees = flow_loss(
        model, scope, sample, noise, torch.tensor([0.5]), ConditioningConfig()
    ).prediction
    assert (sees - plain).abs().max() > 1e-4 * plain.abs().max()
    model.eval()
    kept_latent = sample_ego(model, scope, sample, conditioning, steps=4)
    monkeypatch.setattr("egox_core.gga.exo_cache.ExoCache._is_valid", lambda *args: False)
    anew = sample_ego(model, scope, sample, conditioning, steps=4)
    assert (kept_latent - anew).abs().max() <= 1e-5 * anew.abs().max()
    t, h, w_exo, w_ego = sample.grid
    wide = replace(sample, exo=sample.exo[..., :w_ego])
    with refuses("one width"):
        flow_loss(model, scope, wide, noise, torch.tensor([0.5]), conditioning)


def first_run(workplace, tiny, **more):
    values = tiny.settings(
        workplace, lora={"rank": 4, "alpha": 8, "targets": ["attn1", "ffn"]}, **more
    )
    train(parse_config(values))
    return values, workplace / "run" / "lora.safetensors"


def test_a_later_run_starts_from_a_lora_with_a_fresh_optimizer(workplace, tiny):
    values, file = first_run(workplace, tiny)
    later = {
        **values,
        "output": str(workplace / "later"),
        "init_lora": str(file),
        "steps": 2,
        "optimizer": {"learning_rate": 1e-12, "warmup_steps": 1},
    }
    # alpha / rank is inside the file's B and in the new layers as well: the effect must be the
    # same, not doubled.
    start = make_trainable(parse_config(later), torch.device("cpu")).tensors()
    trained = load_file(checkpoint_folders(workplace / "run")[-1] / "trainable.safetensors")
    assert all(torch.allclose(start[k], trained[k], atol=1e-7) for k in trained)
    train(parse_config(later))
    before, after = read_lora(file)[0], read_lora(workplace / "later" / "lora.safetensors")
    assert all(torch.allclose(before[k], after[0][k], atol=1e-6) for k in before)
    assert '"init_lora": "lora.safetensors"' in after[1]["egox.config"]
    state = load_checkpoint(checkpoint_folders(workplace / "later")[-1])
    assert {float(s["step"]) for s in state.optimizer["state"].values()} == {2.0}
    with refuses("init_lora"):  # going on without it would not be the same run
        train(parse_config({**later, "steps": 3, "init_lora": None}))


def test_a_higher_rank_starts_with_the_effect_of_the_lower_one(workplace, tiny):
    values, file = first_run(workplace, tiny)
    wider = {
        **values,
        "output": str(workplace / "wider"),
        "init_lora": str(file),
        "lora": {"rank": 8, "alpha": 8, "targets": ["attn1", "ffn"]},
    }
    start = make_trainable(parse_config(wider), torch.device("cpu")).tensors()
    before = read_lora(file)[0]
    for name in (k for k in before if ".lora_A." in k):
        other = name.replace(".lora_A.", ".lora_B.")
        assert start[name].shape[0] == 8 and start[name].abs().amax(dim=1).gt(0).all()
        # read_lora has alpha / rank inside B; the wider LoRA's is 1.
        assert torch.allclose(
            start[other] @ start[name], before[other].float() @ before[name].float(), atol=1e-6
        )


def test_init_lora_rejects_other_model_or_rank(workplace, tiny, caplog):
    values, file = first_run(workplace, tiny, steps=1)
    later = {**values, "output": str(workplace / "later"), "init_lora": str(file)}
    with refuses("lora.safetensors"):
        train(parse_config({**later, "lora": {"rank": 2, "targets": ["attn1", "ffn"]}}))
    with refuses("not there"):
        train(parse_config({**later, "init_lora": str(workplace / "none.safetensors")}))
    with refuses("init_lora"):
        parse_config({**later, "task": "base_i2v"})
    tiny.make_base(workplace / "base.safetensors", layers=3)
    with refuses("a different model"):
        train(parse_config(later))
    tiny.make_base(workplace / "base.safetensors", seed=1)
    with caplog.at_level(logging.WARNING):
        make_trainable(parse_config(later), torch.device("cpu"))
    assert "not on this base" in caplog.text
