"""Test the training of the small model in runs of a few seconds."""

import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from egox_core.safe_files import read_json  # noqa: E402
from egox_train.train.config import ConditioningConfig  # noqa: E402
from egox_train.wan.weights import file_metadata  # noqa: E402
from lab.small_model.drawers import Drawing, drawing  # noqa: E402
from lab.small_model.files import WorkFiles  # noqa: E402
from lab.small_model.parts import join_parts  # noqa: E402
from lab.small_model.run import train_small_model  # noqa: E402
from lab.small_model.settings import SMALL_TRAINING  # noqa: E402


@pytest.mark.slow
def test_one_command_draws_trains_and_measures(tmp_path):
    """Check that one command draws rooms, trains the base model and the LoRA, and measures them."""
    patient_settings = replace(SMALL_TRAINING, first_rooms_until=12_000.0, figures_until=12_000.0)
    work, out, text_file = tmp_path / "work", tmp_path / "out", tmp_path / "text.safetensors"
    work.mkdir()
    save_file({"embedding": torch.randn(1, 2, 1024)}, text_file)
    messages, threads_before, first_look_settings = [], threading.active_count(), {"minutes": 0.05}
    with drawing(Drawing(work, small=True, device="cpu", workers=1)) as drawers:
        # On a busy machine three seconds of training are over before the last test room is drawn.
        is_drawing = True
        while is_drawing and len(list(work.glob("test-*"))) < patient_settings.test_rooms:
            is_drawing = drawers.wait()
        run_record = train_small_model(
            out,
            patient_settings,
            drawers,
            first_look_settings,
            minutes=0.05,
            work_folder=work,
            text=text_file,
            print_line=messages.append,
        )
        assert not any(process.is_alive() for process in drawers.processes)
    assert threading.active_count() <= threads_before + 1
    assert run_record == read_json(out / "figures.json")
    assert max(file.stat().st_size for file in out.iterdir()) <= 15 * 2**20
    assert len(list(out.iterdir())) <= 8  # as many as a lent machine hands back
    join_parts(out, out)
    assert run_record["rooms drawn"]["validation"] == run_record["rooms drawn"]["test"] == 2
    assert run_record["base"]["steps"] >= 1 and run_record["lora"]["steps"] >= 1
    losses = run_record["lora"]["held out"]["prior"]
    assert losses.keys() == {"0.999", "0.8", "0.5", "0.2", "0.1", "0.05"}
    assert run_record["lora"]["held out before"]["prior"] != losses
    run_files, shipped_files = WorkFiles(out), WorkFiles()
    trained_base, shipped_base = load_file(run_files.base), load_file(shipped_files.base)
    assert (
        trained_base.keys() == shipped_base.keys()
        and trained_base["patch_embedding.weight"].dtype == torch.float16
    )
    assert not torch.equal(
        trained_base["blocks.0.ffn.0.weight"], shipped_base["blocks.0.ffn.0.weight"]
    )
    assert ConditioningConfig.from_lora(file_metadata(run_files.lora, "LoRA")).exo == "alone"
    assert any(k.startswith("diffusion_model.blocks.0.ffn") for k in load_file(run_files.lora))
    test_figures = run_record["test rooms"]
    for name in ("shipped", "new"):
        for changed_setting in ("λ_g 0", "LoRA strength 0"):
            assert (
                test_figures[name]["psnr"] != test_figures[f"{name}, {changed_setting}"]["psnr"]
            ), changed_setting
    assert test_figures["new"] != test_figures["shipped"]
    assert "| new, λ_g 0 |" in (out / "figures.md").read_text("utf-8")
    assert (out / "rooms.png").stat().st_size > 1000 and messages
