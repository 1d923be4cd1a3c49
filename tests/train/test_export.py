"""Test exported LoRA files."""

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
def run_folder(tiny_training, tmp_path_factory) -> Path:
    """Train a LoRA for a few steps."""
    folder = tmp_path_factory.mktemp("run")
    tiny_training.make_cache(folder / "cache")
    tiny_training.make_base(folder / "base.safetensors")
    tiny_training.train(folder, lora={"rank": 4, "alpha": 8, "targets": ["attn1", "attn2", "ffn"]})
    return folder


def model_output(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model(
            torch.randn(1, 36, 2, 4, 10, generator=generator),
            torch.tensor([500.0]),
            torch.randn(1, 4, 24, generator=generator),
            return_dict=False,
        )[0]


@pytest.fixture(scope="module")
def trained_output(run_folder, tiny_training) -> torch.Tensor:
    """Compute the model's output with the trained LoRA."""
    training_config = tiny_training.make_config(
        run_folder, lora={"rank": 4, "alpha": 8, "targets": ["attn1", "attn2", "ffn"]}
    )
    trainable = make_trainable(training_config, torch.device("cpu"))
    output_before = model_output(trainable.model)
    trainable.load_tensors(
        load_file(checkpoint_folders(run_folder / "run")[-1] / "trainable.safetensors"),
        "checkpoint",
    )
    output_after = model_output(trainable.model)
    assert float((output_after - output_before).abs().max()) > 1e-3
    return output_after


def test_released_format_gives_the_trained_output(run_folder, trained_output, tiny_training):
    lora_file = run_folder / "run" / "lora.safetensors"
    tensor_names = load_file(lora_file).keys()
    assert "transformer.blocks.0.attn1.to_out.0.lora_A.weight" in tensor_names and not any(
        "alpha" in name for name in tensor_names
    )
    base_model = load_base(run_folder / "base.safetensors")
    # As the released code loads it: B A with scale 1.
    plain_tensors = {k.removeprefix("transformer."): v for k, v in load_file(lora_file).items()}
    assert fuse(base_model, plain_tensors) == 2 * 10
    torch.testing.assert_close(model_output(base_model), trained_output, atol=1e-5, rtol=1e-5)
    config = tiny_training.make_config(
        run_folder, validation={"vae": str(run_folder / "my_vae.safetensors")}
    )
    metadata = training_metadata(config, base_hash="", step=1)
    assert "my_vae.safetensors" in metadata["egox.config"], "but no folder"
    assert str(run_folder.parent) not in str(metadata)


def test_merged_and_native_formats_give_the_trained_output(run_folder, trained_output, tmp_path):
    base_file, lora_file = run_folder / "base.safetensors", run_folder / "run" / "lora.safetensors"
    fused_file, native_file, again_file = (
        tmp_path / f"{name}.safetensors" for name in ("fused", "native", "again")
    )
    export(run_folder / "run", fused_file, "fused", base=base_file)
    torch.testing.assert_close(
        model_output(load_base(fused_file)), trained_output, atol=1e-5, rtol=1e-5
    )
    export(run_folder / "run", native_file, "native")
    native_tensors = load_file(native_file)
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in native_tensors
    assert float(native_tensors["diffusion_model.blocks.0.self_attn.q.alpha"]) == 4
    assert file_metadata(native_file, "LoRA")["egox.mask_mode"] == "released"
    base_model = load_base(base_file)
    fuse(base_model, read_lora(native_file)[0])
    torch.testing.assert_close(model_output(base_model), trained_output, atol=1e-5, rtol=1e-5)
    export(native_file, again_file, "released")  # and once more from file to file
    again, original = load_file(again_file), load_file(lora_file)
    assert again.keys() == original.keys()
    assert all(torch.allclose(again[k], original[k], atol=1e-7) for k in original)


def test_base_of_the_1_3b_model_is_trained_and_loaded_by_comfyui(
    tiny_training, tmp_path, comfy_host
):
    """Check that ComfyUI loads a base model and a LoRA with the architecture of the 1.3B model."""
    import comfy.lora
    import comfy.model_detection
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    tiny_training.make_cache(tmp_path / "cache", clips=3, image_dim=1280)
    base_file = tiny_training.make_base(tmp_path / "base.safetensors", dim=256, image_dim=1280)
    tiny_training.train(tmp_path, steps=2, batch_size=1)
    export(tmp_path / "run", tmp_path / "native.safetensors", "native")
    loaded_weights = load_file(base_file)
    detected_settings = comfy.model_detection.detect_unet_config(
        loaded_weights, "", file_metadata(base_file, "base")
    )
    model_settings = {**detected_settings, "freq_dim": 32}  # which the host takes to be 256
    model = WanModel(**model_settings, operations=comfy.ops.disable_weight_init)
    model.load_state_dict(loaded_weights)
    module_by_key = {
        f"diffusion_model.{k.removesuffix('.weight')}": f"diffusion_model.{k}"
        for k in loaded_weights
        if k.endswith(".weight")
    }
    assert (
        len(comfy.lora.load_lora(load_file(tmp_path / "native.safetensors"), module_by_key))
        == 2 * 10
    )
    export(tmp_path / "run", tmp_path / "fused.safetensors", "fused", base=base_file)
    assert load_base(tmp_path / "fused.safetensors").config.image_dim == 1280


def test_wrong_files_and_bases_are_refused(run_folder, tiny_training, tmp_path):
    lora_file = run_folder / "run" / "lora.safetensors"
    other_base = tiny_training.make_base(tmp_path / "other.safetensors", dim=64)
    with refuses("base that the LoRA was trained on"):
        export(lora_file, tmp_path / "x.safetensors", "fused", base=other_base)
    file_without_metadata = tmp_path / "anonymous.safetensors"  # without metadata the shapes tell
    save_file(load_file(lora_file), file_without_metadata)
    with refuses("anonymous.safetensors.*other.safetensors.*the model of this LoRA"):
        export(file_without_metadata, tmp_path / "x.safetensors", "fused", base=other_base)
    for source, target_form, target_file, message_pattern in (
        (lora_file, "fused", tmp_path / "x.safetensors", "no base"),
        (lora_file, "gguf", tmp_path / "x.safetensors", "one of"),
        (tmp_path, "native", tmp_path / "x.safetensors", "neither"),
        (lora_file, "native", lora_file, "lora.safetensors, which it is made of"),
    ):
        with refuses(message_pattern):
            export(source, target_file, target_form)
    with refuses("strength of the LoRA: got inf"):
        export(lora_file, tmp_path / "x.safetensors", "fused", base=other_base, strength=math.inf)
    with refuses(f"{other_base.name}, which it is made of"):
        export(lora_file, other_base, "fused", base=other_base)
    with refuses("LoRA"):
        inspect(run_folder / "base.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("from_file", [True, False])
def test_merged_base_names_its_lora(run_folder, tmp_path, from_file):
    lora_file, base_file = run_folder / "run" / "lora.safetensors", run_folder / "base.safetensors"
    merged_file = tmp_path / "fused.safetensors"
    export(lora_file if from_file else run_folder / "run", merged_file, "fused", base=base_file)
    merged_base = weight_file(merged_file, "base")
    assert merged_base.metadata[MERGED] == file_digest(lora_file)
    assert (
        merged_base.settings["egox.config"]
        == weight_file(lora_file, "LoRA").settings["egox.config"]
    )
    with refuses("into which a LoRA is merged already"):
        export(lora_file, tmp_path / "twice.safetensors", "fused", base=merged_file)


def test_native_export_warns_of_settings_in_metadata_alone(run_folder, tmp_path, capsys):
    lora_file, native_file = tmp_path / "alone.safetensors", tmp_path / "native.safetensors"
    lora_metadata = {
        **file_metadata(run_folder / "run" / "lora.safetensors", "LoRA"),
        "egox.exo": "alone",
    }
    for metadata, expected_text in (
        (lora_metadata, "trained with exo alone"),
        ({**lora_metadata, "egox.exo": "sees_ego"}, ""),
    ):
        save_file(load_file(run_folder / "run" / "lora.safetensors"), lora_file, metadata)
        assert main(["export", str(lora_file), str(native_file), "--form", "native"]) == 0
        assert expected_text in (printed := capsys.readouterr().out) and bool(expected_text) == (
            "trained" in printed
        )
