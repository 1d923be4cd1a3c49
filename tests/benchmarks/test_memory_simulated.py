"""Peak memory of the 14B at the released size, as the real code would take it on a GPU: tensors
without values, two of the forty blocks (a forward's activations don't grow with them).

What is counted is every tensor; a kernel's inner scratch, allocator gaps and the driver's context
(about 1 GB) come on top.
"""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.support.record import peak_of_storages
from egox_train.wan.step_memory import ModelSize, TrainSetting, estimate
from tools.rigs import wan_shapes
from tools.rigs.model_rig import core

CARD = torch.device("cuda", 0)
LIMITS_GB = {1: 3.3, 2: 6.6}
BLOCKS = 2


def efficient_attention(query, key, value, attn_mask=None, **_):
    """The kernel itself: torch's choice among kernels asks a driver that is not here."""
    if attn_mask is not None:
        assert attn_mask.stride(-2) % 8 == 0, "the kernel would copy the mask to align it"
        attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, compute_log_sumexp=query.requires_grad
    )[0]


@pytest.fixture(scope="module")
def peak(pack):
    """peak(batch, guided, recompute_exo) -> GB of a forward of the patched model (of the second
    one, where exo is kept)."""
    import comfy.model_patcher

    with pytest.MonkeyPatch.context() as change:
        change.setattr(
            wan_shapes, "SIZES", {"14b": {**wan_shapes.SIZES["14b"], "num_layers": BLOCKS}}
        )
        backends, rows = core(pack, "gga.backends"), core(pack, "gga.rows")
        # Nothing can be compared or compiled here: the kernel that every GPU has, and rows of bias
        # by torch, which need scratch.
        change.setattr(backends, "_choice", lambda *_: backends.Choice(names=["sdpa"]))
        for module in (backends, core(pack, "gga.attention")):
            change.setattr(module, "scaled_dot_product_attention", efficient_attention)
        change.setattr(rows, "fused_rows", lambda *_: rows.FusedChoice(None, ""))
        change.setattr(
            core(pack, "types").GgaGeometry,
            "__post_init__",
            lambda self: object.__setattr__(self, "all_or_nothing", True),
        )
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with mode:
            model = wan_shapes.wan_model("14b", CARD, torch.bfloat16, torch.bfloat16)
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=CARD, offload_device=CARD)
        yield cache(lambda *how: forward_peak(pack, mode, patcher, *how))


def forward_peak(pack, mode, patcher, batch: int, guided: bool, recompute_exo: int = 1) -> float:
    clip, types = wan_shapes.CLIPS["14b"], core(pack, "types")
    t, h, w_exo, w_ego = clip.grid
    exo, prior = (torch.zeros(1, 16, t, 2 * h, 2 * width) for width in (w_exo, w_ego))
    canvas = types.Canvas(
        exo_latent=exo,
        prior_latent=prior,
        frames=clip.frames,
        exo_size=(clip.exo_width, clip.height),
        ego_size=(clip.ego_width, clip.height),
    )
    geometry = (
        types.GgaGeometry(
            query_dirs=torch.zeros(t, h * w_ego, 3),
            key_dirs=torch.zeros(t, clip.tokens, 3),
            key_trust=torch.ones(clip.tokens),
            grid=clip.grid,
        )
        if guided
        else None
    )
    options = core(pack, "gga.options").GgaOptions(mode="released" if guided else "off")
    patch = import_module(f"{pack.__name__}.nodes.patch.patch").patch_with_geometry
    patched, _ = patch(patcher, canvas, geometry, options, recompute_exo=recompute_exo)
    (wrapper,) = patched.get_wrappers("diffusion_model", "egox")
    wrapper.calls.seconds = SimpleNamespace(of=lambda *_: nullcontext())  # no clock of a GPU
    plain = core(pack, "gga.attention").plain_attention
    if recompute_exo != 1:
        wrapper.calls.exo_cache.memory = core(pack, "gga.exo_cache").UnlimitedMemory()
    sigma = SimpleNamespace(flatten=lambda: [0.9])  # simulated tensors have no values
    options = {
        "wrappers": patched.wrappers,
        "sigmas": sigma,
        "cond_or_uncond": list(range(batch)),
        "sample_sigmas": SimpleNamespace(tolist=lambda: [0.9, 0.8, 0.7]),
        "optimized_attention_override": lambda func, q, k, v, heads, mask=None, **_: plain(
            q, k, v, heads
        ),
    }
    forward = import_module(f"{pack.__name__}.nodes.patch.forward")
    blind = mock.patch.object(forward, "check_finite", lambda *_: None)  # nor NaN
    with mode, torch.inference_mode(), blind:
        network = patched.model.diffusion_model
        for part in ("exo", "cond_exo", "mask_exo"):
            setattr(wrapper, part, torch.empty_like(getattr(wrapper, part), device=CARD))
        if guided:
            wrapper.guidance.geometry = replace(
                geometry,
                **{
                    part: torch.empty_like(getattr(geometry, part), device=CARD)
                    for part in ("query_dirs", "key_dirs", "key_trust")
                },
            )
        made = {"device": CARD, "dtype": torch.bfloat16}
        inputs = (
            torch.empty(batch, 36, t, 2 * h, 2 * w_ego, **made),
            torch.empty(batch, device=CARD),
            torch.empty(batch, 512, 4096, **made),
            torch.empty(batch, 257, 1280, **made),
        )
        for _ in range(2 if recompute_exo != 1 else 1):
            found = peak_of_storages(lambda: network(*inputs, transformer_options=options))
    if recompute_exo != 1:
        assert (wrapper.calls.exo_cache.full, wrapper.calls.exo_cache.kept) == (1, 1)
    return found / 1e9


@pytest.mark.parametrize("batch", LIMITS_GB)
def test_a_forward_stays_below_its_limit_and_geometry_costs_nothing(peak, batch):
    plain, guided = peak(batch, False), peak(batch, True)
    text = f"torch {torch.__version__}: plain {plain:.3f} GB, guided {guided:.3f} GB"
    print(text)
    assert 0.5 * LIMITS_GB[batch] < plain <= LIMITS_GB[batch], text
    assert guided <= 1.01 * plain, text


def test_a_kept_forward_needs_less_than_a_full_one(peak):
    """Exo's keys and values are there before it begins."""
    kept, full = peak(1, True, 2), peak(1, True)
    print(f"torch {torch.__version__}: kept {kept:.3f} GB, full {full:.3f} GB")
    assert kept < full


def take_place(a, b) -> None:
    a.data, a.fake_device = b.data, b.fake_device


def test_a_training_step_stays_below_its_prediction(monkeypatch):
    """Of the trainer's model, on CPU tensors, since autograd would ask a GPU's driver."""
    from benchmarks.support.training_step import RELEASED_GRID, make_step
    from egox_core.gga import attention, backends, rows
    from egox_train.wan import diffusers_processor

    monkeypatch.setattr(backends, "_choice", lambda *_: backends.Choice(names=["sdpa"]))
    monkeypatch.setattr(rows, "fused_rows", lambda *_: rows.FusedChoice(None, ""))
    monkeypatch.setattr(
        "egox_core.types.GgaGeometry.__post_init__",
        lambda self: object.__setattr__(self, "all_or_nothing", True),
    )
    for module in (backends, attention, diffusers_processor):
        monkeypatch.setattr(module, "scaled_dot_product_attention", efficient_attention)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", efficient_attention)
    # Simulated tensors are watched, so no other may take their place.
    monkeypatch.setattr(torch.utils, "swap_tensors", take_place)
    monkeypatch.setitem(rows.WORK_BYTES, "cpu", rows.WORK_BYTES["cuda"])
    size = ModelSize(layers=BLOCKS)
    with FakeTensorMode(allow_non_fake_inputs=True):

        def two_steps():
            step = make_step("bfloat16", size, RELEASED_GRID, 256, torch.device("cpu"))
            step()
            step()

        peak = peak_of_storages(two_steps)
    predicted = estimate(size, TrainSetting()).total
    print(f"torch {torch.__version__}: peak {peak / 1e9:.2f} GB, predicted {predicted / 1e9:.2f}")
    assert 0.7 * predicted < peak < predicted
