"""Calls of the model by the host: stacked and single, unequal prompts, several latents, memory."""

import collections

import pytest
import torch

from tools.rigs import model_rig


class Calls:
    """Notes the batch and size of every forward, outside (what the sampler sends) or inside (what
    the model gets)."""

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


def test_cond_and_uncond_in_one_call_or_in_two_give_the_same(rig):
    stacked = rig.patch()
    outside, inside = Calls(stacked), Calls(stacked, inside=True)
    together = rig.ksample(stacked, steps=2)
    assert outside.shapes == [(2, 36, 3, 4, 4)] * 2 and inside.shapes == [(2, 36, 3, 4, 12)] * 2

    single = rig.patch()
    calls = Calls(single)
    # Prompts of unequal length can't be stacked: the host calls twice.
    longer = [[torch.cat((text, text), dim=1), values] for text, values in rig.negative]
    apart = rig.ksample(single, steps=2, negative=longer)
    assert calls.shapes == [(1, 36, 3, 4, 4)] * 4
    assert apart.isfinite().all()
    # Doubling every key of a softmax changes nothing, so cross-attention to a prompt repeated twice
    # is the same.
    assert (apart - together).abs().max() < 1e-4


def test_several_latents_at_once_equal_one_after_the_other(rig):
    import comfy.sample

    latent = {"samples": rig.latent["samples"].repeat(2, 1, 1, 1, 1)}
    both = rig.ksample(rig.patch(), latent=latent)
    assert both.shape[0] == 2 and not torch.equal(both[0], both[1])
    noise = comfy.sample.prepare_noise(latent["samples"], 5)
    with torch.inference_mode():
        for i in range(2):
            one = comfy.sample.sample(
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
            assert (one - both[i : i + 1]).abs().max() < 1e-4


def test_memory_is_reserved_for_the_whole_canvas(rig, monkeypatch):
    """Equal to what the host itself would reserve for a latent of the whole canvas' width."""
    import comfy.model_management
    import comfy.sampler_helpers

    reservations = []
    inner = comfy.model_management.load_models_gpu

    def spy(models, memory_required=0, **kwargs):
        reservations.append(memory_required)
        return inner(models, memory_required=memory_required, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", spy)
    rig.ksample(rig.model, steps=1)
    unpatched = reservations[-1]
    patched = rig.patch()
    rig.ksample(patched, steps=1)
    conds = {"positive": [], "negative": []}
    needed, _ = comfy.sampler_helpers.estimate_memory(rig.model, [1, 16, 3, 4, 12], conds)
    assert reservations[-1] == pytest.approx(needed) and needed == pytest.approx(3 * unpatched)

    # The other decision: may cond and uncond go together? It sees the input [B, 16, t, h, w] and
    # the conditions' sizes.
    comfy.model_management.load_models_gpu([patched])
    shapes = collections.defaultdict(list, {"c_concat": [[1, 20, 3, 4, 4], [1, 20, 3, 4, 4]]})
    batching = patched.model.memory_required([2, 16, 3, 4, 4], cond_shapes=shapes)
    comfy.model_management.load_models_gpu([rig.model])
    assert batching == pytest.approx(rig.model.model.memory_required([2, 16, 3, 4, 12]))
    assert rig.model.model.memory_required([2, 16, 3, 4, 4], cond_shapes=shapes) < batching, (
        "the patch left no trace"
    )


def test_ambiguous_token_count_still_finds_the_self_attention(pack, repo_root):
    """Prompts as long as the canvas has tokens: self- and cross-attention can't be told apart by
    their length."""
    with torch.inference_mode():
        rig = model_rig.make_rig(pack, repo_root / "models", prompt_tokens=(36, 36))
    assert rig.size.frames == 9, "3 x 2 x (4 + 2) = 36 tokens"
    guided, none = rig.ksample(rig.patch()), rig.ksample(rig.patch(lambda_g=0.0))
    assert not torch.equal(guided, none)
    # The same prompt with every token doubled gives the same cross-attention, and no ambiguity.
    doubled = [
        [[text.repeat_interleave(2, dim=1), values] for text, values in cond]
        for cond in (rig.positive, rig.negative)
    ]
    clear = rig.ksample(rig.patch(), positive=doubled[0], negative=doubled[1])
    assert (guided - clear).abs().max() < 1e-4


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
    guided, none = rig.wan_sample(steps=2), rig.wan_sample(steps=2, lambda_g=0.0)
    assert guided.shape == rig.latent["samples"].shape and guided.isfinite().all()
    assert not torch.equal(guided, none)
