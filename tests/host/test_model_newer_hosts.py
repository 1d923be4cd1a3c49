"""Emulate changes of newer ComfyUI versions that can't be installed here."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from .extras import extra_nodes


class Container:
    """Wrap a tensor that can be taken out only once, as newer ComfyUI does."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor: torch.Tensor | None = tensor

    def take(self) -> torch.Tensor:
        tensor = self.tensor
        self.tensor = None
        assert tensor is not None, "taken twice"
        return tensor


@pytest.mark.parametrize("changes", [{}, {"lambda_g": 0.0}, {"recompute_exo": 2}])
def test_newer_attention_gives_the_override_plain_tensors(rig, monkeypatch, changes):
    import comfy.ldm.wan.model as wan

    plain_latent = rig.ksample(rig.patch(**changes))
    original_attention = wan.optimized_attention
    overrides = []

    def attend_with_containers(q, k, v, heads, *args, preferred_attention=None, **kwargs):
        containers = [Container(x) for x in (q, k, v)]
        override = (kwargs.get("transformer_options") or {}).get("optimized_attention_override")
        overrides.append(override)
        assert not hasattr(override, "container_function")
        return original_attention(
            *(container.take() for container in containers), heads, *args, **kwargs
        )

    monkeypatch.setattr(wan, "optimized_attention", attend_with_containers)
    assert torch.equal(rig.ksample(rig.patch(**changes)), plain_latent)
    assert len(overrides) > 0
    assert any(overrides) is (changes.get("lambda_g") != 0.0)


@contextmanager
def leak_flow_shift(rig) -> Iterator[torch.Tensor]:
    """Write another flow shift's noise levels to the table that models share."""
    shift_node = extra_nodes("nodes_model_advanced").ModelSamplingSD3()
    (other_model,) = shift_node.patch(rig.model, 12.0)
    model_sigmas, other_sigmas = (
        model.get_model_object("model_sampling").sigmas for model in (rig.model, other_model)
    )
    old_sigmas, other_sigmas = model_sigmas.clone(), other_sigmas.clone()
    assert not torch.equal(other_sigmas, old_sigmas)
    with torch.inference_mode():
        model_sigmas.copy_(other_sigmas)
        try:
            yield other_sigmas
        finally:
            model_sigmas.copy_(old_sigmas)


@pytest.mark.parametrize("sampler", ["released", "uni_pc"])
def test_the_flow_shift_of_another_model_changes_no_result(rig, sampler):
    """Check that sampling ignores another model's noise levels in a shared table."""
    expected_latent = rig.wan_sample(sampler=sampler)
    with leak_flow_shift(rig) as other_sigmas:

        def leak_again(executor, patcher, *args, **kwargs):
            prepared = executor(patcher, *args, **kwargs)
            patcher.get_model_object("model_sampling").sigmas.copy_(other_sigmas)
            return prepared

        model = rig.model.clone()
        model.add_wrapper_with_key("prepare_sampling", "leak", leak_again)
        assert torch.equal(rig.wan_sample(model, sampler=sampler), expected_latent)
