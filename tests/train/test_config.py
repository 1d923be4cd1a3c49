"""Test the training configuration."""

import pytest

from egox_train.train.config import dump_config, load_config, parse_config
from egox_train.train.model import learning_rate
from tests.refusals import refuses

REQUIRED_SETTINGS = {"base": "b", "cache": "c", "output": "o", "steps": 5}


def test_modes_set_only_missing_values():
    def parse(**conditioning):
        return parse_config({**REQUIRED_SETTINGS, "conditioning": conditioning})

    trainer, paper = parse(mode="trainer"), parse(mode="paper", lambda_g=2.0).conditioning
    assert (trainer.timesteps.shift, parse().timesteps.shift) == (1.0, 3.0)
    assert (trainer.conditioning.lambda_g, trainer.conditioning.rays) == (1.0, "trainer")
    assert (paper.mask_mode, paper.gga_mode, paper.lambda_g) == ("paper", "paper", 2.0)


def test_the_papers_configuration_has_the_released_trainers_optimizer(repo_root):
    paper_config = load_config(repo_root / "configs" / "train_paper_8gpu.yaml")
    assert paper_config.conditioning.mode == "paper"

    def optimizer_of(mode: str, **more):
        return parse_config({**REQUIRED_SETTINGS, "conditioning": {"mode": mode}, **more}).optimizer

    for optimizer in (paper_config.optimizer, optimizer_of("paper"), optimizer_of("trainer")):
        assert (optimizer.learning_rate, optimizer.betas) == (2e-5, (0.9, 0.95))
        rates = [learning_rate(optimizer, step, 7500) for step in (0, 49, 99, 100, 7499)]
        assert rates == pytest.approx([2e-7, 1e-5, 2e-5, 2e-5, 2e-5])
    assert optimizer_of("released").decay == "cosine"
    overridden = optimizer_of("paper", optimizer={"learning_rate": 1e-3})
    assert (overridden.learning_rate, overridden.decay) == (1e-3, "constant")


@pytest.mark.parametrize(
    "bad_settings",
    [
        {"stepz": 5},
        {"steps": 0},
        {"optimizer": {"learning_rat": 1}},
        {"conditioning": {"lambda_g": -1}},
        {"conditioning": {"lambda_g": float("nan")}},
        {"conditioning": {"mode": "papers"}},
        {"lora": {"rank": 0}},
        {"conditioning": {"mode": "paper", "lambda_g": 0}},
        {"memory": {"base_dtype": "int3"}},
        {"conditioning": ["mode"]},
        {"conditioning": {"exo_loss": True}},
        {"conditioning": {"mode": ["paper"]}, "optimizer": [1]},
    ],
)
def test_wrong_settings_are_refused(bad_settings):
    with refuses("training configuration"):
        parse_config({**REQUIRED_SETTINGS, **bad_settings})


def test_overrides_apply_and_the_resolved_file_is_read_back(tmp_path):
    config_file = tmp_path / "c.yaml"
    config_file.write_text("base: b\ncache: c\noutput: o\nsteps: 7\nlora: {rank: 8}\n", "utf-8")
    config = load_config(
        config_file, ["optimizer.learning_rate=2e-4", "lora.alpha=4", "conditioning.mode=paper"]
    )
    assert (config.optimizer.learning_rate, config.lora.rank, config.lora.alpha) == (2e-4, 8, 4.0)
    resolved_file = tmp_path / "resolved.yaml"
    resolved_file.write_text(dump_config(config), "utf-8")
    assert load_config(resolved_file) == config
    later_file = tmp_path / "above.yaml"
    later_file.write_text("steps: 9\nlora: {alpha: 2}\n", "utf-8")
    config = load_config(config_file, ["lora.alpha=5"], more_files=[later_file])
    assert (config.steps, config.lora.rank, config.lora.alpha) == (9, 8, 5.0)


@pytest.mark.parametrize("text", ["a: [", "just words"])
def test_invalid_configuration_files_are_refused(tmp_path, text):
    config_file = tmp_path / "c.yaml"
    config_file.write_text(text, "utf-8")
    with refuses():
        load_config(config_file)
    with refuses("key=value"):
        load_config(None, ["steps"])
    with refuses("no file"):
        load_config(tmp_path / "none.yaml")
