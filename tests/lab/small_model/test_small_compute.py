"""Attention's gradients for training on a CPU, against those of the formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lab.small_model.compute import attention_gradients, quick_attention_backward


def drawn(dtype: torch.dtype = torch.float32, keys: int = 37) -> list[torch.Tensor]:
    """Query, key, value (3, 2, tokens, 16), heads behind tokens in memory as Wan's are."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(3, tokens, 2, 16, generator=generator).to(dtype).transpose(1, 2).detach().requires_grad_()
            for tokens in (29, keys, keys)]


def of_formula(inputs: list[torch.Tensor], bias: torch.Tensor | None) -> list[torch.Tensor]:
    query, key, value = (part.detach().double().requires_grad_() for part in inputs)
    logits = query @ key.mT / 4
    out = (logits if bias is None else logits + bias.double()).softmax(-1) @ value
    out.backward(torch.ones_like(out).cumsum(-1))
    return [part.grad for part in (query, key, value)]


@pytest.mark.parametrize("clips", [0, 1, 3], ids=["no bias", "one bias", "a bias a clip"])
def test_gradients_are_the_formula_s(clips: int) -> None:
    inputs = drawn()
    bias = torch.linspace(-4, 0, clips * 29 * 37).view(clips, 1, 29, 37) if clips else None
    with torch.no_grad():
        out, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*inputs, 0.0, False, attn_mask=bias)
    found = attention_gradients(torch.ones_like(out).cumsum(-1), *inputs, out, log_sums, 0.0, False, attn_mask=bias)
    for gradient, expected in zip(found, of_formula(inputs, bias), strict=True):
        worst = (gradient.double() - expected).abs().max() / expected.abs().max()
        assert worst < 1e-5, "sums of 37 products in float32"
    with pytest.raises(ValueError, match="dropout"):
        attention_gradients(out, *inputs, out, log_sums, 0.1, False)


@pytest.mark.slow  # compiles
def test_inside_torch_takes_them_and_afterwards_its_own() -> None:
    inputs = drawn(torch.bfloat16)

    def gradients() -> list[torch.Tensor]:
        out = F.scaled_dot_product_attention(*inputs)
        return list(torch.autograd.grad(out, inputs, torch.ones_like(out)))

    before = gradients()
    with quick_attention_backward():
        inside = gradients()
    after = gradients()
    assert all(map(torch.equal, before, after)) and not all(map(torch.equal, before, inside))
    for one, other in zip(before, inside, strict=True):
        assert (one - other).float().norm() < 0.02 * one.float().norm(), "bfloat16 keeps 8 bits"
