"""Test the training of the small model in runs of a few seconds."""

import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
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
from lab.small_model.drawers import Drawing, drawing  # noqa: E402
from lab.small_model.files import WorkFiles  # noqa: E402
from lab.small_model.parts import join_parts, write_parts  # noqa: E402
from lab.small_model.run import train_small_model  # noqa: E402
from lab.small_model.settings import SMALL_TRAINING  # noqa: E402
from lab.small_model.vae_model import encode, whole_clips  # noqa: E402
from tests.paths import ROOT  # noqa: E402
from tests.refusals import refuses  # noqa: E402


def test_whole_clips_equal_the_chunks_of_the_host():
    """Check that encoding a whole clip at once gives the same latents as ComfyUI's encoding in
    chunks."""
    chunked_model, whole_model = (
        VaeEncoder(WorkFiles().vae, "cpu").model.float() for _ in range(2)
    )
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    with torch.no_grad():
        latent = chunked_model.encode(video).latent_dist.mode()
        assert torch.allclose(encode(whole_clips(whole_model), video), latent, atol=1e-5)


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


ORPHAN = """
import os, sys
from pathlib import Path
from lab.small_model.drawers import Drawing, drawing
if __name__ == "__main__":
    with drawing(Drawing(Path(sys.argv[1]), True, "cpu", 1)) as drawers:
        print(drawers.processes[0].pid, flush=True)
        os._exit(0)
"""


def test_drawing_processes_end_with_a_killed_parent(tmp_path):
    (tmp_path / "orphan.py").write_text(ORPHAN)
    run = subprocess.run(
        [sys.executable, tmp_path / "orphan.py", tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for _ in range(600):
        if not psutil.pid_exists(int(run.stdout)):
            return
        time.sleep(0.1)
    pytest.fail("it still draws")


def test_the_newest_whole_save_is_put_together(tmp_path):
    """Check that the newest complete save is restored if a later one lacks parts."""
    file, out, rng = tmp_path / WorkFiles(tmp_path).base.name, tmp_path / "out", random.Random(5)
    saves = []
    for _ in range(2):
        saves.append(rng.randbytes(18_000_000))
        file.write_bytes(saves[-1])
        bytes_by_part = {part: part.read_bytes() for part in out.glob("*")}
        write_parts(file, out)
    part_names = sorted(part.name for part in out.iterdir())
    assert [name[-19:-9] for name in part_names] == [".0002-1of2", ".0002-2of2"]
    assert join_parts(out, tmp_path / "a") == [WorkFiles(tmp_path / "a").base]
    assert WorkFiles(tmp_path / "a").base.read_bytes() == saves[1]
    for part, part_bytes in bytes_by_part.items():  # killed before the earlier save was removed
        part.write_bytes(part_bytes)
    (out / part_names[1]).unlink()
    join_parts(out, tmp_path / "b")
    assert WorkFiles(tmp_path / "b").base.read_bytes() == saves[0]
    for part in bytes_by_part:
        part.write_bytes(b"x")
    with refuses("no whole save"):
        join_parts(out, tmp_path / "c")
