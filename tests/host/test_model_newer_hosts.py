"""Newer hosts that can't be installed here, emulated: each changed row of the table in
docs/model-path.md."""

import pytest
import torch


class Container:
    """A tensor that whoever takes it owns alone, as hosts hand to attention since 0.35."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor: torch.Tensor | None = tensor

    def take(self) -> torch.Tensor:
        tensor, self.tensor = self.tensor, None
        assert tensor is not None, "taken twice"
        return tensor


@pytest.mark.parametrize("changes", [{}, {"lambda_g": 0.0}, {"recompute_exo": 2}])
def test_containers_and_a_preferred_attention(rig, monkeypatch, changes):
    """An override gets plain tensors, unless it says that it takes containers; EgoX's says no such
    thing."""
    import comfy.ldm.wan.model as wan

    plain = rig.ksample(rig.patch(**changes))
    host, calls = wan.optimized_attention, []

    def newer(q, k, v, heads, *args, preferred_attention=None, **kwargs):
        containers = [Container(x) for x in (q, k, v)]
        override = (kwargs.get("transformer_options") or {}).get("optimized_attention_override")
        calls.append(override)
        assert not hasattr(override, "container_function")
        return host(*(one.take() for one in containers), heads, *args, **kwargs)

    monkeypatch.setattr(wan, "optimized_attention", newer)
    assert torch.equal(rig.ksample(rig.patch(**changes)), plain)
    assert len(calls) > 0 and any(calls) is (changes.get("lambda_g") != 0.0)


@pytest.mark.parametrize("sampler", ["released", "uni_pc"])
def test_another_models_flow_shift_does_not_leak_in(rig, sampler):
    """Dynamic memory writes one object's table of noise levels into the one that a later run has in
    its place."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    expected = rig.wan_sample(sampler=sampler)
    (other,) = ModelSamplingSD3().patch(rig.model, 12.0)
    table = other.get_model_object("model_sampling").sigmas.clone()
    own = rig.model.get_model_object("model_sampling").sigmas
    kept = own.clone()
    assert not torch.equal(table, kept)

    def leak(executor, patcher, *args, **kwargs):
        out = executor(patcher, *args, **kwargs)
        patcher.get_model_object("model_sampling").sigmas.copy_(table)
        return out

    model = rig.model.clone()
    model.add_wrapper_with_key("prepare_sampling", "leak", leak)
    with torch.inference_mode():
        try:
            own.copy_(table)  # of an earlier run
            assert torch.equal(rig.wan_sample(model, sampler=sampler), expected)
        finally:
            own.copy_(kept)


def test_a_host_sampler_with_a_shift_of_its_own_is_as_safe(rig):
    """EgoX Model Patch and KSampler: a node ModelSamplingSD3 before the sampler sets the shift anew
    in each run."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    def sampled() -> torch.Tensor:
        return rig.ksample(ModelSamplingSD3().patch(rig.patch(), 3.0)[0])

    expected, unset = sampled(), rig.ksample(rig.patch())
    own = rig.model.get_model_object("model_sampling").sigmas
    kept = own.clone()
    (other,) = ModelSamplingSD3().patch(rig.model, 12.0)
    with torch.inference_mode():
        try:
            own.copy_(other.get_model_object("model_sampling").sigmas)
            assert torch.equal(sampled(), expected)
            assert not torch.equal(rig.ksample(rig.patch()), unset), "without the node the other's"
        finally:
            own.copy_(kept)
