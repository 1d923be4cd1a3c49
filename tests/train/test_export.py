"""The LoRA's file: three forms that mean the same, readable by the released code's naming and by
the host."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.wan import MERGED, file_digest, weight_file
from egox_train.cli.front import main
from egox_train.train.checkpoints import checkpoint_folders
from egox_train.train.export import export, inspect
from egox_train.train.lora import fuse, read_lora, training_metadata
from egox_train.train.model import make_trainable
from egox_train.wan.transformer import load_base
from egox_train.wan.weights import file_metadata
from tests.refusals import refuses


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> Path:
    """Run a short training with alpha twice the rank, which is where files usually go wrong (quirks
    41)."""
    folder = tmp_path_factory.mktemp("run")
    tiny.make_cache(folder / "cache")
    tiny.make_base(folder / "base.safetensors")
    tiny.train(folder, lora={"rank": 4, "alpha": 8, "targets": ["attn1", "attn2", "ffn"]})
    return folder


def output_of(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model(
            torch.randn(1, 36, 2, 4, 10, generator=generator),
            torch.tensor([500.0]),
            torch.randn(1, 4, 24, generator=generator),
            return_dict=False,
        )[0]


@pytest.fixture(scope="module")
def trained_output(run, tiny) -> torch.Tensor:
    """Compute the output of the model with the adapter as it was trained."""
    config = tiny.config(run, lora={"rank": 4, "alpha": 8, "targets": ["attn1", "attn2", "ffn"]})
    trainable = make_trainable(config, torch.device("cpu"))
    before = output_of(trainable.model)
    trainable.put(
        load_file(checkpoint_folders(run / "run")[-1] / "trainable.safetensors"), "checkpoint"
    )
    after = output_of(trainable.model)
    assert float((after - before).abs().max()) > 1e-3
    return after


def test_a_file_that_is_passed_on_tells_no_folder(run, tiny):
    config = tiny.config(run, validation={"vae": str(run / "my_vae.safetensors")})
    metadata = training_metadata(config, base_hash="", step=1)
    assert "my_vae.safetensors" in metadata["egox.config"] and str(run.parent) not in str(metadata)


def test_the_released_file_means_what_was_trained(run, trained_output):
    file = run / "run" / "lora.safetensors"
    names = load_file(file).keys()
    assert "transformer.blocks.0.attn1.to_out.0.lora_A.weight" in names and not any(
        "alpha" in n for n in names
    )
    model = load_base(run / "base.safetensors")
    # As the released code loads it: B A with scale 1.
    plain = {k.removeprefix("transformer."): v for k, v in load_file(file).items()}
    assert fuse(model, plain) == 2 * 10
    torch.testing.assert_close(output_of(model), trained_output, atol=1e-5, rtol=1e-5)


def test_fused_and_native_files_mean_the_same(run, trained_output, tmp_path):
    export(run / "run", tmp_path / "fused.safetensors", "fused", base=run / "base.safetensors")
    fused = load_base(tmp_path / "fused.safetensors")
    torch.testing.assert_close(output_of(fused), trained_output, atol=1e-5, rtol=1e-5)
    export(run / "run", tmp_path / "native.safetensors", "native")
    native = load_file(tmp_path / "native.safetensors")
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in native
    assert float(native["diffusion_model.blocks.0.self_attn.q.alpha"]) == 4
    metadata = file_metadata(tmp_path / "native.safetensors", "LoRA")
    assert metadata["egox.mask_mode"] == "released"
    tensors, _ = read_lora(tmp_path / "native.safetensors")
    model = load_base(run / "base.safetensors")
    fuse(model, tensors)
    torch.testing.assert_close(output_of(model), trained_output, atol=1e-5, rtol=1e-5)
    # And once more from file to file.
    export(tmp_path / "native.safetensors", tmp_path / "again.safetensors", "released")
    ours, first = (
        load_file(tmp_path / "again.safetensors"),
        load_file(run / "run" / "lora.safetensors"),
    )
    assert ours.keys() == first.keys() and all(
        torch.allclose(ours[k], first[k], atol=1e-7) for k in first
    )


def test_a_base_of_the_1_3bs_form_is_trained_and_taken(tiny, tmp_path, comfy_host):
    """Heads of 128, image embedding, keys for it: read by its shapes, and its LoRA found whole by
    the host's loader."""
    import comfy.lora
    import comfy.model_detection
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    tiny.make_cache(tmp_path / "cache", clips=3, image_dim=1280)
    base = tiny.make_base(tmp_path / "base.safetensors", dim=256, image_dim=1280)
    tiny.train(tmp_path, steps=2, batch_size=1)
    export(tmp_path / "run", tmp_path / "native.safetensors", "native")
    weights = load_file(base)
    detected = comfy.model_detection.detect_unet_config(weights, "", file_metadata(base, "base"))
    form = {**detected, "freq_dim": 32}  # which the host takes to be 256
    model = WanModel(**form, operations=comfy.ops.disable_weight_init)
    model.load_state_dict(weights)
    keys = {
        f"diffusion_model.{k.removesuffix('.weight')}": f"diffusion_model.{k}"
        for k in weights
        if k.endswith(".weight")
    }
    assert len(comfy.lora.load_lora(load_file(tmp_path / "native.safetensors"), keys)) == 2 * 10
    export(tmp_path / "run", tmp_path / "fused.safetensors", "fused", base=base)
    assert load_base(tmp_path / "fused.safetensors").config.image_dim == 1280


def test_wrong_files_and_bases_are_refused(run, tiny, tmp_path):
    lora = run / "run" / "lora.safetensors"
    other = tiny.make_base(tmp_path / "other.safetensors", dim=64)
    with refuses("base that the LoRA was trained on"):
        export(lora, tmp_path / "x.safetensors", "fused", base=other)
    anonymous = tmp_path / "anonymous.safetensors"  # without metadata the shapes tell
    save_file(load_file(lora), anonymous)
    with refuses("anonymous.safetensors.*other.safetensors.*the model of this LoRA"):
        export(anonymous, tmp_path / "x.safetensors", "fused", base=other)
    for form, base, match in (("fused", None, "no base"), ("gguf", None, "one of")):
        with refuses(match):
            export(lora, tmp_path / "x.safetensors", form, base=base)
    with refuses("LoRA"):
        inspect(run / "base.safetensors")
    with refuses("neither"):
        export(tmp_path, tmp_path / "x.safetensors", "native")
    with refuses("strength of the LoRA: got inf"):
        export(lora, tmp_path / "x.safetensors", "fused", base=other, strength=math.inf)
    for source, target, base in ((lora, lora, None), (lora, other, other)):
        with refuses(f"{target.name}, which it is made of"):
            export(source, target, "fused" if base else "native", base=base)
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("from_file", [True, False])
def test_a_fused_base_says_what_is_in_it(run, tmp_path, from_file):
    lora, base = run / "run" / "lora.safetensors", run / "base.safetensors"
    fused = tmp_path / "fused.safetensors"
    export(lora if from_file else run / "run", fused, "fused", base=base)
    content = weight_file(fused, "base")
    assert content.metadata[MERGED] == file_digest(lora)
    assert content.settings["egox.config"] == weight_file(lora, "LoRA").settings["egox.config"]
    with refuses("into which a LoRA is merged already"):
        export(lora, tmp_path / "twice.safetensors", "fused", base=fused)


def test_what_only_metadata_say_is_told_with_a_file_for_other_loaders(run, tmp_path, capsys):
    lora, native = tmp_path / "alone.safetensors", tmp_path / "native.safetensors"
    lora_metadata = {**file_metadata(run / "run" / "lora.safetensors", "LoRA"), "egox.exo": "alone"}
    for metadata, words in (
        (lora_metadata, "trained with exo alone"),
        ({**lora_metadata, "egox.exo": "sees_ego"}, ""),
    ):
        save_file(load_file(run / "run" / "lora.safetensors"), lora, metadata)
        assert main(["export", str(lora), str(native), "--form", "native"]) == 0
        assert words in (printed := capsys.readouterr().out) and bool(words) == (
            "trained" in printed
        )
