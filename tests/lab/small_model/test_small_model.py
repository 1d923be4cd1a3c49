"""The small model's training, at sizes that take seconds."""

from __future__ import annotations

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
from lab.drawn import make_take  # noqa: E402
from lab.small_model import stages, transformer  # noqa: E402
from lab.small_model.clips import clip_spec  # noqa: E402
from lab.small_model.held_out import clip_of_take  # noqa: E402
from lab.small_model.sampler import SampleSettings, SmallModelSampler  # noqa: E402
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
    schedule = Schedule(steps=3, clips=3, shift=3.0, batch=2)
    return DemoTraining(
        clips=TINY,
        train_clips=3,
        validation_clips=2,
        test_clips=0,
        arms=(("full", 1),),
        transformer=replace(
            DemoTraining().transformer,
            heads=2,
            layers=2,
            ffn=64,
            rank=2,
            compile=False,
            base=schedule,
            lora=replace(schedule, variants=4, optimizer="muon"),
            arm=replace(schedule, steps=2, optimizer="muon"),
        ),
    )


def test_the_stages_make_a_model_that_samples(tiny_training, clips, tmp_path):
    """All stages of the one command, a few steps each, and a video of the result."""
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
    assert load_file(files.base)["patch_embedding.weight"].dtype == torch.float16
    lora = load_file(files.lora)
    assert any(k.startswith("diffusion_model.blocks.0.ffn") for k in lora)
    assert any(v.any() for k, v in lora.items() if "lora_B" in k or "lora_up" in k)
    made = {file: file.stat().st_mtime_ns for file in files.records.parent.rglob("*.safetensors")}
    assert all(stage(context) for stage in stages.STAGES.values())
    assert made == {file: file.stat().st_mtime_ns for file in made}, "done stages are left alone"
    strong = tmp_path / "strong.safetensors"  # after three steps 8 bits need not show a LoRA
    save_file({name: 30 * value for name, value in lora.items()}, strong)
    loras = {"full": files.arm("full", 1), "strong": strong}
    sampler = SmallModelSampler(files.base, files.vae, loras, files.text)
    room = clip_of_take(make_take(clip_spec(950_000, TINY)))
    videos = [sampler.generate([room], SampleSettings(lora=name, steps=2)) for name in loras]
    assert videos[0].shape == (1, 5, 32, 32, 3) and not (videos[0] == videos[1]).all()


def test_a_stopped_training_leaves_its_stage_open(tiny_training, tmp_path, monkeypatch):
    files = WorkFiles(tmp_path / "work", tmp_path / "shipped")
    monkeypatch.setattr(stages, "_latents", lambda *_, **__: tmp_path)

    def stopped_at(step):
        def trainer(arguments):
            (files.run("base") / "metrics.jsonl").write_text(
                f'{{"step": {step}, "loss": 0.5}}', encoding="utf-8"
            )
            return 0

        return trainer

    shipped = []
    monkeypatch.setattr(
        stages, "ship_base", lambda run, target, record: shipped.append(record["steps"])
    )
    context = stages.StageContext(files=files, training=tiny_training)
    files.work.mkdir(parents=True)
    for step, done in ((2, False), (3, True)):
        monkeypatch.setattr(transformer.train_egox, "main", stopped_at(step))
        assert stages.base(context) is done
    assert shipped == [3]
