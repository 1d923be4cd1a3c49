"""Newer hosts that can't be installed here, emulated: each changed row of the table in
docs/model-path.md."""

from collections.abc import Iterator
from contextlib import contextmanager

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
    """An override gets plain tensors, unless it declares that it takes containers. EgoX's doesn't."""
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


@contextmanager
def leaked_shift(rig) -> Iterator[torch.Tensor]:
    """Give the model the noise levels of another flow shift, as an earlier run leaves them there:
    dynamic memory writes one object's table into the one that a later run has in its place."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    (other,) = ModelSamplingSD3().patch(rig.model, 12.0)
    model_sigmas, table = (
        model.get_model_object("model_sampling").sigmas for model in (rig.model, other)
    )
    old_sigmas, table = model_sigmas.clone(), table.clone()
    assert not torch.equal(table, old_sigmas)
    with torch.inference_mode():
        model_sigmas.copy_(table)
        try:
            yield table
        finally:
            model_sigmas.copy_(old_sigmas)


@pytest.mark.parametrize("sampler", ["released", "uni_pc"])
def test_another_models_flow_shift_does_not_leak_in(rig, sampler):
    """Not even where the table is written after the run has begun."""
    expected = rig.wan_sample(sampler=sampler)
    with leaked_shift(rig) as table:

        def leak(executor, patcher, *args, **kwargs):
            out = executor(patcher, *args, **kwargs)
            patcher.get_model_object("model_sampling").sigmas.copy_(table)
            return out

        model = rig.model.clone()
        model.add_wrapper_with_key("prepare_sampling", "leak", leak)
        assert torch.equal(rig.wan_sample(model, sampler=sampler), expected)


def test_a_host_sampler_with_a_shift_of_its_own_is_as_safe(rig):
    """EgoX Model Patch and KSampler: a node ModelSamplingSD3 before the sampler sets the shift anew
    in each run."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    def sampled() -> torch.Tensor:
        return rig.ksample(ModelSamplingSD3().patch(rig.patch(), 3.0)[0])

    expected, unset = sampled(), rig.ksample(rig.patch())
    with leaked_shift(rig):
        assert torch.equal(sampled(), expected)
        assert not torch.equal(rig.ksample(rig.patch()), unset), "without the node the other's"
