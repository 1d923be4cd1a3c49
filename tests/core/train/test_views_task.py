"""Tasks for several exo views: one view is EgoX, the order of views tells nothing, what is trained is kept and written.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_core.data.cache_store import CacheReader
from egox_core.errors import EgoXInputError
from egox_core.train.checkpoints import checkpoint_folders
from egox_core.train.config import parse_config
from egox_core.train.expected import expecting
from egox_core.train.export import export, inspect
from egox_core.train.loop import train
from egox_core.train.loss import flow_loss
from egox_core.train.model import TrainableModel, make_optimizer, make_trainable, set_learning_rate
from egox_core.train.samples import CachedSamples, Item, collate, noise_for, sample_generator
from egox_core.types import Panels
from egox_core.wan.lora_settings import trained_with
from egox_core.wan.method_file import split_method
from egox_core.wan.weights import file_metadata

SMALL = {"width": 64, "layers": 1}
PLAIN = {"gga_mode": "off"}


@pytest.fixture
def folder(tmp_path: Path, tiny) -> Path:
    tiny.make_views_cache(tmp_path / "cache")
    tiny.make_base(tmp_path / "base.safetensors")
    return tmp_path


def align_values(tiny, folder: Path, **more) -> dict:
    return tiny.settings(folder, **{"task": "view_align", "base": None, "align": SMALL, "views": {"counts": [1, 2]},
                                    "output": str(folder / "align"), "steps": 4, **more})


def views_values(tiny, folder: Path, *, conditioning: dict | None = None, views: dict | None = None, **more) -> dict:
    return tiny.settings(folder, task="views", conditioning=conditioning or {},
                         views={"counts": [1, 2, 3], "pose_hidden": 16, **(views or {})}, **more)


def moved(made: TrainableModel) -> TrainableModel:
    """Trained weights that aren't those of a beginning, whose effect would be nothing."""
    for number, parameter in enumerate(made.parameters):
        with torch.no_grad():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return made


def step_of(made: TrainableModel, samples: CachedSamples, item: Item):
    """Loss of a fixed training step, and the gradients by name."""
    sample = expecting(made.alignment, samples.load(item))
    noise = noise_for(sample, sample_generator(0, 0, "noise"), False)
    loss = flow_loss(made.model, made.scope, sample, noise, torch.tensor([0.5]), samples.config.conditioning,
                     made.tokens).loss
    made.model.zero_grad()
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in made.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("conditioning", [{}, PLAIN], ids=["gga", "no gga"])
def test_one_view_without_pose_trains_as_egox(folder, tiny, conditioning) -> None:
    """The same loss and gradients, and the same whole run: items, noise, weights."""
    tiny.make_views_cache(folder / "cache", cameras=1)
    one = parse_config(views_values(tiny, folder, conditioning=conditioning, views={"counts": [1], "pose": "off"},
                                    output=str(folder / "views")))
    egox = parse_config(tiny.settings(folder, conditioning=conditioning, output=str(folder / "egox")))
    found, expected = (step_of(moved(make_trainable(config, torch.device("cpu"))), samples, samples.groups[0][1])
                       for config in (one, egox) for samples in [CachedSamples(config, "train")])
    assert found[0] == pytest.approx(expected[0], abs=1e-6) and found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert float(gradient.abs().max()) > 0
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-6)
    for config in (one, egox):
        train(config)
    ours, theirs = (load_file(folder / name / "lora.safetensors") for name in ("views", "egox"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("layout", ["full", "mosaic"])
@pytest.mark.parametrize("conditioning", [{}, {**PLAIN, "prior": "align"}], ids=["prior and gga", "align"])
def test_the_order_of_views_changes_no_loss(folder, tiny, layout, conditioning) -> None:
    views = {"counts": [3], "layout": layout}
    if "prior" in conditioning:
        train(parse_config(align_values(tiny, folder)))
        views["align"] = str(folder / "align" / "align.safetensors")
    config = parse_config(views_values(tiny, folder, conditioning=conditioning, views=views))
    made, samples = moved(make_trainable(config, torch.device("cpu"))), CachedSamples(config, "train")
    item = samples.groups[0][0]
    assert samples.load(item).panels == Panels(views=3, layout=layout)
    first, _ = step_of(made, samples, item)
    turned, _ = step_of(made, samples, replace(item, views=(item.views[2], item.views[0], item.views[1])))
    other, _ = step_of(made, samples, replace(item, views=(item.views[1],) * 3))
    assert abs(turned - first) < 1e-4 < abs(other - first)


def test_steps_draw_how_many_views_and_samples_which(folder, tiny) -> None:
    config = parse_config(views_values(tiny, folder, views={"grey": 0.3}))
    samples = CachedSamples(config, "train")
    again = CachedSamples(config, "train")
    seen, counts, greys, numbers = set(), [], [], []
    for step in range(60):
        items = samples.items_of_step(step, 4)
        assert items == again.items_of_step(step, 4)
        assert len({len(item.views) for item, _ in items}) == 1, "one batch, one number of views"
        assert collate([samples.load(item) for item, _ in items]).panels.views == len(items[0][0].views)
        counts.append(len(items[0][0].views))
        seen |= {item.views for item, _ in items}
        greys += [item.grey for item, _ in items]
        numbers += [number for _, number in items]
        for item, _ in items:
            assert len(set(item.views)) == len(item.views) and {v.split("__")[0] for v in item.views} == {
                item.clip.split("__")[0]}
    assert numbers == list(range(240)) and set(counts) == {1, 2, 3}
    assert len({views for views in seen if len(views) == 3}) > 12, "several orders of each take's views"
    assert 0.15 < sum(greys) / len(greys) < 0.45
    sample = samples.load(Item(clip="take0__cam0__0", views=("take0__cam2__0",), grey=True))
    assert not sample.cond_ego.any()


def test_prior_and_text_are_the_best_cameras_wherever_it_lies(folder, tiny) -> None:
    samples = CachedSamples(parse_config(views_values(tiny, folder)), "train")
    clip, views = next(iter(samples.cameras.items()))
    prior = CacheReader(folder / "cache").tensors(views[1], ("prior",))["prior"]
    for order in ((views[1], views[2]), (views[2], views[1])):
        assert torch.equal(samples.load(Item(clip=clip, views=order)).cond_ego[0], prior)


def test_the_alignment_learns_and_its_file_is_what_it_was(folder, tiny) -> None:
    config = parse_config(align_values(tiny, folder, steps=60, checkpoint={"every": 60, "keep": 1},
                                       optimizer={"warmup_steps": 5, "learning_rate": 3e-3, "decay": "constant"},
                                       validation={"every": 60, "clips": 2}))
    train(config)
    lines = [json.loads(line) for line in (folder / "align" / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[0] == pytest.approx(0.5, abs=0.15) and sum(losses[-10:]) / 10 < losses[0] - 0.1
    (held_out,) = [line for line in lines if "validation/loss" in line]
    assert held_out["validation/zero"] == pytest.approx(0.5, abs=0.1)
    file = folder / "align" / "align.safetensors"
    said = trained_with(file_metadata(file, "alignment"))
    assert (said["method"], said["align_frames"], said["views"]) == ("exo2ego_syn/1", "all", "1 2")
    module = split_method(load_file(file)).align
    kept = load_file(checkpoint_folders(folder / "align")[-1] / "trainable.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in module.state_dict().items())


def test_the_first_frame_alone_can_be_learnt(folder, tiny) -> None:
    train(parse_config(align_values(tiny, folder, align={**SMALL, "frames": "first"})))
    values = views_values(tiny, folder, conditioning={"prior": "align", **PLAIN},
                          views={"align": str(folder / "align" / "align.safetensors")})
    config = parse_config(values)
    made, samples = make_trainable(config, torch.device("cpu")), CachedSamples(config, "train")
    torch.nn.init.zeros_(made.alignment.module.out.weight)
    torch.nn.init.constant_(made.alignment.module.out.bias[-1:], -9.0)  # sure of the mean latent
    torch.nn.init.constant_(made.alignment.module.out.bias[:-1], 3.0)
    sample = samples.load(samples.groups[0][0])
    ready = expecting(made.alignment, sample)
    assert ready.cond_ego[:, :, 0].mean() == pytest.approx(3.0, abs=1e-2) and not ready.cond_ego[:, :, 1:].any()
    assert torch.equal(expecting(made.alignment, ready).cond_ego, ready.cond_ego), "a prior is not expected twice"
    blind = expecting(made.alignment, replace(sample, ego=torch.randn_like(sample.ego)))
    assert torch.equal(blind.cond_ego, ready.cond_ego), "the truth is never seen"


@pytest.mark.parametrize("task", ["view_align", "views"])
def test_every_number_of_views_is_sampled(folder, tiny, task) -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed (the evaluate extra)")
    vae = Path(__file__).resolve().parents[3] / "models" / "vae" / "egox_standin_wan_vae.safetensors"
    more = {"steps": 1, "views": {"counts": [1, 3], "layout": "mosaic"},
            "validation": {"every": 1, "clips": 1, "sample_steps": 2, "vae": str(vae)}}
    values = align_values(tiny, folder, **more) if task == "view_align" else views_values(tiny, folder, **more)
    train(parse_config({**values, "output": str(folder / "run")}))
    (line,) = [line for line in map(json.loads, (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines())
               if "validation/psnr" in line]
    assert 0 < line["validation/psnr"] < 100
    names = sorted(file.stem for file in (folder / "run" / "samples" / "step-00000001").glob("*.mp4"))
    assert names == ["take4__cam0__0", "take4__cam0__0_3"]


@pytest.mark.parametrize("task", ["view_align", "views"])
def test_a_run_that_died_ends_like_one_that_did_not(folder, tiny, task) -> None:
    more = {"ema_decay": 0.9, "gradient_accumulation": 2, "checkpoint": {"every": 2, "keep": 2},
            "validation": {"every": 2, "clips": 1}, "steps": 4}

    def values(name: str) -> dict:
        own = {**more, "output": str(folder / name)}
        if task == "view_align":
            return align_values(tiny, folder, **own)
        return views_values(tiny, folder, views={"layout": "mosaic"}, conditioning=PLAIN, **own)

    class Killed(Exception):
        pass

    def dies(done: int, total: int, stage: str) -> None:
        if done == 3:
            raise Killed

    train(parse_config(values("whole")))
    with pytest.raises(Killed):
        train(parse_config(values("broken")), progress=dies)
    assert train(parse_config(values("broken"))).finished
    name = "align.safetensors" if task == "view_align" else "lora.safetensors"
    whole, broken = (load_file(folder / run / name) for run in ("whole", "broken"))
    assert whole.keys() == broken.keys() and all(torch.equal(whole[k], broken[k]) for k in whole)
    curves = [(folder / run / "metrics.jsonl").read_text("utf-8") for run in ("whole", "broken")]
    assert curves[0] == curves[1] and "validation/loss" in curves[0]


def test_one_file_holds_all_three_and_a_run_starts_from_it(folder, tiny, caplog) -> None:
    train(parse_config(align_values(tiny, folder)))
    align = folder / "align" / "align.safetensors"
    asked = {"conditioning": {"prior": "align", **PLAIN}, "views": {"align": str(align), "grey": 0.1}, "steps": 3}
    train(parse_config(views_values(tiny, folder, **asked)))
    file = folder / "run" / "lora.safetensors"
    state, metadata = load_file(file), file_metadata(file, "LoRA")
    parts, said = split_method(state), trained_with(metadata)
    assert parts.pose.outer.weight.abs().max() > 0 and parts.lora
    assert all(torch.equal(tensor, load_file(align)[f"egox_align.{name}"])
               for name, tensor in parts.align.state_dict().items())
    assert (said["method"], said["views"], said["layout"], said["pose"], said["prior"], said["align_frames"]) == (
        "exo2ego_syn/1", "1 2 3", "full", "rays", "align", "all")
    assert str(folder) not in json.dumps(metadata), "no path of the trainer's machine"
    told = inspect(file)
    assert told["pose injection"] and told["alignment"] and told["rank"] == "4"

    export(file, folder / "native.safetensors", "native")
    export(folder / "run", folder / "again.safetensors", "native")
    native, again = (load_file(folder / f"{name}.safetensors") for name in ("native", "again"))
    assert native.keys() == again.keys() and all(torch.equal(native[k], again[k]) for k in native)
    assert split_method(native).pose and any(k.startswith("diffusion_model.blocks.0") for k in native)
    with pytest.raises(EgoXInputError, match="egox_align, egox_pose"):
        export(file, folder / "fused.safetensors", "fused", base=folder / "base.safetensors")

    config = parse_config(views_values(tiny, folder, **asked, init_lora=str(file), output=str(folder / "next")))
    begun = make_trainable(config, torch.device("cpu")).tensors()
    assert all(torch.equal(begun[f"egox_pose.{k}"], v) for k, v in parts.pose.state_dict().items())
    assert any(v.abs().max() > 0 for k, v in begun.items() if ".lora_B." in k)
    assert "left out" not in caplog.text
    make_trainable(parse_config(tiny.settings(folder, init_lora=str(file))), torch.device("cpu"))
    assert "pose injection is left out" in caplog.text


def test_another_alignment_does_not_go_on_from_a_checkpoint(folder, tiny) -> None:
    train(parse_config(align_values(tiny, folder)))
    values = views_values(tiny, folder, conditioning={"prior": "align", **PLAIN}, steps=2,
                          views={"align": str(folder / "align" / "align.safetensors")})
    train(parse_config(values))
    train(parse_config(align_values(tiny, folder, steps=5)))
    with pytest.raises(EgoXInputError, match="alignment"):
        train(parse_config({**values, "steps": 3}))


def test_the_pose_injection_learns_at_its_own_rate(folder, tiny) -> None:
    config = parse_config(views_values(tiny, folder, views={"pose_rate": 7.0}))
    made = make_trainable(config, torch.device("cpu"))
    optimizer = make_optimizer(config.optimizer, made.groups(config.views.pose_rate))
    set_learning_rate(optimizer, 1e-3)
    lora, pose = optimizer.param_groups
    assert pose["lr"] == pytest.approx(7e-3) and lora["lr"] == 1e-3
    assert len(pose["params"]) == 4 and len(lora["params"]) + 4 == len(made.parameters)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["view_align", "views"])
def test_two_processes_give_the_curve_of_one(folder, tiny, launching, task) -> None:
    values = align_values(tiny, folder) if task == "view_align" else views_values(tiny, folder)
    launching.launch("accelerate_ddp.yaml", launching.write(folder, "two", {**values, "batch_size": 2}), 2)
    train(parse_config({**values, "batch_size": 4, "output": str(folder / "one")}))
    one, two = launching.losses(folder / "one"), launching.losses(folder / "two")
    assert len(one) == len(two) > 3 and max(abs(a - b) / a for a, b in zip(one, two, strict=True)) < 1e-3


@pytest.mark.slow
def test_compiled_blocks_have_the_same_gradients(folder, tiny, compiling) -> None:
    results = []
    for compiled in (False, True):
        values = views_values(tiny, folder)
        values["memory"] = {**values["memory"], "gradient_checkpointing": False, "compile": compiled}
        config = parse_config(values)
        samples, made = CachedSamples(config, "train"), moved(make_trainable(config, torch.device("cpu")))
        results.append([step_of(made, samples, group[0]) for group in samples.groups[:2]])
    for (loss, expected), (other, found) in zip(*results, strict=True):
        assert other == pytest.approx(loss, rel=1e-5)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("memory", [{"checkpoint_offload": True}, {"block_offload": True}])
def test_what_saves_memory_changes_no_gradient(folder, tiny, memory) -> None:
    results = []
    for more in ({"gradient_checkpointing": False}, memory):
        values = views_values(tiny, folder)
        values["memory"] = {**values["memory"], **more}
        config = parse_config(values)
        samples = CachedSamples(config, "train")
        results.append(step_of(moved(make_trainable(config, torch.device("cpu"))), samples, samples.groups[1][0]))
    (loss, expected), (other, found) = results
    assert other == loss
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-5)
    assert expected["egox_pose.inner.weight"].abs().max() > 0


@pytest.mark.parametrize(("change", "match"), [
    ({"views": {"counts": [1, 4]}}, "4 exo cameras"),
    ({"views": {"counts": [2, 2]}}, "twice"),
    ({"conditioning": {"prior": "align"}}, "views.align"),
    ({"conditioning": {"exo_clean": False}}, "exo_clean"),
    ({"base": None}, "needs a base"),
])
def test_what_does_not_fit_is_refused(folder, tiny, change, match) -> None:
    values = {**views_values(tiny, folder), **change}
    with pytest.raises(EgoXInputError, match=match):
        train(parse_config(values))


def test_caches_that_lack_something_are_refused(folder, tiny) -> None:
    tiny.make_views_cache(folder / "cache", tiles=False)
    with pytest.raises(EgoXInputError, match="--tiles"):
        CachedSamples(parse_config(views_values(tiny, folder, views={"layout": "mosaic"})), "train")
    tiny.make_cache(folder / "cache")
    with pytest.raises(EgoXInputError, match="--token-rays"):
        CachedSamples(parse_config(views_values(tiny, folder)), "train")
    assert CachedSamples(parse_config(tiny.settings(folder)), "train").groups[0], "EgoX trains on it as before"
