"""The patched model under the host's sampler: what it equals, what it leaves alone."""

import pytest
import torch

from tools.rigs import model_rig


def full_width_euler(
    rig, guide: float, sigmas: torch.Tensor, seed: int, cfg: float
) -> torch.Tensor:
    """The released loop, written out: the whole canvas is sampled, and the exo half's velocity is
    set to zero.

    Packs the 36 channels itself and calls the host's transformer without any of the pack's
    wrappers; with ``guide`` it takes the dense reference bias."""
    import comfy.latent_formats
    import comfy.model_management
    import comfy.sample

    gga_bias, options = (
        model_rig.core(rig.pack, "gga.bias"),
        model_rig.core(rig.pack, "gga.options"),
    )
    geometry = model_rig.core(rig.pack, "gga.geometry").gga_geometry(
        rig.depth,
        rig.trajectory,
        frames=rig.size.frames,
        exo_size=rig.canvas.exo_size,
        ego_size=rig.canvas.ego_size,
    )
    comfy.model_management.load_models_gpu([rig.model])
    transformer = rig.model.model.diffusion_model
    space = comfy.latent_formats.Wan21().process_in
    exo, prior = space(rig.canvas.exo_latent), space(rig.canvas.prior_latent)
    t, h, w_exo, w_ego = rig.canvas.latent_grid
    mask = torch.zeros(1, 4, t, h, w_exo + w_ego)
    mask[:, :, 0, :, :w_exo] = 1
    condition = torch.cat((exo, prior), dim=-1)
    x = torch.cat(
        (exo, sigmas[0] * comfy.sample.prepare_noise(rig.latent["samples"], seed)), dim=-1
    )

    def override(func, q, k, v, heads, mask=None, **kwargs):
        if q.shape[1] != k.shape[1]:
            return func(q, k, v, heads, mask=mask, **kwargs)
        return gga_bias.reference_attention(
            q, k, v, heads, geometry, options.GgaOptions(mode="released", lambda_g=guide)
        )

    def velocity(text: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        extra = {"optimized_attention_override": override} if guide else {}
        return transformer(
            torch.cat((x, mask, condition), dim=1),
            sigma[None] * 1000,
            context=text,
            transformer_options=extra,
        )

    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        cond, uncond = velocity(rig.positive[0][0], sigma), velocity(rig.negative[0][0], sigma)
        v = uncond + cfg * (cond - uncond)
        v[..., :w_exo] = 0
        x = x + (after - sigma) * v
    assert torch.equal(x[..., :w_exo], exo)
    return comfy.latent_formats.Wan21().process_out(x[..., w_exo:])


@pytest.mark.parametrize("guide", [0.0, 3.0])
def test_euler_equals_a_hand_written_full_width_loop(rig, guide):
    import comfy.samplers

    patched = rig.patch(lambda_g=guide)
    sigmas = comfy.samplers.calculate_sigmas(
        patched.get_model_object("model_sampling"), "simple", 4
    )
    with torch.inference_mode():
        expected = full_width_euler(rig, guide, sigmas, seed=5, cfg=3.0)
    got = rig.ksample(patched, steps=4)
    # float32; another order of summation in attention and guidance. Values have a standard
    # deviation of about 5.
    assert (got - expected).abs().max() < 1e-4
    assert expected.std() > 1


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
    alone = [rig.ksample(strong), rig.ksample(weak)]
    mixed = [rig.ksample(strong), rig.ksample(weak), rig.ksample(strong)]
    assert (
        torch.equal(mixed[0], alone[0])
        and torch.equal(mixed[1], alone[1])
        and torch.equal(mixed[2], alone[0])
    )


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"rays": "exact"}, True),
        ({"gga_mode": "power", "lambda_g": 1.0}, True),
        ({"gga_mode": "paper", "lambda_g": 1.0}, True),
        ({"backend": "sdpa"}, False),
    ],
)
def test_each_choice_has_an_effect(rig, changes, differs):
    whole, none = rig.ksample(rig.patch()), rig.ksample(rig.patch(lambda_g=0.0))
    part = rig.ksample(rig.patch(**changes))
    assert torch.equal(part, whole) is not differs
    assert not torch.equal(part, none)
