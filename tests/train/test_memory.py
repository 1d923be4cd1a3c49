"""Test that options to save memory don't change the gradients."""

import pytest
import torch
from safetensors.torch import load_file

from egox_train.train.config import load_config, parse_config
from egox_train.train.loop import train
from egox_train.train.loss import flow_loss
from egox_train.train.model import make_trainable
from egox_train.train.samples import draw_noise, sample_generator
from egox_train.wan.transformer import load_base, save_native
from tests.paths import ROOT
from tests.twins.exo_alone import TwoPasses


def loss_and_gradients(
    training_folder, tiny_training, changed_settings=None, *, two_passes=False, **memory_options
) -> tuple[float, dict[str, torch.Tensor]]:
    """Compute the loss and the gradients of one sample with given memory options."""
    settings = tiny_training.make_settings(training_folder, **changed_settings or {})
    settings["memory"] = {**settings["memory"], **memory_options}
    config = parse_config(settings)
    trainable = make_trainable(config, torch.device("cpu"))
    torch.manual_seed(0)  # of dropout
    # B starts at zero, which would hide A's gradients.
    for number, parameter in enumerate(trainable.parameters):
        with torch.no_grad():
            parameter.copy_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            )
    training_sample = tiny_training.load_first_sample(config)
    noise_latent = draw_noise(training_sample, sample_generator(0, 0, "noise"), False)
    dtype = trainable.compute_dtype
    model = TwoPasses(trainable.model, trainable.scope) if two_passes else trainable.model
    with torch.autocast("cpu", dtype=dtype, enabled=trainable.autocast):
        loss_result = flow_loss(
            model,
            trainable.scope,
            training_sample.to("cpu", dtype),
            noise_latent.to(dtype),
            torch.tensor([0.5]),
            config.conditioning,
        )
    loss_result.loss.backward()
    return float(loss_result.loss.detach()), {
        name: weight.grad.clone()
        for name, weight in trainable.model.named_parameters()
        if weight.requires_grad
    }


CHECKPOINT_OFFLOAD = {"checkpoint_offload": True}


@pytest.mark.parametrize(
    ("base", "memory"),
    [
        ("float32", {"gradient_checkpointing": True}),
        ("float32", {"block_offload": True}),
        ("float32", CHECKPOINT_OFFLOAD),
        ("float32", {"block_offload": True, **CHECKPOINT_OFFLOAD}),
        ("float8", CHECKPOINT_OFFLOAD),  # configs/train_48gb.yaml
        ("bfloat16", CHECKPOINT_OFFLOAD),
        ("bfloat16", {"block_offload": True}),
    ],
)
def test_memory_options_do_not_change_gradients(training_folder, tiny_training, base, memory):
    if base == "float8":
        pytest.importorskip("torchao", reason="torchao is not installed (part of the train extra)")
    dtype_options = {
        "base_dtype": base,
        "compute_dtype": "float32" if base == "float32" else "bfloat16",
    }
    loss, expected_gradients = loss_and_gradients(
        training_folder, tiny_training, gradient_checkpointing=base != "float32", **dtype_options
    )
    other_loss, other_gradients = loss_and_gradients(
        training_folder, tiny_training, **dtype_options, **memory
    )
    assert (
        other_loss == loss
        and other_gradients.keys() == expected_gradients.keys()
        and len(other_gradients) == 2 * 10 * 2
    )
    for name, gradient in expected_gradients.items():
        assert float(gradient.abs().max()) > 0
        # The same operations on the same numbers, run once more or on a copy; a LoRA's own sums are
        # float32.
        torch.testing.assert_close(other_gradients[name], gradient, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"task": "base_i2v"}, {"lora": {"rank": 4, "alpha": 4, "dropout": 0.3}}]
)
def test_offloading_keeps_gradients_of_full_bases_and_dropout(
    training_folder, tiny_training, settings
):
    (loss, expected), (other_loss, gradients) = (
        loss_and_gradients(training_folder, tiny_training, settings, checkpoint_offload=offload)
        for offload in (False, True)
    )
    assert other_loss == loss and gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize(
    ("base", "memory"),
    [
        ("float32", {"gradient_checkpointing": False}),
        ("float32", {}),
        ("bfloat16", CHECKPOINT_OFFLOAD),
        ("bfloat16", {"block_offload": True}),
        ("float8", CHECKPOINT_OFFLOAD),
    ],
)
def test_exo_alone_by_blocks_equals_two_passes_bit_for_bit(
    training_folder, tiny_training, base, memory
):
    if base == "float8":
        pytest.importorskip("torchao", reason="torchao is not installed (part of the train extra)")
    dtype_options = {
        "base_dtype": base,
        "compute_dtype": "float32" if base == "float32" else "bfloat16",
    }
    (loss, gradients), (expected_loss, expected_gradients) = (
        loss_and_gradients(
            training_folder,
            tiny_training,
            {"conditioning": {"exo": "alone"}},
            two_passes=two_passes,
            **dtype_options,
            **memory,
        )
        for two_passes in (False, True)
    )
    assert loss == expected_loss and gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        assert float(gradient.abs().max()) > 0 and torch.equal(gradient, expected_gradients[name])


@pytest.mark.slow  # compiles for a minute
def test_compiled_blocks_have_the_same_gradients(training_folder, tiny_training, compiling):
    loss, expected_gradients = loss_and_gradients(
        training_folder, tiny_training, gradient_checkpointing=False
    )
    other_loss, other_gradients = loss_and_gradients(
        training_folder, tiny_training, gradient_checkpointing=False, compile=True
    )
    assert (
        other_loss == pytest.approx(loss, rel=1e-5)
        and other_gradients.keys() == expected_gradients.keys()
    )
    for name, gradient in expected_gradients.items():  # the same float32 sums in another order
        torch.testing.assert_close(other_gradients[name], gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("base", "max_error"), [("float32", 0.06), ("bfloat16", 0.06), ("float8", 0.15)]
)
def test_low_precision_gives_nearly_the_same_gradients(
    training_folder, tiny_training, base, max_error
):
    if base == "float8":
        pytest.importorskip("torchao", reason="torchao is not installed (part of the train extra)")
    loss, expected = loss_and_gradients(training_folder, tiny_training)
    other_loss, gradients = loss_and_gradients(
        training_folder, tiny_training, compute_dtype="bfloat16", base_dtype=base
    )
    assert other_loss == pytest.approx(loss, rel=max_error / 3)
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    low, full = (
        torch.cat([x[name].flatten() for name in sorted(expected)]) for x in (gradients, expected)
    )
    # bfloat16 keeps 8 bits, e4m3 four: the direction must be the same, the digits can't be.
    assert float((low - full).norm() / full.norm()) < max_error


@pytest.mark.parametrize(
    ("file", "optimizer"),
    [("train_14b_24gb.yaml", "adamw8bit"), ("train_14b_16gb.yaml", "adamw")],
)
def test_configurations_for_small_gpus_train_identically(tmp_path, tiny_training, file, optimizer):
    """Check that training with the options for small GPUs gives the same losses."""
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes", reason="not installed (part of the train extra)")
    tiny_training.make_cache(tmp_path / "cache", image_dim=1280)
    wide_file = tiny_training.make_base(tmp_path / "wide.safetensors", dim=256, image_dim=1280)
    save_native(load_base(wide_file), tmp_path / "base.safetensors", {}, torch.bfloat16)

    def train_and_load(name: str, *more: str) -> dict[str, torch.Tensor]:
        settings = [
            *(f"base={tmp_path}/base.safetensors", f"cache={tmp_path}/cache", "steps=6"),
            *(f"output={tmp_path / name}", "lora.rank=32", "lora.alpha=32", "log.trackers=[]"),
            *("validation.every=0", "gradient_accumulation=2", f"optimizer.name={optimizer}"),
            *("optimizer.warmup_steps=2", "optimizer.learning_rate=1e-2", *more),
        ]
        train(load_config(ROOT / "configs" / file, settings))
        return load_file(tmp_path / name / "lora.safetensors")

    offload = ("memory.block_offload=false", "memory.checkpoint_offload=false")
    plain_tensors, offloaded_tensors = train_and_load("plain", *offload), train_and_load("small")
    assert max(float(x.abs().max()) for n, x in plain_tensors.items() if "lora_B" in n) > 1e-3
    assert plain_tensors.keys() == offloaded_tensors.keys()
    for name, tensor in plain_tensors.items():
        assert torch.equal(offloaded_tensors[name], tensor), name
