"""Test the results of the patched model under ComfyUI's sampler."""

import torch


def test_geometry_changes_the_result_and_lambda_0_equals_no_geometry(rig):
    guided_latent = rig.ksample(rig.patch())
    unguided_latent = rig.ksample(rig.patch(lambda_g=0.0))
    assert (guided_latent - unguided_latent).abs().max() > 1e-2
    assert torch.equal(rig.ksample(rig.patch(gga_mode="off")), unguided_latent)
    assert not torch.equal(rig.ksample(rig.patch(lambda_g=1.0)), guided_latent)

    # The same patch without any attention override: what "the model without geometry" means.
    patch_without_geometry = rig.patch(lambda_g=0.0, depth=None, trajectory=None)
    assert torch.equal(rig.ksample(patch_without_geometry), unguided_latent)


def test_patching_leaves_the_original_model_unchanged(rig):
    latent_before = rig.ksample(rig.model)
    weights = {
        name: weight.clone()
        for name, weight in rig.model.model.diffusion_model.state_dict().items()
    }
    wrappers = {kind: dict(keys) for kind, keys in rig.model.wrappers.items()}
    rig.ksample(rig.patch())
    assert torch.equal(rig.ksample(rig.model), latent_before), (
        "the unpatched model gives the same bits after a patched run"
    )
    assert all(
        torch.equal(weight, weights[name])
        for name, weight in rig.model.model.diffusion_model.state_dict().items()
    )
    assert (
        rig.model.wrappers == wrappers
        and "optimized_attention_override" not in rig.model.model_options["transformer_options"]
    )
    assert rig.model.model.memory_usage_factor_conds == (), (
        "the memory patches left with the patched model"
    )


def test_two_patched_models_do_not_affect_each_other(rig):
    strong_model, weak_model = rig.patch(lambda_g=3.0), rig.patch(lambda_g=0.5)
    separate_latents = [rig.ksample(model) for model in (strong_model, weak_model)]
    alternating_latents = [rig.ksample(model) for model in (strong_model, weak_model, strong_model)]
    assert all(map(torch.equal, alternating_latents, [*separate_latents, separate_latents[0]]))
