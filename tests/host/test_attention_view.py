"""EgoX Attention Capture and View on the real host: rows equal those of the full attention matrix
of the model."""

import math

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

from .test_model_exo_cache import mark_exo_alone
from .test_model_windows import long_rig, windowed

STEPS, BLOCK = 3, 1


def capture(rig, model, step: int = 1, block: int = BLOCK):
    return rig.nodes("attention").EgoXAttentionCapture.execute(model, step, block).result


def recorded(rig, steps: int = STEPS, **changes):
    """Record a run of the patched model in a capture."""
    model, attention = capture(rig, rig.patch(**changes))
    rig.ksample(model, steps=steps)
    return attention


def view(rig, attention, **changes):
    exo, prior = model_rig.clip_pictures(rig.size)
    inputs = {
        "exo_images": exo,
        "ego_images": prior,
        "ego_x": 20,
        "ego_y": 9,
        "frame": 5,
        **changes,
    }
    return rig.nodes("attention").EgoXAttentionView.execute(attention, **inputs)


@pytest.fixture
def calls(rig, monkeypatch) -> list[dict]:
    """Record every guided self-attention call of a run: its arguments, and the model's result."""
    override, recorded_calls = rig.nodes("patch.forward"), []
    inner = override.gga_attention

    def spy(q, k, v, heads, geometry, options, **kwargs):
        out = inner(q, k, v, heads, geometry, options, **kwargs)
        recorded_calls.append(
            {"q": q.clone(), "k": k.clone(), "v": v.clone(), "heads": heads, "out": out.clone()}
        )
        return out

    monkeypatch.setattr(override, "gga_attention", spy)
    return recorded_calls


def full_matrix(call: dict, row: int, bias: torch.Tensor | None) -> torch.Tensor:
    """Compute the attention matrix of one clip plainly, [heads, tokens, tokens]."""
    q, k = (
        call[name][row].double().unflatten(-1, (call["heads"], -1)).transpose(0, 1) for name in "qk"
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores if bias is None else scores + bias).softmax(-1)


def test_rows_are_those_of_the_full_matrix(rig, calls):
    record = recorded(rig).record
    assert (record.step, record.steps, record.block, record.blocks) == (1, STEPS, BLOCK, 2)
    # Two blocks a step; cond and uncond of equal length are stacked, uncond first (HOST facts).
    call = calls[1 * 2 + BLOCK]
    assert call["q"].shape[0] == 2
    bias = model_rig.core(rig.pack, "gga.bias").dense_bias(
        record.geometry, record.options, torch.float64
    )
    guided, plain = full_matrix(call, 1, bias), full_matrix(call, 1, None)
    t, h, w_exo, w_ego = record.grid
    ego = torch.arange(record.k.shape[0]).view(t * h, w_exo + w_ego)[:, w_exo:].flatten()
    rows = record.rows(range(len(ego)))
    # Float32 sums of 36 terms against float64 ones.
    assert torch.allclose(rows.guided.double(), guided.mean(0)[ego], atol=1e-6)
    assert torch.allclose(rows.without.double(), plain.mean(0)[ego], atol=1e-6)
    assert float((rows.guided - rows.without).abs().max()) > 1e-3, "the geometry must show"
    # A head's rows times the values are what the model itself computed there.
    for head in range(record.heads):
        size = call["v"].shape[-1] // call["heads"]
        part = slice(head * size, (head + 1) * size)
        # The model's own attention runs in its dtype.
        values = guided[head, ego].float() @ call["v"][1, :, part].float()
        assert torch.allclose(values, call["out"][1, ego, part].float(), atol=2e-3)


def test_the_weight_is_one_plus_the_cosine(rig):
    record, gga = recorded(rig).record, model_rig.core(rig.pack, "gga.bias")
    query = record.query(20, 9, 5)  # 5: the third latent frame; token row 0, column 1
    t, h, w_exo, w_ego = record.grid
    assert query == (2 * h + 0) * w_ego + 1
    exo_weights = record.exo_part(record.rows([query]).weight[0])
    expected = 1 + record.exo_part(gga.cosine_rows(record.geometry, 2)[1])
    assert torch.allclose(exo_weights, expected, atol=1e-6) and exo_weights.shape == (t, h, w_exo)


def test_it_changes_nothing_and_sees_the_same_from_any_place(rig):
    plain = rig.ksample(rig.patch(), steps=STEPS)
    after, seen_after = capture(rig, rig.patch())
    before, seen_before = capture(rig, rig.model)
    assert torch.equal(rig.ksample(after, steps=STEPS), plain)
    assert torch.equal(rig.ksample(rig.patch(before), steps=STEPS), plain)
    assert torch.equal(
        rig.wan_sample(before, sampler="released", steps=STEPS), rig.wan_sample(steps=STEPS)
    )
    in_sampler = seen_before.record
    rig.ksample(rig.patch(before), steps=STEPS)
    assert torch.equal(seen_before.record.k, seen_after.record.k)
    assert torch.equal(seen_before.record.q_ego, seen_after.record.q_ego)
    assert (
        in_sampler.step == 1
        and in_sampler.has_bias
        and not torch.equal(in_sampler.k, seen_after.record.k)
    )


def test_steps_and_blocks_are_told_apart(rig):
    records = {}
    for step, block in ((0, 0), (1, 0), (-1, 0), (0, -1)):
        model, attention = capture(rig, rig.patch(), step, block)
        rig.ksample(model, steps=STEPS)
        records[step, block] = attention.record
    assert [(r.step, r.block) for r in records.values()] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    sigmas = [records[step, 0].sigma for step in (0, 1, -1)]
    assert sigmas == sorted(sigmas, reverse=True) and len(set(sigmas)) == 3


def test_a_batch_shows_its_first_clip(rig):
    """Of two clips in a batch it is the first one."""
    model, attention = capture(rig, rig.patch())
    rig.ksample(model, steps=STEPS)
    expected = attention.record
    twice = {"samples": rig.latent["samples"].repeat(2, 1, 1, 1, 1)}
    rig.ksample(model, steps=STEPS, latent=twice)
    assert attention.record.k.shape == expected.k.shape
    # The first of a batch has the noise of a single one; batched kernels round otherwise.
    assert torch.allclose(attention.record.k.float(), expected.k.float(), atol=5e-3)


def test_without_geometry_there_is_one_map(rig):
    attention = recorded(rig, lambda_g=0.0)
    assert attention.record.geometry is None
    assert "nothing to compare with" in view(rig, attention).result[1]


def test_the_view_shows_it(rig):
    attention = recorded(rig)
    picture, text = view(rig, attention).result
    assert (
        text.startswith("step 1 of 3") and "block 1 of 2" in text and "with GGA: exo half" in text
    )
    assert not torch.equal(view(rig, attention, ego_x=0).result[0], picture), (
        "another pixel looks elsewhere"
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"exo_images": torch.zeros(9, 32, 48, 3)}, "exo_images"),
        ({"exo_images": torch.zeros(5, 32, 64, 3)}, "frame"),
    ],
)
def test_the_view_refuses_what_is_not_there(rig, changes, match):
    attention = recorded(rig, steps=2)
    with refuses(match):
        view(rig, attention, **changes)


def test_the_capture_refuses_what_is_not_there(rig):
    for block in (2, -3):
        with refuses("block"):
            capture(rig, rig.patch(), block=block)
    model, attention = capture(rig, rig.patch(), step=3)
    with refuses("nothing"):
        view(rig, attention)
    with refuses("sampling step"):
        rig.ksample(model, steps=STEPS)
    unpatched, _ = capture(rig, rig.model)
    with refuses("without the EgoX canvas"):
        rig.ksample(unpatched, steps=STEPS)


def test_a_context_window_shows_its_own_frames(pack, repo_root):
    rig = long_rig(pack, repo_root, 25)
    model, attention = capture(rig, rig.patch())
    rig.ksample(
        windowed(model, context_length=13, context_overlap=4, context_schedule="standard_static"),
        steps=2,
    )
    record = attention.record
    assert record.latent_frames == (0, 1, 2, 3) and record.grid[0] == 4 == record.geometry.grid[0]
    assert view(rig, attention, frame=12).result[0].shape[0] == 1
    with refuses("of the first window"):
        view(rig, attention, frame=13)


def test_where_exos_keys_are_kept_both_halves_are_seen(rig):
    """At the first step they are those of a forward without a cache. Later, and with a LoRA that
    was trained with exo alone, ego's queries come without exo's."""
    model, attention = capture(rig, rig.patch(), step=0)
    rig.ksample(model, steps=STEPS)
    first = attention.record
    for caching_model in (rig.patch(recompute_exo=0), rig.patch(mark_exo_alone(rig.model))):
        plain, halves = rig.ksample(caching_model, steps=STEPS), []
        for step in (0, 1):
            model, attention = capture(rig, caching_model, step)
            assert torch.equal(rig.ksample(model, steps=STEPS), plain)
            record = attention.record
            assert record.grid == first.grid and record.q_ego.shape == first.q_ego.shape
            t, h, *widths = record.grid
            halves.append(record.k.unflatten(0, (t * h, -1)).split(widths, 1))
            as_first = caching_model.get_attachment("egox_lora_metadata") is None and step == 0
            assert torch.equal(record.k, first.k) is as_first
        (exo, ego), (exo_later, ego_later) = halves
        assert (exo - exo_later).abs().max() < 0.05 * exo.abs().max(), "kept in 8 bits"
        assert (ego - ego_later).abs().max() > 0.05 * ego.abs().max()
