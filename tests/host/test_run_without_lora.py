"""Test that a run without EgoX's LoRA is told, and one with it in any form isn't."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.prompts import (
    inputs_of_type,
    node_id_of_type,
    run_successfully,
    shrink_graph,
)
from tools.merge_lora import merge
from tools.rigs import model_rig, standins
from tools.setup.demo import DECODE, read_node_text

from .extras import extra_nodes
from .test_model_weights import GGUF_FORM

WARNING = "without EgoX's LoRA this model makes noise"


@pytest.fixture
def lora_file(repo_root):
    return repo_root / "models" / standins.SHIPPED["lora"]


@pytest.fixture
def distil_file(rig, lora_file, tmp_path):
    """Write a LoRA that also changes biases and norms, as step-distilled ones do."""
    convert = model_rig.import_core_module(rig.pack, "wan.lora_conversion").convert_lora
    tensors = dict(convert(load_file(lora_file)).tensors)
    tensors["diffusion_model.blocks.0.norm3.diff"] = torch.full((128,), 0.01)
    tensors["diffusion_model.blocks.0.self_attn.q.diff_b"] = torch.full((128,), 0.01)
    save_file(tensors, tmp_path / "distil.safetensors")
    return tmp_path / "distil.safetensors"


def read_patch_note(rig, model) -> str:
    inputs = {"depth": rig.depth, "trajectory": rig.trajectory, **rig.gga_defaults}
    node_output = rig.nodes("model_patch").EgoXModelPatch.execute(model, rig.canvas, **inputs)
    return node_output.ui.as_dict()["text"][0]


def load_in_comfyui(model, file, strength: float = 1.0):
    import comfy.sd
    import comfy.utils

    tensors = comfy.utils.load_torch_file(str(file))
    return comfy.sd.load_lora_for_models(model, None, tensors, strength, 0.0)[0]


def test_no_lora_and_a_distilled_one_alone_are_told(rig, distil_file, lora_file, caplog):
    load_lora = rig.nodes("lora").load_lora
    note = read_patch_note(rig, rig.model)
    assert note.startswith("no LoRA; ") and WARNING in note and "add EgoX LoRA" in note
    assert WARNING in caplog.text
    for model in (
        load_lora(rig.model, distil_file, 1.0)[0],
        load_in_comfyui(rig.model, distil_file),
    ):
        note = read_patch_note(rig, model)
        assert WARNING in note and "its only LoRA makes the steps fewer" in note
    caplog.clear()
    model = load_lora(load_lora(rig.model, distil_file, 1.0)[0], lora_file, 0.8)[0]
    note = read_patch_note(rig, model)
    assert f"LoRA distil.safetensors at strength 1, {lora_file.name} at strength 0.8; " in note
    assert WARNING not in note + caplog.text and "more than once" not in note
    note = read_patch_note(rig, load_lora(model, lora_file, 0.2)[0])
    assert f"{lora_file.name} is added more than once" in note


@torch.inference_mode()
def test_each_form_of_a_lora_is_named_and_not_told(
    rig, lora_file, repo_root, tmp_path, comfy_host, caplog
):
    load_lora = rig.nodes("lora").load_lora
    merged_file = tmp_path / "merged.safetensors"
    base_file = repo_root / "models" / standins.SHIPPED["transformer"]
    # ComfyUI 0.26.0 doesn't know the default form.
    merge(base_file, lora_file, merged_file, form="float8_e4m3fn")
    graph = {"5": {"class_type": "EgoXLoadLora", "inputs": {"lora_name": lora_file.name}}}
    # The saved file has no settings, so it must be a form that ComfyUI assumes.
    standins.save_standin(tmp_path / "base.safetensors", standins.make_transformer(GGUF_FORM)[0])
    saver = extra_nodes("nodes_model_merging").ModelSave()
    saver.output_dir = str(tmp_path)
    saver.save(model_rig.load_transformer(tmp_path / "base.safetensors"), "saved", prompt=graph)
    (saved_file,) = tmp_path.glob("saved*.safetensors")
    words_of_model = {
        f"LoRA {lora_file.name} at strength 1; ": load_lora(rig.model, lora_file, 1.0)[0],
        f"LoRA {lora_file.name} at strength 0; ": load_lora(rig.model, lora_file, 0.0)[0],
        "LoRA of ComfyUI's own loader at strength 0.5; ": load_in_comfyui(
            rig.model, converted(rig, lora_file, tmp_path), 0.5
        ),
        f"LoRA in its file: {base_file.name} + 1 x": model_rig.load_transformer(merged_file),
        "LoRA in its file, which a graph with a LoRA saved; ": model_rig.load_transformer(
            saved_file
        ),
    }
    for words, model in words_of_model.items():
        note = read_patch_note(rig, model)
        assert note.startswith(words) and WARNING not in note, note
    assert WARNING not in caplog.text
    metadata = {"prompt": json.dumps({"1": {"class_type": "UNETLoader"}})}
    save_file(load_file(saved_file), tmp_path / "plain.safetensors", metadata)
    assert WARNING in read_patch_note(
        rig, model_rig.load_transformer(tmp_path / "plain.safetensors")
    )


def converted(rig, lora_file, tmp_path):
    """Write a LoRA in the names that ComfyUI's own loader reads."""
    convert = model_rig.import_core_module(rig.pack, "wan.lora_conversion").convert_lora
    save_file(dict(convert(load_file(lora_file)).tensors), tmp_path / "native.safetensors")
    return tmp_path / "native.safetensors"


def test_the_report_of_the_ego_video_names_its_lora(client, load_workflow):
    """Check the text of Decode Ego Half with the LoRA, and with its node bypassed."""
    prompt = shrink_graph(load_workflow("egox_demo"), frames=1)
    lora_inputs = inputs_of_type(prompt, "EgoXLoadLora")
    lora_inputs["strength"] = 0.75
    text = read_node_text(run_successfully(client, prompt), prompt, DECODE)
    assert f"LoRA {lora_inputs['lora_name']} at strength 0.75" in text.splitlines()
    lora_id = node_id_of_type(prompt, "EgoXLoadLora")
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if value == [lora_id, 0]:
                node["inputs"][name] = lora_inputs["model"]
    del prompt[lora_id]
    outcome = run_successfully(client, prompt)
    assert "no LoRA" in read_node_text(outcome, prompt, DECODE).splitlines()
    assert WARNING in read_node_text(outcome, prompt, "EgoXWanSampler")
