"""The small model's training, at sizes that take seconds."""

import shutil
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_train.wan.vae import VaeEncoder
from lab.small_model.files import WorkFiles
from lab.small_model.settings import DemoTraining, Schedule
from tests.lab.small_model.tiny import TINY

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from egox_core.safe_files import read_json  # noqa: E402
from egox_train.options import GenerateOptions, RunOptions  # noqa: E402
from egox_train.train.config import ConditioningConfig  # noqa: E402
from egox_train.train.generate import generate  # noqa: E402
from egox_train.wan.weights import file_metadata  # noqa: E402
from lab.small_model import stages, transformer  # noqa: E402
from lab.small_model.vae_model import encode, whole_clips  # noqa: E402


def test_whole_clips_equal_the_chunks_of_the_host():
    """float32 sums in another order: 1e-5 of values near 1."""
    pieces, whole = (VaeEncoder(WorkFiles().vae, "cpu").model.float() for _ in range(2))
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    with torch.no_grad():
        latent = pieces.encode(video).latent_dist.mode()
        assert torch.allclose(encode(whole_clips(whole), video), latent, atol=1e-5)


@pytest.fixture
def tiny_training() -> DemoTraining:
    schedule = Schedule(steps=3, clips=3, batch=2, learning_rate=1e-3, optimizer="adamw")
    return DemoTraining(
        clips=TINY,
        validation_clips=2,
        compile=False,
        base=schedule,
        lora=replace(schedule, optimizer="muon"),
    )


def test_the_stages_make_a_model_that_samples(tiny_training, clips, tmp_path):
    """Both stages of the one command, a few steps each, and a video by ``train_egox.py generate``."""
    files = WorkFiles(tmp_path / "work", tmp_path / "shipped")
    shutil.copytree(clips, files.clips)
    save_file(
        {"embedding": torch.randn(1, 2, 1024)}, files.text
    )  # the host's own needs the host: tests/host has it
    context = stages.StageContext(files=files, training=tiny_training, tell=lambda _: None)
    started = threading.active_count()
    for name, stage in stages.STAGES.items():
        assert stage(context), name
    assert threading.active_count() <= started + 1
    steps = {name: read_json(files.records / f"{name}.json")["steps"] for name in ("base", "lora")}
    assert steps == {"base": 3, "lora": 3}
    base, start = load_file(files.base), load_file(WorkFiles().base)
    assert base.keys() == start.keys() and base["patch_embedding.weight"].dtype == torch.float16
    assert not torch.equal(base["blocks.0.ffn.0.weight"], start["blocks.0.ffn.0.weight"])
    conditioning = ConditioningConfig.from_lora(file_metadata(files.lora, "LoRA"))
    assert conditioning.exo == "alone"
    assert any(k.startswith("diffusion_model.blocks.0.ffn") for k in load_file(files.lora))
    made = {file: file.stat().st_mtime_ns for file in files.records.parent.rglob("*.safetensors")}
    assert all(stage(context) for stage in stages.STAGES.values())
    assert made == {file: file.stat().st_mtime_ns for file in made}, "done stages are left alone"
    videos = []
    for number, lora in enumerate((files.lora, WorkFiles().lora)):
        out = tmp_path / str(number)
        options = GenerateOptions(base=files.base, vae=files.vae, lora=lora, steps=2)
        assert generate(files.cache, out, options, RunOptions(clips=1)) == (1, 1)
        videos += [file.read_bytes() for file in out.glob("*.mp4")]
    assert len({*videos}) == 2


def test_a_stopped_training_leaves_its_stage_open(tiny_training, tmp_path, monkeypatch):
    files = WorkFiles(tmp_path / "work", tmp_path / "shipped")
    monkeypatch.setattr(stages, "_latents", lambda *_: tmp_path)

    def stopped_at(step):
        def trainer(arguments):
            (files.run("base") / "metrics.jsonl").write_text(
                f'{{"step": {step}, "loss": 0.5}}', encoding="utf-8"
            )
            return 0

        return trainer

    shipped = []
    monkeypatch.setattr(stages, "ship_base", lambda run, target: shipped.append(target))
    context = stages.StageContext(files=files, training=tiny_training)
    files.work.mkdir(parents=True)
    for step, done in ((2, False), (3, True)):
        monkeypatch.setattr(transformer.front, "main", stopped_at(step))
        assert stages.base(context) is done
    assert shipped == [files.base]
