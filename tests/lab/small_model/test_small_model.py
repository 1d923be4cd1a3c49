"""The small model's training, at sizes that take seconds: what it must get right before hours are spent on it."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.train.checkpoints import StopRequest
from egox_core.wan.latents import LATENT_MEAN, LATENT_STD
from egox_core.wan.method_file import split_method
from egox_core.wan.vae import VaeEncoder
from lab.drawn import make_take
from lab.small_model.card import write_card
from lab.small_model.clips import clip_spec
from lab.small_model.contract import VideoStore
from lab.small_model.files import WorkFiles
from lab.small_model.held_out import clip_of_take
from lab.small_model.settings import (
    BaseRound,
    DemoTraining,
    LoraRound,
    VaeSettings,
    ViewsGate,
)
from tests.lab.small_model.tiny import TINY

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from lab.small_model import stages, transformer, views_gate  # noqa: E402
from lab.small_model.vae_model import (  # noqa: E402
    COLOUR_AXES,
    COLOUR_CARE,
    cell_colours,
    colour_shares,
    decode,
    encode,
    new_vae,
    outline_error,
    picture_weights,
    save_vae,
    settle_latents,
    whole_clips,
)
from lab.small_model.vae_train import Muon, noise_like, orthogonal, train_vae  # noqa: E402
from lab.small_model.wan_sampler import WanSampler  # noqa: E402

TINY_VAE = VaeSettings(dim=4, skeleton_steps=4, steps=8, batch=2, crop=32)


def loosened(model: torch.nn.Module) -> torch.nn.Module:
    """Branches that start at zero would hide what is wrong with them."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return model


def test_a_new_vae_draws_a_copy_in_its_own_colours():
    """Weak green-magenta as well as the rest, beside what the random parts add; without gains it is at .54."""
    own = torch.randn(128, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor((0.57, 0.09, 0.24))
    video = (own @ COLOUR_AXES).view(128, 3, 1, 1, 1).expand(-1, 3, 1, 16, 16)
    for seed in (1, 2, 3):
        model = whole_clips(new_vae(16, seed))
        with torch.no_grad():
            drawn = decode(model, encode(model, video)).mean((2, 3, 4)) @ COLOUR_AXES.T
        alike = torch.corrcoef(torch.cat((own, drawn), 1).T)[:3, 3:].diagonal()
        assert float(alike.min()) > 0.6, alike


def test_a_cells_mean_colour_counts_by_its_axis():
    flat = COLOUR_AXES.view(3, 3, 1, 1, 1).expand(-1, -1, 2, 16, 16)
    found = cell_colours(flat)
    assert found.shape == (3, 3, 2, 2, 2)
    assert torch.allclose(found.mean((2, 3, 4)), torch.diag(COLOUR_CARE), atol=1e-6)


def test_a_lost_axis_of_colour_is_told():
    truth = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    green_magenta = COLOUR_AXES[1]
    drawn = truth - (truth @ green_magenta)[:, None] * green_magenta
    shares = colour_shares(drawn, truth)
    assert shares.tolist() == pytest.approx([1, 0, 1], abs=0.02) and colour_shares(truth, truth).min() == 1


def test_noise_has_the_spread_of_what_it_is_added_to():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(16, 16, generator=generator)
    raw = torch.einsum("ij,bjthw->bithw", mixed, torch.randn(4, 16, 3, 16, 16, generator=generator))
    found, wanted = (torch.cov(x.movedim(1, 0).flatten(1)) for x in (noise_like(raw), raw))
    assert torch.allclose(found, wanted, atol=0.15 * float(wanted.diagonal().mean()))


def test_whole_clips_equal_the_chunks_of_the_host():
    """float32 sums in another order: 1e-5 of values near 1."""
    pieces = loosened(new_vae(4, 1))
    whole = whole_clips(loosened(new_vae(4, 1)))
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    with torch.no_grad():
        latent = pieces.encode(video).latent_dist.mode()
        assert torch.allclose(encode(whole, video), latent, atol=1e-5)
        # The model's own decoder clamps.
        assert torch.allclose(decode(whole, latent).clamp(-1, 1), pieces.decode(latent).sample, atol=1e-5)


def test_settled_latents_cost_the_same_in_every_direction_and_draw_the_same_picture(tmp_path):
    model = whole_clips(loosened(new_vae(4, 1)))
    video = torch.rand(6, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        raw = encode(model, video)
        before, weights = decode(model, raw), picture_weights(model, raw)
        settle_latents(model, raw.movedim(1, -1).flatten(0, -2), weights)
        after = encode(model, video)
        unit = torch.tensor(LATENT_STD)
        now = torch.linalg.eigvalsh(picture_weights(model, after) * unit[:, None] * unit)
        then = torch.linalg.eigvalsh(weights)
        assert torch.allclose(decode(model, after), before, atol=1e-4)
    found = after.movedim(1, -1).flatten(0, -2)
    assert torch.allclose(found.mean(0), torch.tensor(LATENT_MEAN), atol=1e-2)
    assert torch.allclose(found.std(0), unit, rtol=0.02)
    # Small steps of a network that isn't linear: not exactly alike, but far from what it was.
    assert now.max() / now.median() < 3 < then.max() / then.median()
    save_vae(model, tmp_path / "vae.safetensors", {"format": "pt"})
    encoder = VaeEncoder(tmp_path / "vae.safetensors")  # the names are those of the host's files
    frames = (video[0].movedim(0, -1) + 1) / 2
    # float16 weights: a part in two thousand of each.
    found = encoder.decode(encoder.encode(frames)) * 2 - 1
    assert float((found - before[0].movedim(0, -1).clamp(-1, 1)).abs().max()) < 0.05


def test_vae_training_stopped_and_resumed_ends_where_an_uninterrupted_one_does(clips, tmp_path, monkeypatch):
    whole = train_vae(tmp_path / "whole", clips, TINY_VAE, tmp_path / "whole.safetensors", tell=lambda _: None)
    from lab.small_model import vae_train

    step = vae_train._Run.one_step
    taken = []

    def stop_after_three(run):
        step(run)
        taken.append(run.step)
        if len(taken) == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(vae_train._Run, "one_step", stop_after_three)
    out = tmp_path / "parts.safetensors"
    assert train_vae(tmp_path / "parts", clips, TINY_VAE, out, tell=lambda _: None) is None
    assert taken == [1, 2, 3] and not out.exists()
    assert train_vae(tmp_path / "parts", clips, TINY_VAE, out, tell=lambda _: None)["held out"] == whole["held out"]
    ours, theirs = load_file(out), load_file(tmp_path / "whole.safetensors")
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.slow
def test_a_lost_folder_costs_one_round(clips, tmp_path, monkeypatch):
    """From the round's float16 weights alone training goes on at its step, near what the whole state was."""
    from lab.small_model import vae_train

    half = replace(TINY_VAE, steps=5)
    train_vae(tmp_path / "run", clips, half, tmp_path / "half.safetensors", tell=lambda _: None)
    run = vae_train._Run(tmp_path / "run", clips, half, torch.device("cpu"), lambda _: None)
    with run.averaged():
        before = run.figures()["ego"]
    (tmp_path / "run" / "vae_state.pt").unlink()
    again = vae_train._Run(tmp_path / "run", clips, half, torch.device("cpu"), lambda _: None)
    assert again.step == 5 and again.seconds > 0 and again.processor_seconds > 0
    assert again.figures()["ego"]["psnr"] == pytest.approx(before["psnr"], abs=0.05)
    done = train_vae(tmp_path / "run", clips, TINY_VAE, tmp_path / "whole.safetensors", tell=lambda _: None)
    assert done["steps"] == TINY_VAE.steps and done["core_hours"] >= 0 and done["reference_step_seconds"] > 0


def test_vae_training_may_begin_before_the_first_clips_are_drawn(clips, tmp_path):
    from lab.small_model import vae_train

    empty = tmp_path / "clips"
    empty.mkdir()
    run = vae_train._Run(tmp_path / "run", empty, TINY_VAE, torch.device("cpu"), lambda _: None)
    shutil.copytree(clips, empty, dirs_exist_ok=True)
    run.one_step()
    assert run.figures()["ego"]["psnr"] > 0


def test_every_direction_of_a_kernel_moves_alike():
    matrices = torch.randn(3, 8, 40, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, 8)[:, None]
    for shape in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonal(shape))
        assert float(values.min()) > 0.5 and float(values.max()) < 1.3, values
    kernel = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(1))
    Muon([kernel], rate=0.01).step()
    assert float((kernel * kernel.grad).sum()) < 0
    assert float(kernel.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)  # as Adam steps


def test_a_lost_outline_costs_what_it_was():
    video = torch.zeros(1, 3, 1, 16, 16)
    video[..., 8:] = 1
    flat = torch.zeros_like(video)
    assert outline_error(video, video) == 0
    lost = outline_error(flat, video)
    assert float(lost) > 0 and outline_error(video / 2, video) == pytest.approx(float(lost) / 2)


def test_a_training_stops_for_a_bench_and_goes_on(tmp_path, monkeypatch):
    """The trainer is asked to stop while a bench runs, and called again when that is over."""
    from tools.setup import at_work

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    monkeypatch.delenv(at_work.OURS, raising=False)
    monkeypatch.setattr(at_work, "LOOK_SECONDS", 0.05)
    bench = at_work.cache_folder() / "at_work" / "1"
    bench.parent.mkdir(parents=True)
    files, calls = WorkFiles(tmp_path / "work", tmp_path / "shipped"), []

    def trainer(arguments):
        calls.append(arguments)
        if len(calls) == 1:
            with StopRequest() as stop:
                bench.touch()
                deadline = time.monotonic() + 20
                while not stop.requested and time.monotonic() < deadline:
                    time.sleep(0.01)
            assert stop.requested
            threading.Timer(0.3, bench.unlink).start()
        lines = [{"step": 2, "loss": 0.5, "validation/loss": 0.4}]
        (files.run("base-1") / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        return 0

    monkeypatch.setattr(transformer.train_egox, "main", trainer)
    record = transformer.train(files, "base-1", {"steps": 2, "batch_size": 1})
    assert len(calls) == 2 and not bench.exists()
    assert record["steps"] == 2 and record["threads"] == torch.get_num_threads() and record["core_hours"] >= 0


def test_rounds_go_on_where_the_rate_was():
    rounds = DemoTraining().transformer
    assert rounds.lora_rounds[0].rates[0] == 1 and rounds.lora_rounds[-1].rates[1] <= 0.05
    asked = [transformer.lora_values(WorkFiles(), DemoTraining(), {}, part, WorkFiles().cache("x"), 1)["optimizer"]
             for part in rounds.lora_rounds]
    assert asked[0]["learning_rate"] == rounds.lora_rate
    for before, after in zip(asked, asked[1:], strict=False):
        if before["name"] == after["name"]:
            assert before["learning_rate"] * before["final_factor"] == pytest.approx(after["learning_rate"])


@pytest.mark.slow
def test_all_stages_make_a_model_that_the_trainer_made(clips, tmp_path, monkeypatch):
    """VAE, latents, base, LoRA and card, end to end, a few steps each."""
    training = DemoTraining(
        clips=TINY, vae=TINY_VAE, train_clips=3, validation_clips=2, test_clips=1, base_clips=3,
        transformer=replace(DemoTraining().transformer, heads=2, layers=2, ffn=64, base_batch=2,
                            base_rounds=(BaseRound(steps=3, shift=3.0), BaseRound(steps=2, shift=10.0)),
                            lora_rounds=(LoraRound(steps=3, rank=2, shift=3.0, clips=(0, 3), variants=4, batch=2),
                                         LoraRound(steps=2, rank=4, shift=20.0, clips=(0, 3), variants=1, batch=2))))
    files = WorkFiles(tmp_path / "work", tmp_path / "shipped")
    files.text.parent.mkdir(parents=True)
    save_file({"embedding": torch.randn(1, 2, 1024)}, files.text)  # the host's own needs the host: tests/host has it
    context = stages.StageContext(files=files, training=training, environment=None, tell=lambda _: None)
    started = threading.active_count()
    for name in ("clips", "vae", "base", "lora"):
        assert stages.STAGES[name](context), name
        write_card(files, training)
    assert threading.active_count() <= started + 1
    text = files.card.read_text(encoding="utf-8")
    assert "Not finished" not in text and text.count("\n| 1 | 3 | ") == 3  # steps of each stage's first round
    assert load_file(files.base)["patch_embedding.weight"].dtype == torch.float16
    lora = load_file(files.lora)
    assert any(k.startswith("diffusion_model.blocks.0.ffn") for k in lora)
    assert any(v.any() for k, v in lora.items() if "lora_B" in k or "lora_up" in k)
    record = json.loads((files.records / "lora.json").read_text(encoding="utf-8"))
    assert [part["steps"] for part in record["rounds"]] == [3, 2]
    record = json.loads((files.records / "base.json").read_text(encoding="utf-8"))
    assert [part["steps"] for part in record["rounds"]] == [3, 2]
    asked = (files.run("base-2") / "asked.yaml").read_text(encoding="utf-8")
    assert f"base: {files.base}" in asked and "shift: 10.0" in asked
    asked = (files.run("lora-2") / "asked.yaml").read_text(encoding="utf-8")
    assert f"init_lora: {files.lora}" in asked, "the second round starts from the first one's weights"
    before = time.time()
    assert stages.STAGES["base"](context) and time.time() - before < 2  # done stages are left alone
    assert set(transformer.ABLATIONS) == {"full", "no_gga", "no_prior", "no_clean_latent"}

    gate = ViewsGate(arms=tuple(transformer.VIEW_ARMS), seeds=1, pose_hidden=8,
                     part=LoraRound(steps=2, rank=4, shift=20.0, clips=(0, 3), variants=1))
    monkeypatch.setattr(stages, "VIEWS_GATES", {"views_gate": gate})
    assert stages.EXPERIMENTS["views_gate"](context)
    arms = stages.view_loras(files, "views_gate")
    poses = {name: split_method(load_file(file)).pose for name, file in arms.items()}
    assert poses["no_pose@1"] is None and poses["rays@1"].blocks == 1
    assert poses["rays_each_block@1"].blocks == training.transformer.layers > 1
    sampler = WanSampler(files.base, files.vae, arms, str(files.text), shift=5.0)
    rooms = [clip_of_take(make_take(clip_spec(950_000 + number, TINY)), "exact") for number in range(2)]
    judged = views_gate.judge(sampler, VideoStore(folder=tmp_path / "videos", model=sampler.fingerprint()), rooms,
                              gate.arms)
    assert [row["arm"] for row in judged["rows"]] == list(gate.arms) and judged["holds"] in (True, False)
    assert all(row["path_cost"]["mean"] != 0 for row in judged["rows"][1:]), "another path draws another video"
