"""The small model's training, at a size that takes seconds."""

import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from egox_core.safe_files import read_json  # noqa: E402
from egox_train.train.config import ConditioningConfig  # noqa: E402
from egox_train.wan.vae import VaeEncoder  # noqa: E402
from egox_train.wan.weights import file_metadata  # noqa: E402
from lab.small_model.files import WorkFiles  # noqa: E402
from lab.small_model.report import outlines  # noqa: E402
from lab.small_model.rooms import Drawing, drawing  # noqa: E402
from lab.small_model.run import train_small_model  # noqa: E402
from lab.small_model.settings import SMALL  # noqa: E402
from lab.small_model.vae_model import encode, whole_clips  # noqa: E402
from tests.refusals import refuses  # noqa: E402


def test_whole_clips_equal_the_chunks_of_the_host():
    """float32 sums in another order: 1e-5 of values near 1."""
    pieces, whole = (VaeEncoder(WorkFiles().vae, "cpu").model.float() for _ in range(2))
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    with torch.no_grad():
        latent = pieces.encode(video).latent_dist.mode()
        assert torch.allclose(encode(whole_clips(whole), video), latent, atol=1e-5)


def test_one_command_draws_trains_and_measures(tmp_path):
    """Its whole way, with a step or more of each stage in no time at all."""
    work, out, text = tmp_path / "work", tmp_path / "out", tmp_path / "text.safetensors"
    work.mkdir()
    save_file({"embedding": torch.randn(1, 2, 1024)}, text)
    told, started = [], threading.active_count()
    record = train_small_model(
        out, SMALL, minutes=0.001, work=work, text=text, tell=told.append, workers=2
    )
    assert threading.active_count() <= started + 1
    assert record == read_json(out / "figures.json")
    assert record["rooms drawn"]["validation"] == record["rooms drawn"]["test"] == 2
    assert record["base"]["steps"] >= 1 and record["lora"]["steps"] >= 1
    losses = record["lora"]["held out"]["prior"]
    assert losses.keys() == {"0.999", "0.8", "0.5", "0.2", "0.1", "0.05"}
    assert record["lora"]["held out before"]["prior"] != losses
    files, shipped = WorkFiles(out), WorkFiles()
    base, start = load_file(files.base), load_file(shipped.base)
    assert base.keys() == start.keys() and base["patch_embedding.weight"].dtype == torch.float16
    assert not torch.equal(base["blocks.0.ffn.0.weight"], start["blocks.0.ffn.0.weight"])
    assert ConditioningConfig.from_lora(file_metadata(files.lora, "LoRA")).exo == "alone"
    assert any(k.startswith("diffusion_model.blocks.0.ffn") for k in load_file(files.lora))
    figures = record["test rooms"]
    for name in ("shipped", "new"):
        for without in ("λ_g 0", "LoRA strength 0"):
            assert figures[name]["psnr"] != figures[f"{name}, {without}"]["psnr"], without
    assert figures["new"] != figures["shipped"]
    assert "| new, λ_g 0 |" in (out / "figures.md").read_text("utf-8")
    assert (out / "rooms.png").stat().st_size > 1000 and told


def test_processes_that_end_without_rooms_are_told(tmp_path):
    job = Drawing(folder=tmp_path / "nowhere", training=SMALL, device="none", workers=1)
    with drawing(job) as drawers, refuses("no process that draws"):
        for _ in range(600):
            drawers.wait()


def test_outlines_are_a_share_of_the_truth():
    truth = torch.rand(2, 16, 16, 3)
    assert outlines(truth, truth) == pytest.approx(1.0)
    assert outlines(0.5 * truth + 0.2, truth) == pytest.approx(0.5)
    assert outlines(torch.zeros_like(truth), truth) == 0
