"""Test the patched model with stacked conditions, several latents and reserved memory."""

import collections

import pytest
import torch

from tools.rigs import model_rig


class ForwardRecorder:
    """Record the input shape of every forward of the model."""

    def __init__(self, model, inside: bool = False) -> None:
        from comfy.patcher_extension import WrappersMP

        self.shapes: list[tuple[int, ...]] = []
        wrappers = model.wrappers.setdefault(WrappersMP.DIFFUSION_MODEL, {})
        if inside:
            wrappers["inside"] = [self]
        else:
            model.wrappers[WrappersMP.DIFFUSION_MODEL] = {"outside": [self], **wrappers}

    def __call__(self, executor, x, *args, **kwargs):
        self.shapes.append(tuple(x.shape))
        return executor(x, *args, **kwargs)


def test_conditions_in_one_call_or_in_two_give_the_same(rig):
    stacked_model = rig.patch()
    outer_recorder, inner_recorder = (
        ForwardRecorder(stacked_model),
        ForwardRecorder(stacked_model, inside=True),
    )
    stacked_latent = rig.ksample(stacked_model, steps=2)
    assert (
        outer_recorder.shapes == [(2, 36, 3, 4, 4)] * 2
        and inner_recorder.shapes == [(2, 36, 3, 4, 12)] * 2
    )

    single_model = rig.patch()
    forward_recorder = ForwardRecorder(single_model)
    # Prompts of unequal length can't be stacked: the host calls twice.
    longer_prompt = [[torch.cat((text, text), dim=1), values] for text, values in rig.negative]
    single_latent = rig.ksample(single_model, steps=2, negative=longer_prompt)
    assert forward_recorder.shapes == [(1, 36, 3, 4, 4)] * 4
    assert single_latent.isfinite().all()
    # Doubling every key of a softmax changes nothing, so cross-attention to a prompt repeated twice
    # is the same.
    assert (single_latent - stacked_latent).abs().max() < 1e-4


def test_several_latents_at_once_equal_one_after_the_other(rig):
    import comfy.sample

    latent = {"samples": rig.latent["samples"].repeat(2, 1, 1, 1, 1)}
    batch_latents = rig.ksample(rig.patch(), latent=latent)
    assert batch_latents.shape[0] == 2
    assert not torch.equal(batch_latents[0], batch_latents[1])
    noise = comfy.sample.prepare_noise(latent["samples"], 5)
    with torch.inference_mode():
        for i in range(2):
            single_latent = comfy.sample.sample(
                rig.patch(),
                noise[i : i + 1],
                3,
                3.0,
                "euler",
                "simple",
                rig.positive,
                rig.negative,
                rig.latent["samples"],
                seed=5,
            )
            assert (single_latent - batch_latents[i : i + 1]).abs().max() < 1e-4


def test_memory_is_reserved_for_the_whole_canvas(rig, monkeypatch):
    """Check that sampling reserves memory for both halves of the canvas."""
    import comfy.model_management
    import comfy.sampler_helpers

    reservations = []
    load_models_gpu = comfy.model_management.load_models_gpu

    def record_reservation(models, memory_required=0, **kwargs):
        reservations.append(memory_required)
        return load_models_gpu(models, memory_required=memory_required, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", record_reservation)
    rig.ksample(rig.model, steps=1)
    unpatched_bytes = reservations[-1]
    patched_model = rig.patch()
    rig.ksample(patched_model, steps=1)
    conds = {"positive": [], "negative": []}
    canvas_bytes, _ = comfy.sampler_helpers.estimate_memory(rig.model, [1, 16, 3, 4, 12], conds)
    assert reservations[-1] == pytest.approx(canvas_bytes) and canvas_bytes == pytest.approx(
        3 * unpatched_bytes
    )

    # The other decision: may cond and uncond go together? It sees the input [B, 16, t, h, w] and
    # the conditions' sizes.
    comfy.model_management.load_models_gpu([patched_model])
    condition_shapes = collections.defaultdict(
        list, {"c_concat": [[1, 20, 3, 4, 4], [1, 20, 3, 4, 4]]}
    )
    batch_bytes = patched_model.model.memory_required(
        [2, 16, 3, 4, 4], cond_shapes=condition_shapes
    )
    comfy.model_management.load_models_gpu([rig.model])
    assert batch_bytes == pytest.approx(rig.model.model.memory_required([2, 16, 3, 4, 12]))
    assert (
        rig.model.model.memory_required([2, 16, 3, 4, 4], cond_shapes=condition_shapes)
        < batch_bytes
    ), "the patch left no trace"


def test_prompts_as_long_as_the_canvas_are_not_taken_for_self_attention(pack, repo_root):
    with torch.inference_mode():
        rig = model_rig.make_rig(pack, repo_root / "models", prompt_tokens=(36, 36))
    assert rig.size.frames == 9, "3 x 2 x (4 + 2) = 36 tokens"
    guided_latent = rig.ksample(rig.patch())
    unguided_latent = rig.ksample(rig.patch(lambda_g=0.0))
    assert not torch.equal(guided_latent, unguided_latent)
    # The same prompt with every token doubled gives the same cross-attention, and no ambiguity.
    doubled_prompts = [
        [[text.repeat_interleave(2, dim=1), values] for text, values in conditioning]
        for conditioning in (rig.positive, rig.negative)
    ]
    doubled_latent = rig.ksample(
        rig.patch(), positive=doubled_prompts[0], negative=doubled_prompts[1]
    )
    assert (guided_latent - doubled_latent).abs().max() < 1e-4


@pytest.mark.parametrize(
    "size",
    [
        model_rig.RigSize(frames=1, exo_width=16, height=16),
        model_rig.RigSize(frames=5, exo_width=80, height=48),
        model_rig.RigSize(frames=13, exo_width=48, height=80),
    ],
)
def test_any_size_of_16_px_and_4n_plus_1_frames(pack, repo_root, size):
    rig = model_rig.random_rig(pack, repo_root / "models", size)
    guided_latent = rig.wan_sample(steps=2)
    unguided_latent = rig.wan_sample(steps=2, lambda_g=0.0)
    assert guided_latent.shape == rig.latent["samples"].shape
    assert guided_latent.isfinite().all()
    assert not torch.equal(guided_latent, unguided_latent)
