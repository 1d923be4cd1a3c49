"""Compare the attention that EgoX Attention View shows with the model's full attention matrix."""

import math

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

from .exo_cache_rig import mark_exo_alone
from .test_model_windows import add_context_windows, long_rig

STEP_COUNT, BLOCK_NUMBER = 3, 1


def add_capture(rig, model, step: int = 1, block: int = BLOCK_NUMBER):
    return rig.nodes("attention").EgoXAttentionCapture.execute(model, step, block).result


def record_attention(rig, steps: int = STEP_COUNT, **changes):
    """Sample with the patched model and return the recorded attention."""
    model, capture = add_capture(rig, rig.patch(**changes))
    rig.ksample(model, steps=steps)
    return capture


def view_attention(rig, attention, **changes):
    exo_frames, prior_frames = model_rig.clip_pictures(rig.size)
    inputs = {
        "exo_images": exo_frames,
        "ego_images": prior_frames,
        "ego_x": 20,
        "ego_y": 9,
        "frame": 5,
        **changes,
    }
    return rig.nodes("attention").EgoXAttentionView.execute(attention, **inputs)


@pytest.fixture
def attention_calls(rig, monkeypatch) -> list[dict]:
    """Record arguments and results of every guided self-attention call during a test."""
    forward_module = rig.nodes("patch.forward")
    recorded_calls = []
    gga_attention = forward_module.gga_attention

    def record_call(q, k, v, heads, geometry, options, **kwargs):
        output = gga_attention(q, k, v, heads, geometry, options, **kwargs)
        recorded_calls.append(
            {"q": q.clone(), "k": k.clone(), "v": v.clone(), "heads": heads, "out": output.clone()}
        )
        return output

    monkeypatch.setattr(forward_module, "gga_attention", record_call)
    return recorded_calls


def compute_full_matrix(call: dict, batch_index: int, bias: torch.Tensor | None) -> torch.Tensor:
    """Compute the attention matrix of one clip without a fast kernel, [heads, tokens, tokens]."""
    q, k = (
        call[name][batch_index].double().unflatten(-1, (call["heads"], -1)).transpose(0, 1)
        for name in "qk"
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores if bias is None else scores + bias).softmax(-1)


def test_recorded_rows_equal_those_of_the_full_matrix(rig, attention_calls):
    record = record_attention(rig).record
    assert (record.step, record.steps, record.block, record.blocks) == (
        1,
        STEP_COUNT,
        BLOCK_NUMBER,
        2,
    )
    # Two blocks a step; cond and uncond of equal length are stacked, uncond first (HOST facts).
    attention_call = attention_calls[1 * 2 + BLOCK_NUMBER]
    assert attention_call["q"].shape[0] == 2
    guidance_bias = model_rig.import_core_module(rig.pack, "gga.bias").dense_bias(
        record.geometry, record.options, torch.float64
    )
    guided_matrix, plain_matrix = (
        compute_full_matrix(attention_call, 1, guidance_bias),
        compute_full_matrix(attention_call, 1, None),
    )
    latent_frames, h, w_exo, w_ego = record.grid
    ego_tokens = (
        torch.arange(record.k.shape[0]).view(latent_frames * h, w_exo + w_ego)[:, w_exo:].flatten()
    )
    attention_rows = record.rows(range(len(ego_tokens)))
    # Float32 sums of 36 terms against float64 ones.
    assert torch.allclose(
        attention_rows.guided.double(), guided_matrix.mean(0)[ego_tokens], atol=1e-6
    )
    assert torch.allclose(
        attention_rows.without.double(), plain_matrix.mean(0)[ego_tokens], atol=1e-6
    )
    assert float((attention_rows.guided - attention_rows.without).abs().max()) > 1e-3, (
        "the geometry must show"
    )
    # A head's rows times the values are what the model itself computed there.
    for head in range(record.heads):
        head_size = attention_call["v"].shape[-1] // attention_call["heads"]
        head_channels = slice(head * head_size, (head + 1) * head_size)
        # The model's own attention runs in its dtype.
        head_output = (
            guided_matrix[head, ego_tokens].float()
            @ attention_call["v"][1, :, head_channels].float()
        )
        assert torch.allclose(
            head_output, attention_call["out"][1, ego_tokens, head_channels].float(), atol=2e-3
        )


def test_a_capture_changes_no_result_and_records_the_same_before_or_after_the_patch(rig):
    plain_latent = rig.ksample(rig.patch(), steps=STEP_COUNT)
    capture_after_patch, record_after = add_capture(rig, rig.patch())
    capture_before_patch, record_before = add_capture(rig, rig.model)
    assert torch.equal(rig.ksample(capture_after_patch, steps=STEP_COUNT), plain_latent)
    assert torch.equal(rig.ksample(rig.patch(capture_before_patch), steps=STEP_COUNT), plain_latent)
    assert torch.equal(
        rig.wan_sample(capture_before_patch, sampler="released", steps=STEP_COUNT),
        rig.wan_sample(steps=STEP_COUNT),
    )
    sampler_record = record_before.record
    rig.ksample(rig.patch(capture_before_patch), steps=STEP_COUNT)
    assert torch.equal(record_before.record.k, record_after.record.k)
    assert torch.equal(record_before.record.q_ego, record_after.record.q_ego)
    assert (
        sampler_record.step == 1
        and sampler_record.has_bias
        and not torch.equal(sampler_record.k, record_after.record.k)
    )


def test_each_step_and_block_is_recorded_separately(rig):
    records = {}
    for step, block in ((0, 0), (1, 0), (-1, 0), (0, -1)):
        model, capture = add_capture(rig, rig.patch(), step, block)
        rig.ksample(model, steps=STEP_COUNT)
        records[step, block] = capture.record
    assert [(record.step, record.block) for record in records.values()] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (0, 1),
    ]
    sigmas = [records[step, 0].sigma for step in (0, 1, -1)]
    assert sigmas == sorted(sigmas, reverse=True)
    assert len(set(sigmas)) == 3


def test_without_geometry_the_view_has_one_map(rig):
    capture = record_attention(rig, lambda_g=0.0)
    assert capture.record.geometry is None
    assert "nothing to compare with" in view_attention(rig, capture).result[1]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"exo_images": torch.zeros(9, 32, 48, 3)}, "exo_images"),
        ({"exo_images": torch.zeros(5, 32, 64, 3)}, "frame"),
    ],
)
def test_the_view_refuses_pictures_of_another_size_or_length(rig, changes, match):
    capture = record_attention(rig, steps=2)
    with refuses(match):
        view_attention(rig, capture, **changes)


def test_the_capture_refuses_blocks_and_steps_that_do_not_exist(rig):
    for block in (2, -3):
        with refuses("block"):
            add_capture(rig, rig.patch(), block=block)
    model, capture = add_capture(rig, rig.patch(), step=3)
    with refuses("nothing"):
        view_attention(rig, capture)
    with refuses("sampling step"):
        rig.ksample(model, steps=STEP_COUNT)
    unpatched_model, _ = add_capture(rig, rig.model)
    with refuses("without the EgoX canvas"):
        rig.ksample(unpatched_model, steps=STEP_COUNT)


def test_a_context_window_shows_its_own_frames(pack, repo_root):
    rig = long_rig(pack, repo_root, 25)
    model, capture = add_capture(rig, rig.patch())
    rig.ksample(
        add_context_windows(
            model, context_length=13, context_overlap=4, context_schedule="standard_static"
        ),
        steps=2,
    )
    record = capture.record
    assert record.latent_frames == (0, 1, 2, 3)
    assert record.grid[0] == 4 == record.geometry.grid[0]
    assert view_attention(rig, capture, frame=12).result[0].shape[0] == 1
    with refuses("of the first window"):
        view_attention(rig, capture, frame=13)


def test_with_cached_exo_keys_both_halves_are_recorded(rig):
    """Check that attention to exo and ego keys is recorded in steps with cached exo keys."""
    model, capture = add_capture(rig, rig.patch(), step=0)
    rig.ksample(model, steps=STEP_COUNT)
    first_record = capture.record
    for caching_model in (rig.patch(recompute_exo=0), rig.patch(mark_exo_alone(rig.model))):
        plain_latent = rig.ksample(caching_model, steps=STEP_COUNT)
        keys_by_step = []
        for step in (0, 1):
            model, capture = add_capture(rig, caching_model, step)
            assert torch.equal(rig.ksample(model, steps=STEP_COUNT), plain_latent)
            record = capture.record
            assert (
                record.grid == first_record.grid and record.q_ego.shape == first_record.q_ego.shape
            )
            latent_frames, h, *widths = record.grid
            keys_by_step.append(record.k.unflatten(0, (latent_frames * h, -1)).split(widths, 1))
            equals_first_record = (
                caching_model.get_attachment("egox_lora_metadata") is None and step == 0
            )
            assert torch.equal(record.k, first_record.k) is equals_first_record
        (exo_keys, ego_keys), (later_exo_keys, later_ego_keys) = keys_by_step
        assert (exo_keys - later_exo_keys).abs().max() < 0.05 * exo_keys.abs().max(), (
            "kept in 8 bits"
        )
        assert (ego_keys - later_ego_keys).abs().max() > 0.05 * ego_keys.abs().max()
