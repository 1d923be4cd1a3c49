"""Memory options change nothing but memory."""

import pytest
import torch
from safetensors.torch import load_file

from egox_core.progress import no_progress
from egox_train.train.config import load_config, parse_config
from egox_train.train.loop import train
from egox_train.train.loss import flow_loss
from egox_train.train.model import make_trainable
from egox_train.train.samples import noise_for, sample_generator
from egox_train.wan.transformer import load_base, save_native
from tests.paths import ROOT
from tests.refusals import refuses


def gradients(workplace, tiny, more=None, **memory) -> tuple[float, dict[str, torch.Tensor]]:
    """Compute loss and gradients of one fixed sample under some memory options, with ``more`` for
    other settings."""
    values = tiny.settings(workplace, **more or {})
    values["memory"] = {**values["memory"], **memory}
    config = parse_config(values)
    trainable = make_trainable(config, torch.device("cpu"))
    torch.manual_seed(0)  # of dropout
    # B starts at zero, which would hide A's gradients.
    for number, parameter in enumerate(trainable.parameters):
        with torch.no_grad():
            parameter.copy_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            )
    sample = tiny.first_sample(config)
    noise = noise_for(sample, sample_generator(0, 0, "noise"), False)
    dtype = trainable.compute_dtype
    with torch.autocast("cpu", dtype=dtype, enabled=trainable.autocast):
        result = flow_loss(
            trainable.model,
            trainable.scope,
            sample.to("cpu", dtype),
            noise.to(dtype),
            torch.tensor([0.5]),
            config.conditioning,
        )
    result.loss.backward()
    return float(result.loss.detach()), {
        n: p.grad.clone() for n, p in trainable.model.named_parameters() if p.requires_grad
    }


OFFLOADED = {"checkpoint_offload": True}


@pytest.mark.parametrize(
    ("base", "memory"),
    [
        ("float32", {"gradient_checkpointing": True}),
        ("float32", {"block_offload": True}),
        ("float32", OFFLOADED),
        ("float32", {"block_offload": True, **OFFLOADED}),
        ("float8", OFFLOADED),  # configs/train_48gb.yaml
        ("bfloat16", OFFLOADED),
        ("bfloat16", {"block_offload": True}),
    ],
)
def test_what_saves_memory_changes_no_gradient(workplace, tiny, base, memory):
    if base == "float8":
        pytest.importorskip("torchao", reason="torchao is not installed (part of the train extra)")
    how = {"base_dtype": base, "compute_dtype": "float32" if base == "float32" else "bfloat16"}
    loss, expected = gradients(workplace, tiny, gradient_checkpointing=base != "float32", **how)
    other, other_gradients = gradients(workplace, tiny, **how, **memory)
    assert (
        other == loss
        and other_gradients.keys() == expected.keys()
        and len(other_gradients) == 2 * 10 * 2
    )
    for name, gradient in expected.items():
        assert float(gradient.abs().max()) > 0
        # The same operations on the same numbers, run once more or on a copy; a LoRA's own sums are
        # float32.
        torch.testing.assert_close(other_gradients[name], gradient, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    "more", [{"task": "base_i2v"}, {"lora": {"rank": 4, "alpha": 4, "dropout": 0.3}}]
)
def test_whole_bases_and_dropout_have_the_same_gradients_too(workplace, tiny, more):
    (loss, expected), (other, other_gradients) = (
        gradients(workplace, tiny, more, checkpoint_offload=parked) for parked in (False, True)
    )
    assert other == loss and other_gradients.keys() == expected.keys()
    assert all(torch.equal(other_gradients[name], gradient) for name, gradient in expected.items())


@pytest.mark.slow  # compiles for a minute
def test_compiled_blocks_have_the_same_gradients(workplace, tiny, compiling):
    loss, expected = gradients(workplace, tiny, gradient_checkpointing=False)
    other, other_gradients = gradients(workplace, tiny, gradient_checkpointing=False, compile=True)
    assert other == pytest.approx(loss, rel=1e-5) and other_gradients.keys() == expected.keys()
    for name, gradient in expected.items():  # the same float32 sums in another order
        torch.testing.assert_close(other_gradients[name], gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("memory", "bar"),
    [
        ({"base_dtype": "float32"}, 0.06),
        ({"base_dtype": "bfloat16"}, 0.06),
        ({"base_dtype": "float8"}, 0.15),
    ],
)
def test_fewer_bits_give_nearly_the_same_gradients(workplace, tiny, memory, bar):
    if memory["base_dtype"] == "float8":
        pytest.importorskip("torchao", reason="torchao is not installed (part of the train extra)")
    loss, expected = gradients(workplace, tiny)
    other, other_gradients = gradients(workplace, tiny, **{"compute_dtype": "bfloat16", **memory})
    assert other == pytest.approx(loss, rel=bar / 3)
    ours, theirs = (
        torch.cat([g[n].float().flatten() for n in sorted(expected)])
        for g in (other_gradients, expected)
    )
    # bfloat16 keeps 8 bits, e4m3 four: the direction must be the same, the digits can't be.
    assert float((ours - theirs).norm() / theirs.norm()) < bar
    assert all(g.dtype == torch.float32 for g in other_gradients.values())


@pytest.mark.parametrize("name", ["block_offload", "checkpoint_offload"])
def test_options_that_need_each_other(workplace, tiny, name):
    with refuses("gradient_checkpointing"):
        gradients(workplace, tiny, **{name: True}, gradient_checkpointing=False)


@pytest.mark.parametrize(
    ("file", "optimizer"),
    [("train_14b_24gb.yaml", "adamw8bit"), ("train_14b_16gb.yaml", "adamw")],
)
def test_the_14b_on_small_cards_trains_as_without_its_switches(tmp_path, tiny, file, optimizer):
    """The shipped files on a tiny bfloat16 base of the 14B's form: 20 steps equal the plain run's bit
    for bit, also where the run is stopped and goes on from its checkpoint."""
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes", reason="not installed (part of the train extra)")
    tiny.make_cache(tmp_path / "cache", image_dim=1280)
    base = load_base(tiny.make_base(tmp_path / "wide.safetensors", dim=256, image_dim=1280))
    save_native(base, tmp_path / "base.safetensors", {}, torch.bfloat16)

    def trained(name: str, *more: str, progress=no_progress) -> dict[str, torch.Tensor]:
        places = {"base": "base.safetensors", "cache": "cache", "output": name}
        settings = [
            *(f"{key}={tmp_path / place}" for key, place in places.items()),
            *("steps=20", "lora.rank=32", "lora.alpha=32", "log.trackers=[]", "checkpoint.every=7"),
            *("validation.every=0", "gradient_accumulation=2", f"optimizer.name={optimizer}"),
            *("optimizer.warmup_steps=2", "optimizer.learning_rate=1e-2", *more),
        ]
        train(load_config(ROOT / "configs" / file, settings), progress=progress)
        return load_file(tmp_path / name / "lora.safetensors")

    def kill(step: int, *_) -> None:
        if step == 11:
            raise KeyboardInterrupt

    plain = trained("plain", "memory.block_offload=false", "memory.checkpoint_offload=false")
    small = trained("small")
    with pytest.raises(KeyboardInterrupt):
        trained("killed", progress=kill)
    resumed = trained("killed")
    assert max(float(x.abs().max()) for n, x in plain.items() if "lora_B" in n) > 1e-3
    for name, tensor in plain.items():
        assert torch.equal(small[name], tensor) and torch.equal(resumed[name], tensor), name
