"""Compare model outputs with the released code's stored numbers, through ComfyUI's Wan model and
the pack's nodes."""

import html
import importlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.rigs import standins
from tools.rigs.golden_model import load_golden, load_golden_model, select_prefix
from tools.rigs.model_rig import import_core_module

from .fidelity_core import Check, largest_difference

WRAPPER_KEY = "egox_fidelity"
STEPS, CFG, FLOW_SHIFT = 6, 5.0, 3.0


def import_nodes(pack: ModuleType, name: str) -> ModuleType:
    """Import a module of the pack's ``nodes`` package."""
    return importlib.import_module(f"{pack.__name__}.nodes.{name}")


def geometry_of(pack: ModuleType, tensors: dict[str, Tensor]) -> Any:
    return import_core_module(pack, "gga").tokens_from_latents(
        tensors["in.point_vecs_per_frame"], tensors["in.cam_rays"]
    )


def forward(
    pack: ModuleType, model: Any, golden_tensors: dict[str, Tensor], lambda_g: float
) -> Tensor:
    """Run a small model in ComfyUI on stored inputs, with guided attention.

    The whole result is [1, 16, t, h, w].

    The golden input is random in every channel, the exo half's noise and condition too, so the
    widening wrapper is given both. A wrapper further in sees the whole output before it is cropped.
    """
    import comfy.model_management
    from comfy.patcher_extension import WrappersMP

    hidden_states, t = golden_tensors["in.hidden_states"], golden_tensors["in.timestep"]
    w_exo = golden_tensors["in.point_vecs_per_frame"].shape[-2]
    exo_states, ego_states = hidden_states[..., :w_exo], hidden_states[..., w_exo:]
    gga_geometry = None
    if lambda_g > 0:
        options = import_core_module(pack, "gga").GgaOptions(lambda_g=lambda_g)
        gga_geometry = import_nodes(pack, "patch.forward").GeometryGuidance(
            geometry_of(pack, golden_tensors), options, "auto"
        )
    widening_wrapper = import_nodes(pack, "patch.forward").WideningWrapper(
        exo_states[:, :16], exo_states[:, 16:20], gga_geometry, exo_states[:, 20:]
    )
    output_tensors: list[Tensor] = []

    def record_output(executor, *args, **kwargs):
        output_tensors.append(executor(*args, **kwargs))
        return output_tensors[-1]

    patched_model = model.clone()
    patched_model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "egox", widening_wrapper)
    patched_model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY, record_output)
    comfy.model_management.load_models_gpu([patched_model])
    # The host hands wrappers over when it prepares sampling; here no sampler runs.
    options = {
        **patched_model.model_options["transformer_options"],
        "wrappers": patched_model.wrappers,
    }
    device = patched_model.load_device
    patched_model.model.apply_model(
        ego_states[:, :16].to(device),
        t.double().to(device) / 1000,
        c_concat=ego_states[:, 16:].to(device),
        c_crossattn=golden_tensors["in.text_embeds"].to(device),
        clip_fea=golden_tensors["in.image_embeds"].to(device),
        transformer_options=options,
    )
    return output_tensors[0].float().cpu()


def transformer_checks(pack: ModuleType, model: Any) -> Iterator[Check]:
    """Compare a tiny transformer's outputs with the released code's stored outputs, without and
    with guided attention."""
    golden_tensors = load_golden("tiny_transformer")
    for name, lambda_g in (
        ("no_gga", 0.0),
        ("gga_lambda_0.5", 0.5),
        ("gga_lambda_1.0", 1.0),
        ("gga_lambda_3.0", 3.0),
    ):
        expected_output = golden_tensors[f"out.{name}"]
        output_difference = largest_difference(
            forward(pack, model, golden_tensors, lambda_g), expected_output
        ) / float(expected_output.std())
        yield Check(f"transformer, {name}", output_difference, 1e-4)


def lora_checks(pack: ModuleType, model: Any) -> Iterator[Check]:
    """Compare a tiny model's outputs with a LoRA at two strengths with the released code's stored
    outputs."""
    golden_inputs, golden_lora = load_golden("tiny_transformer"), load_golden("tiny_lora")
    with tempfile.TemporaryDirectory() as folder:
        for lora_tag in ("r4a4", "r4a8"):
            path = Path(folder) / f"{lora_tag}.safetensors"
            save_file(
                select_prefix(golden_lora, f"{lora_tag}.file."), path, metadata={"format": "pt"}
            )
            for strength in (1.0, 0.5):
                patched_model, _ = import_nodes(pack, "lora").load_lora(model, path, strength)
                for run_name, lambda_g in (("no_gga", 0.0), ("gga3", 3.0)):
                    expected_output = golden_lora[f"{lora_tag}.out.fused_{strength}.{run_name}"]
                    output_difference = largest_difference(
                        forward(pack, patched_model, golden_inputs, lambda_g), expected_output
                    ) / float(expected_output.std())
                    yield Check(
                        f"LoRA {lora_tag} at strength {strength}, {run_name}",
                        output_difference,
                        1e-4,
                    )
    # The last LoRA must be gone again from the weights that the clones share.
    expected_output = golden_inputs["out.no_gga"]
    output_difference = largest_difference(
        forward(pack, model, golden_inputs, 0.0), expected_output
    ) / float(expected_output.std())
    yield Check("transformer after the LoRAs", output_difference, 1e-4)


def denoise_checks(pack: ModuleType, model: Any) -> Iterator[Check]:
    """Compare the latents of six denoising steps in ComfyUI with the released code's stored
    latents."""
    golden_tensors = load_golden("denoise_6step")
    for run_name, lambda_g in (("no_gga", 0.0), ("gga3", 3.0)):
        expected_latents = [
            golden_tensors[f"{run_name}.latents_after_step.{i}"] for i in range(STEPS)
        ]
        w_exo = golden_tensors["in.point_vecs_per_frame"].shape[-2]
        our_latents = denoise(pack, model, golden_tensors, lambda_g)
        latent_difference = max(
            largest_difference(x, y[..., w_exo:])
            for x, y in zip(our_latents, expected_latents, strict=True)
        )
        yield Check(f"6-step CFG denoise, {run_name}", latent_difference, 1e-3)


def denoise(
    pack: ModuleType, model: Any, golden_tensors: dict[str, Tensor], lambda_g: float
) -> list[Tensor]:
    """Denoise stored ego latents [1, 16, t, h, w_ego] in ComfyUI, and return the latents after each
    step."""
    import comfy.clip_vision
    import comfy.samplers

    latents_module, types_module = (
        import_core_module(pack, "wan"),
        import_core_module(pack, "types"),
    )
    w_exo = golden_tensors["in.point_vecs_per_frame"].shape[-2]
    exo_latent, noise = (
        golden_tensors["in.initial_latent"][..., :w_exo],
        golden_tensors["in.initial_latent"][..., w_exo:],
    )
    prior_latent = latents_module.denormalise_latent(
        golden_tensors["in.condition_20ch"][:, 4:, :, :, w_exo:]
    )
    _, _, t, h, w_ego = noise.shape
    canvas = types_module.Canvas(
        exo_latent=latents_module.denormalise_latent(exo_latent),
        prior_latent=prior_latent,
        frames=4 * t - 3,
        exo_size=(8 * w_exo, 8 * h),
        ego_size=(8 * w_ego, 8 * h),
    )
    options = import_core_module(pack, "gga").GgaOptions(lambda_g=lambda_g)
    geometry = geometry_of(pack, golden_tensors) if options.biases else None
    patched_model, _ = import_nodes(pack, "patch.patch").patch_with_geometry(
        model, canvas, geometry, options
    )
    image_embedding = comfy.clip_vision.Output()
    image_embedding.penultimate_hidden_states = golden_tensors["in.image_embeds"]
    named_conditions = {
        "concat_latent_image": prior_latent,
        "concat_mask": torch.ones(1, 1, t, h, w_ego),
        "clip_vision_output": image_embedding,
    }
    guider = comfy.samplers.CFGGuider(patched_model)
    guider.set_conds(
        *(
            [[golden_tensors[f"in.{name}"], dict(named_conditions)]]
            for name in ("text_embeds", "negative_text_embeds")
        )
    )
    guider.set_cfg(CFG)
    sampler, sigmas = (
        import_nodes(pack, "released_sampling")
        .EgoXReleasedSampling.execute(STEPS, FLOW_SHIFT)
        .result
    )
    latents_before_steps: list[Tensor] = []
    final_latent = guider.sample(
        noise,
        torch.zeros_like(noise),
        sampler,
        sigmas,
        disable_pbar=True,
        callback=lambda i, denoised, x, total: latents_before_steps.append(x.float().cpu().clone()),
    )
    return [*latents_before_steps[1:], latents_module.normalise_latent(final_latent.float().cpu())]


def embedding_picture_checks() -> Iterator[Check]:
    """Compare ComfyUI's picture preprocessing for CLIP with that of the released code."""
    import comfy.clip_model
    import comfy.sample

    golden_tensors = load_golden("pack_mask")
    picture = golden_tensors["clip.preproc_in_56x154"].movedim(0, -1)[None]
    our_picture = comfy.clip_model.clip_preprocess(picture, size=224)[..., ::4, ::4]
    mean_difference = float(
        (our_picture - golden_tensors["clip.preproc_inference_every4"]).abs().mean()
    )
    yield Check("image embedding: picture for CLIP vision (mean difference)", mean_difference, 0.02)
    noise = comfy.sample.prepare_noise(torch.zeros_like(golden_tensors["in.ego_noise"]), 1234)
    yield Check(
        "noise of seed 1234", largest_difference(noise, golden_tensors["in.ego_noise"]), 0.0
    )


def noise_checks(pack: ModuleType) -> Iterator[Check]:
    """Compare the noise that seeds give with the released code's bfloat16 noise."""
    latent = torch.zeros(1, 16, 13, 56, 56)
    for seed in (42, 846514):
        generator = torch.Generator("cpu").manual_seed(seed)
        expected_noise = torch.randn(
            latent.shape, dtype=torch.bfloat16, generator=generator
        ).float()
        noise = import_nodes(pack, "host.noise").ReleasedNoise(seed)
        yield Check(
            f"noise, released, seed {seed}",
            largest_difference(noise.generate_noise({"samples": latent}), expected_noise),
            0.0,
        )
        embedding_noise = import_nodes(pack, "host.noise").first_noise(latent, seed, "released")
        yield Check(
            f"noise, released, seed {seed}: picture embedding",
            largest_difference(embedding_noise, expected_noise),
            0.0,
        )


def text_checks(pack: ModuleType) -> Iterator[Check]:
    """Compare the token ids of prompts in EgoX Text with the released code's stored ids.

    The vocabulary is of single characters, umT5's being out of reach; the rules are what is
    compared."""
    import sentencepiece
    from comfy.text_encoders.wan import WanT5Tokenizer

    vocabulary = standins.train_tokenizer()
    tokenizer = WanT5Tokenizer(tokenizer_data={"spiece_model": vocabulary})
    sentencepiece_processor = sentencepiece.SentencePieceProcessor(
        model_proto=vocabulary.numpy().tobytes()
    )
    clip = SimpleNamespace(
        tokenize=tokenizer.tokenize_with_weights, encode_from_tokens_scheduled=lambda tokens: tokens
    )
    caption_section = "a person (left) pours tea &amp; stirs it.\n"
    for name, prompt in (
        ("short", "[Exo view] tea (hot:1.5)\n[Ego view] hands"),
        ("long", f"[Exo view] {caption_section * 8} [Ego view] {caption_section * 8}"),
    ):
        text_node = import_nodes(pack, "text").EgoXText
        tokens, empty_embedding, _, _, note = text_node.execute(
            clip, prompt, "", "as written"
        ).result
        (token_pairs,), (empty_token_pairs,) = tokens["umt5xxl"], empty_embedding["umt5xxl"]
        all_ids = sentencepiece_processor.encode(
            " ".join(html.unescape(html.unescape(prompt)).split())
        )
        expected_ids = [*all_ids[:511], 1] + [0] * (511 - len(all_ids[:511]))
        yield Check(f"text, {name}: tokens", float(abs(len(token_pairs) - 512)), 0.0)
        yield Check(
            f"text, {name}: ids, cut where the released ones are",
            largest_id_difference(token_pairs, expected_ids),
            0.0,
        )
        yield Check(
            f"text, {name}: emphasis", max(abs(weight - 1.0) for _, weight in token_pairs), 0.0
        )
        yield Check(
            f"text, {name}: empty negative",
            largest_id_difference(empty_token_pairs, [1] + [0] * 511),
            0.0,
        )
        yield Check(
            f"text, {name}: the note tells of a cut",
            float(("cut off, inside [Ego view]" in note) != (len(all_ids) > 511)),
            0.0,
        )


def largest_id_difference(row: list[tuple[int, float]], expected: list[int]) -> float:
    """Compute the largest difference of two lists of token ids, infinite if their lengths
    differ."""
    if len(row) != len(expected):
        return math.inf
    return float(
        max(
            abs(token - expected_token)
            for (token, _), expected_token in zip(row, expected, strict=True)
        )
    )


def model_checks(pack: ModuleType) -> Iterator[Check]:
    """Run all comparisons with the released code that need ComfyUI's model."""
    with torch.inference_mode():
        model = load_golden_model(pack)
        yield from transformer_checks(pack, model)
        yield from lora_checks(pack, model)
        yield from denoise_checks(pack, model)
        yield from embedding_picture_checks()
        yield from noise_checks(pack)
        yield from text_checks(pack)
