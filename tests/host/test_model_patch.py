"""The patched model under the host's sampler: what it equals, what it leaves alone."""

import torch


def test_geometry_changes_the_result_and_zero_takes_the_plain_path(rig):
    guided, none = rig.ksample(rig.patch()), rig.ksample(rig.patch(lambda_g=0.0))
    assert (guided - none).abs().max() > 1e-2
    assert torch.equal(rig.ksample(rig.patch(gga_mode="off")), none)
    assert not torch.equal(rig.ksample(rig.patch(lambda_g=1.0)), guided)

    # The same patch without any attention override: what "the model without geometry" means.
    wide = rig.patch(lambda_g=0.0, depth=None, trajectory=None)
    assert torch.equal(rig.ksample(wide), none)


def test_the_model_that_came_in_is_never_changed(rig):
    before = rig.ksample(rig.model)
    weights = {k: v.clone() for k, v in rig.model.model.diffusion_model.state_dict().items()}
    wrappers = {kind: dict(keys) for kind, keys in rig.model.wrappers.items()}
    rig.ksample(rig.patch())
    assert torch.equal(rig.ksample(rig.model), before), (
        "the unpatched model gives the same bits after a patched run"
    )
    assert all(
        torch.equal(v, weights[k]) for k, v in rig.model.model.diffusion_model.state_dict().items()
    )
    assert (
        rig.model.wrappers == wrappers
        and "optimized_attention_override" not in rig.model.model_options["transformer_options"]
    )
    assert rig.model.model.memory_usage_factor_conds == (), (
        "the memory patches left with the patched model"
    )


def test_patching_twice_is_patching_once(rig):
    once = rig.patch()
    twice = rig.patch(rig.patch(lambda_g=1.0))
    assert torch.equal(rig.ksample(twice), rig.ksample(once))
    from comfy.patcher_extension import WrappersMP

    for kind in (WrappersMP.DIFFUSION_MODEL, WrappersMP.OUTER_SAMPLE, WrappersMP.PREPARE_SAMPLING):
        kinds = [type(wrapper) for wrapper in twice.get_wrappers(kind, "egox")]
        assert kinds and len(set(kinds)) == len(kinds), "an earlier patch left its wrapper"


def test_two_patched_models_in_one_graph_keep_apart(rig):
    strong, weak = rig.patch(lambda_g=3.0), rig.patch(lambda_g=0.5)
    alone = [rig.ksample(model) for model in (strong, weak)]
    mixed = [rig.ksample(model) for model in (strong, weak, strong)]
    assert all(map(torch.equal, mixed, [*alone, alone[0]]))
