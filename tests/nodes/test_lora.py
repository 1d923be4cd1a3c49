"""EgoX LoRA matches and reports the released naming, and refuses misfits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tools.convert_lora import main as convert_lora_tool
from tools.rigs import model_rig, standins


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    with torch.inference_mode():
        return model_rig.make_rig(pack, repo_root / "models")


@pytest.fixture(scope="module")
def released(repo_root) -> Path:
    return repo_root / "models" / standins.SHIPPED["lora"]


def load(rig, path: Path, strength: float = 1.0, **factors):
    return rig.nodes("lora").load_lora(rig.model, path, strength, **factors)


def weights_with(model) -> dict[str, torch.Tensor]:
    """Read the transformer's weights as the host computes with them once the patched model is
    loaded."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_full_load=True)
    return {k: v.clone() for k, v in model.model.diffusion_model.state_dict().items()}


def apart(model, other) -> float:
    weights = weights_with(other)
    return max(float((v - weights[k]).abs().max()) for k, v in weights_with(model).items())


def test_lora_changes_the_result_before_or_after_the_patch(rig, released):
    none = rig.ksample(rig.patch())
    lora, report = load(rig, released)
    assert "32 tensors matched, 0 unmatched; rank 4; alpha/rank 1; 16 weights changed" in report
    before = rig.ksample(rig.patch(lora))
    after, _ = rig.nodes("lora").load_lora(rig.patch(), released, 1.0)
    assert not torch.equal(before, none)
    assert torch.equal(rig.ksample(after), before)
    assert not torch.equal(rig.ksample(rig.patch(load(rig, released, 0.5)[0])), before)
    assert torch.equal(rig.ksample(rig.patch(load(rig, released, 0.0)[0])), none)


def test_two_loras_stack_and_alpha_scales(rig, released, tmp_path):
    (full_model, _), (half, _) = load(rig, released), load(rig, released, 0.5)
    assert apart(rig.nodes("lora").load_lora(half, released, 0.5)[0], full_model) < 1e-6
    state = load_file(released)
    for key in list(state):
        if key.endswith("lora_A.weight"):
            state[key.replace("lora_A.weight", "alpha")] = torch.tensor(8.0)
    save_file(state, tmp_path / "alpha.safetensors")
    doubled, report = load(rig, tmp_path / "alpha.safetensors", 0.5)
    assert "alpha/rank 2" in report and apart(doubled, full_model) < 1e-6


@pytest.fixture
def native(rig, released) -> dict[str, torch.Tensor]:
    convert = model_rig.core(rig.pack, "wan.lora_keys").convert_lora
    return dict(convert(load_file(released)).tensors)


@pytest.mark.parametrize("rank", [2, 4])
def test_peft_s_folder_is_scaled_as_it_was_trained(rig, native, tmp_path, rank):
    names = {key: key.replace("diffusion_model.", "base_model.model.") for key in native}
    state = {names[key]: x for key, x in native.items()}
    for key in [key for key in state if rank == 2]:
        state[key] = (state[key][:2] if "lora_A" in key else state[key][:, :2]).contiguous()
    file = tmp_path / "adapter_model.safetensors"
    save_file(state, file)
    plain, report = load(rig, file)
    assert "alpha/rank 1;" in report and "adapter_config.json" in report
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 3 * rank}
    file.with_name("adapter_config.json").write_text(json.dumps(settings), "utf-8")
    scaled, report = load(rig, file)
    assert "alpha/rank 3;" in report and "warning" not in report
    assert apart(load(rig, file, 1 / 3)[0], plain) < 1e-6 < apart(scaled, plain)


def test_a_smaller_lora_is_the_same_here_and_in_the_stock_loader(rig, released, tmp_path):
    """Its rank differs between layers, and its alpha with it."""
    import comfy.sd

    file = tmp_path / "small.safetensors"
    assert convert_lora_tool([str(released), str(file), "--energy", ".8"]) == 0
    ours, report = load(rig, file)
    assert "32 tensors matched" not in report and "48 tensors matched, 0 unmatched" in report
    assert "rank 4, 3" in report and "alpha/rank 1;" in report
    stock, _ = comfy.sd.load_lora_for_models(rig.model, None, load_file(file), 1.0, 0.0)
    assert apart(ours, stock) == 0 < apart(ours, load(rig, released)[0]) < apart(ours, rig.model)


@pytest.mark.parametrize("product", ["lokr", "hada", "oft", "boft", "glora", "diff"])
def test_the_stock_loader_takes_what_ours_sends_there(rig, tmp_path, product):
    import comfy.sd

    part = "lora_unet_blocks_0_self_attn_k"
    width = rig.model.get_model_object("diffusion_model").dim
    small, large = torch.full((4, 4), 0.1), torch.full((width // 4, width // 4), 0.1)
    up, down = torch.full((width, 4), 0.1), torch.full((4, width), 0.1)
    turns = torch.linspace(-0.5, 0.5, 4 * width).reshape(width // 4, 4, 4)
    of_product = {
        "lokr": {"lokr_w1": small, "lokr_w2": large},
        "hada": {"hada_w1_a": up, "hada_w1_b": down, "hada_w2_a": up, "hada_w2_b": down},
        "oft": {"oft_blocks": turns, "alpha": torch.tensor(0.5)},
        "boft": {"oft_blocks": turns[None], "alpha": torch.tensor(0.5)},
        "glora": {"a1.weight": down, "a2.weight": up, "b1.weight": down, "b2.weight": up},
        "diff": {"diff": torch.full((width, width), 0.1)},
    }
    state = {f"{part}.{name}": x.clone() for name, x in of_product[product].items()}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="load it with ComfyUI's own Load LoRA"):
        load(rig, tmp_path / "other.safetensors")
    of_diffusers = "transformer.blocks.0.attn1.to_k"
    save_file({key.replace(part, of_diffusers): x for key, x in state.items()}, tmp_path / "d.sft")
    with pytest.raises(ValueError, match="python tools/convert_lora.py IN OUT, to names as"):
        load(rig, tmp_path / "d.sft")
    stock, _ = comfy.sd.load_lora_for_models(rig.model, None, state, 1.0, 0.0)
    assert apart(stock, rig.model) > 1e-4


def test_dora_is_as_the_stock_loader_has_it(rig, native, tmp_path):
    import comfy.lora

    for key in [key for key in native if key.endswith("lora_B.weight")]:
        size = len(native[key])
        native[key.replace("lora_B.weight", "dora_scale")] = torch.linspace(0.5, 2, size)[:, None]
    save_file(native, tmp_path / "dora.safetensors")
    stock = rig.model.clone()
    keys = comfy.lora.model_lora_keys_unet(stock.model, {})
    stock.add_patches(comfy.lora.load_lora(native, keys), 0.5)
    ours, report = load(rig, tmp_path / "dora.safetensors", 0.5)
    assert "48 tensors matched, 0 unmatched" in report
    assert apart(ours, stock) == 0


def test_differences_of_step_distilled_loras_are_taken_too(rig, native, tmp_path):
    """They hold low-rank pairs in native names, and whole differences of norms and biases."""
    native["diffusion_model.blocks.0.norm3.diff"] = torch.full((128,), 0.25)
    native["diffusion_model.blocks.0.self_attn.q.diff_b"] = torch.full((128,), 0.5)
    save_file(native, tmp_path / "distilled.safetensors")
    patched, report = load(rig, tmp_path / "distilled.safetensors", 2.0)
    assert "2 more by names of the host" in report
    plain, weights = weights_with(rig.model), weights_with(patched)
    for name, change in (("blocks.0.norm3.weight", 0.5), ("blocks.0.self_attn.q.bias", 1.0)):
        assert (weights[name] - plain[name] - change).abs().max() < 1e-6


def test_another_lora_under_the_release_s_name_is_told(rig, released, tmp_path):
    """diffusers calls every LoRA so, and others have trained this method at other ranks."""
    named = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(load_file(released), named)
    assert (
        "warning: not EgoX's own file, which has rank 256" in (report := load(rig, named)[1])
        and "rank 4" in report
    )

    form = standins.TransformerForm(image_embedding=False)
    tensors = standins.random_tensors(standins.lora_shapes(form, 256), 1)
    save_file(tensors, named)
    assert "warning" not in (report := load(rig, named)[1]) and "made for Wan 2.1 I2V" in report
    save_file(
        {key: value for key, value in tensors.items() if "blocks.0.attn1.to_q" not in key}, named
    )
    assert "other parts: blocks.0.self_attn.q" in load(rig, named)[1]


def test_metadata_sets_auto_inputs_and_contradictions_are_said(rig, released, tmp_path, caplog):
    metadata = {
        "egox.mask_mode": "paper",
        "egox.gga_mode": "paper",
        "egox.rays": "exact",
        "egox.lambda_g": "1",
        "egox.position_scale": "0.5",
    }
    save_file(load_file(released), tmp_path / "paper.safetensors", metadata)
    save_file(load_file(released), tmp_path / "trainer.safetensors", {"egox.mask_mode": "trainer"})
    model, report = load(rig, tmp_path / "paper.safetensors")
    assert "positions times 0.5" in report
    positions = model.model_options["transformer_options"]["rope_options"]
    assert (positions["scale_x"], positions["scale_y"], positions["scale_t"]) == (0.5, 0.5, 1.0)
    exo, prior = model_rig.clip_pictures(rig.size)
    node = rig.nodes("conditioning").EgoXConditioning
    with torch.inference_mode():
        canvas = node.execute(
            rig.positive, rig.negative, rig.vae, exo, prior, -1, model=model
        ).result[3]
    assert canvas.mask_mode == "paper"

    def note(canvas, **changes) -> str:
        out = rig.nodes("model_patch").EgoXModelPatch.execute(
            model,
            canvas,
            depth=rig.depth,
            trajectory=rig.trajectory,
            **{**rig.gga_defaults, **changes},
        )
        return out.ui.as_dict()["text"][0]

    followed = note(canvas, gga_mode="auto", lambda_g=1.0)
    assert "geometry paper, λ_g 1, rays exact" in followed and "trained" not in followed
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    against = note(rig.canvas)
    for words in (
        "mask_mode paper, not released",
        "gga_mode paper, not released",
        "lambda_g 1, not 3.0",
    ):
        assert f"trained with {words}" in against
        assert [r for r in caplog.records if r.levelname == "WARNING" and words in r.getMessage()]
    _, report = rig.nodes("lora").load_lora(model, tmp_path / "trainer.safetensors", 1.0)
    assert "egox.mask_mode contradicts" in report


@pytest.mark.parametrize(
    ("first", "second", "result"), [(0.5, 1, 1), (1, 0.5, 0.5), (0.5, None, 0.5), (0.5, 0.25, 0.25)]
)
def test_the_later_of_two_loras_sets_the_positions(rig, released, tmp_path, first, second, result):
    model = rig.model
    for scale in (first, second):
        file = tmp_path / f"{scale}.safetensors"
        metadata = {} if scale is None else {"egox.position_scale": f"{scale:g}"}
        save_file(load_file(released), file, metadata)
        model, _ = rig.nodes("lora").load_lora(model, file, 1.0)
    positions = rig.patch(model).model_options["transformer_options"]["rope_options"]
    assert positions["scale_x"] == positions["scale_y"] == result


def test_the_stock_loader_hands_on_what_a_lora_was_trained_with(rig, native, released, tmp_path):
    import comfy.sd

    metadata = {"egox.exo": "alone", "egox.position_scale": "0.5", "egox.rays": "exact"}
    save_file(load_file(released), tmp_path / "ours.safetensors", metadata)
    ours, _ = load(rig, tmp_path / "ours.safetensors")
    try:
        stock, _ = comfy.sd.load_lora_for_models(
            rig.model, None, native, 1, 0, lora_metadata=metadata
        )
    except TypeError:
        pytest.skip("this host hands no metadata on")
    stock_latent, our_latent = (rig.ksample(rig.patch(model)) for model in (stock, ours))
    assert torch.equal(stock_latent, our_latent) and not torch.equal(
        our_latent, rig.ksample(rig.patch())
    )


def test_a_merge_is_told_and_can_be_cancelled(rig, released):
    """Half a merge is taken back: the next load is whole."""
    import comfy.model_management as management

    (rig.model.detach(), messages := [])
    patched, _ = load(rig, released)
    with rig.nodes("host.steps").told_merging(patched, messages.append):
        expected = weights_with(patched)
    assert messages[::15] == [f"merging the LoRA, weight {n} of 16" for n in (1, 16)]
    patched.detach()
    plain = weights_with(rig.model)
    weaker, _ = load(rig, released, 0.5)

    def cancel(text: str) -> None:
        if "weight 5 " in text:
            management.interrupt_current_processing()

    with (
        rig.nodes("host.steps").told_merging(weaker, cancel),
        pytest.raises(management.InterruptProcessingException),
    ):
        weights_with(weaker)
    for model, right in ((rig.model, plain), (patched, expected)):
        weights = weights_with(model)
        assert all(torch.equal(weights[k], v) for k, v in right.items())
