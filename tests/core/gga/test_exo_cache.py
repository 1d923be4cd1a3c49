"""Test the cache of exo keys and values between sampling steps: reuse, invalidation, memory."""

import pytest
import torch

from egox_core.gga.exo_cache import (
    ExoCache,
    UnlimitedMemory,
    dequantise,
    exo_tokens,
    join_tokens,
    kept_size,
    quantise,
    step_index_of,
)
from tests.cached_bytes import count_cached_bytes

GRID = (2, 3, 4, 2)  # t, h, w_exo, w_ego
SIGMAS = (1.0, 0.8, 0.6, 0.3, 0.0)
BLOCKS = 2
FULL_CALL, CACHED_CALL = "full", "kept"


@pytest.fixture
def tokens(device):
    def random_tokens(seed: int, exo: bool = True, batch: int = 1):  # [batch, tokens, 8]
        t, h, w_exo, w_ego = GRID
        width = w_ego + (w_exo if exo else 0)
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, t * h * width, 8, generator=generator).to(device)

    return random_tokens


@pytest.fixture
def call_model(tokens, device):
    def model_call(
        cache: ExoCache,
        sigma: float,
        window_key: str = "",
        conditions: tuple = ("positive",),
        blocks: int = BLOCKS,
        **more_options,
    ) -> str:
        """Run one model call and return how it used the exo cache: "kept", "full" or "refused"."""
        cache_part = cache.forward(
            window_key, conditions, sigma, SIGMAS, GRID, 100, device, **more_options
        )
        if cache_part is None:
            return "refused"
        computes_exo = not cache_part.reuses_exo
        batch = len(conditions)
        for block in range(blocks):
            k, v = (tokens(block + seed, exo=computes_exo, batch=batch) for seed in (0, 50))
            joined_k, joined_v = cache_part.keys_and_values(block, k, v)
            assert joined_k.shape == joined_v.shape == tokens(0, batch=batch).shape
        cache_part.finish(BLOCKS)
        return "kept" if cache_part.reuses_exo else "full"

    return model_call


def test_exo_and_ego_tokens_are_joined_to_the_canvas(tokens):
    canvas_tokens = tokens(1)
    (t, h, w_exo, _) = GRID
    ego_tokens = canvas_tokens.unflatten(1, (t * h, -1))[:, :, w_exo:].flatten(1, 2)
    assert torch.equal(join_tokens(exo_tokens(canvas_tokens, GRID), ego_tokens), canvas_tokens)


@pytest.mark.parametrize(
    ("sigma", "step"),
    [(1.0, 0), (0.9, 0), (0.8, 1), (0.8 * (1 + 1e-7), 1), (0.31, 2), (0.3, 3), (0.1, 3), (1.5, 0)],
)
def test_noise_levels_are_assigned_to_steps(sigma, step):
    assert step_index_of(sigma, SIGMAS) == step


@pytest.mark.parametrize(
    ("refresh_interval", "sigmas", "expected"),
    [
        (2, SIGMAS[:4], [FULL_CALL, CACHED_CALL, FULL_CALL, CACHED_CALL]),
        (3, SIGMAS[:4], [FULL_CALL, CACHED_CALL, CACHED_CALL, FULL_CALL]),
        (0, SIGMAS[:4], [FULL_CALL, CACHED_CALL, CACHED_CALL, CACHED_CALL]),
        (1, SIGMAS[:4], [FULL_CALL] * 4),
        (
            2,
            (1.0, 0.8, 0.8, 0.6, 0.6, 0.3),
            [FULL_CALL, CACHED_CALL, CACHED_CALL] * 2,
        ),  # two calls a step, of heun
        (2, (0.8, 0.6), [FULL_CALL, FULL_CALL]),  # from the middle: groups are the schedule's
        (0, (1.0, 0.6, 0.8, 1.0), [FULL_CALL, CACHED_CALL, CACHED_CALL, CACHED_CALL]),
        (0, (0.8, 0.6, 1.0), [FULL_CALL, CACHED_CALL, FULL_CALL]),  # more noise again: a restart
    ],
)
def test_full_model_calls_follow_the_refresh_interval(
    call_model, refresh_interval, sigmas, expected
):
    exo_cache = ExoCache(refresh_interval)
    for _ in range(2):  # a run leaves nothing for the next
        assert [call_model(exo_cache, sigma) for sigma in sigmas] == expected
        assert (exo_cache.full_count, exo_cache.reused_count) == (
            expected.count(FULL_CALL),
            expected.count(CACHED_CALL),
        )
        exo_cache.begin_run(UnlimitedMemory())


def test_conditions_windows_and_weights_are_cached_separately(call_model):
    exo_cache = ExoCache(0)
    assert call_model(exo_cache, 1.0) == "full"
    assert call_model(exo_cache, 0.8, conditions=("negative",)) == "full"
    assert call_model(exo_cache, 0.8, window_key="second window") == "full"
    assert (
        call_model(exo_cache, 0.8) == call_model(exo_cache, 0.8, conditions=("negative",)) == "kept"
    )
    assert call_model(exo_cache, 0.6, weights="a LoRA") == "full"
    bytes_before = count_cached_bytes(exo_cache)
    assert call_model(exo_cache, 0.6) == "full" and count_cached_bytes(exo_cache) == bytes_before, (
        "in place of it"
    )


BOTH_CONDITIONS = ("negative", "positive")
POSITIVE = ("positive",)
NEGATIVE = ("negative",)


OTHER_CONDITIONS = ("negative", "b")


@pytest.mark.parametrize("refresh_interval", [0, 4])
@pytest.mark.parametrize(
    ("requested_conditions", "expected_computed", "expected_entries"),
    [
        # conditions of each noise level, those that are computed, and how many are kept then
        ([BOTH_CONDITIONS, POSITIVE, POSITIVE], [BOTH_CONDITIONS, (), ()], [2, 1, 1]),
        ([BOTH_CONDITIONS, POSITIVE, BOTH_CONDITIONS], [BOTH_CONDITIONS, (), NEGATIVE], [2, 1, 2]),
        (
            [POSITIVE, BOTH_CONDITIONS, POSITIVE, BOTH_CONDITIONS],
            [POSITIVE, NEGATIVE, (), NEGATIVE],
            [1, 2, 1, 2],
        ),
        (
            [BOTH_CONDITIONS, BOTH_CONDITIONS[::-1], BOTH_CONDITIONS],
            [BOTH_CONDITIONS, (), ()],
            [2, 2, 2],
        ),
        (
            [BOTH_CONDITIONS, OTHER_CONDITIONS, BOTH_CONDITIONS],
            [BOTH_CONDITIONS, ("b",), ("positive",)],
            [2, 2, 2],
        ),
        (
            [BOTH_CONDITIONS, OTHER_CONDITIONS[::-1], POSITIVE, BOTH_CONDITIONS],
            [BOTH_CONDITIONS, ("b",), POSITIVE, ()],
            [2, 2, 3, 2],
        ),
    ],
    ids=["cfg to 1", "and back", "cfg later", "order", "other prompt", "by turns"],
)
@pytest.mark.parametrize("is_stacked", [True, False])
def test_conditions_are_cached_independently_of_each_other(
    call_model,
    refresh_interval,
    requested_conditions,
    expected_computed,
    expected_entries,
    is_stacked,
):
    exo_cache = ExoCache(refresh_interval)
    bytes_of_one = BLOCKS * 2 * 2 * 3 * 4 * 8 * 4
    for conditions, expected_conditions, expected_count, sigma in zip(
        requested_conditions, expected_computed, expected_entries, SIGMAS, strict=False
    ):
        model_calls = [conditions] if is_stacked else [(condition,) for condition in conditions]
        computed_conditions = []
        for condition_batch in model_calls:
            for indices in exo_cache.alike("", condition_batch, sigma, SIGMAS):
                call_conditions = tuple(
                    condition_batch[condition_index] for condition_index in indices
                )
                if (
                    call_model(exo_cache, sigma, conditions=call_conditions, asked=conditions)
                    == "full"
                ):
                    computed_conditions += call_conditions
        assert (
            sorted(computed_conditions) == sorted(expected_conditions)
            and count_cached_bytes(exo_cache) == expected_count * bytes_of_one
        )


def test_batched_conditions_are_cached_by_their_rows(tokens, device):
    exo_cache = ExoCache(0)
    full_part = exo_cache.forward("", BOTH_CONDITIONS, 1.0, SIGMAS, GRID, 100, device)
    tokens_by_block = [
        [tokens(block + seed, batch=2) for seed in (0, 50)] for block in range(BLOCKS)
    ]
    for block, keys_and_values in enumerate(tokens_by_block):
        full_part.keys_and_values(block, *keys_and_values)
    full_part.finish(BLOCKS)
    for conditions, rows in ((BOTH_CONDITIONS[::-1], [1, 0]), (POSITIVE, [1])):
        kept_part = exo_cache.forward("", conditions, 1.0, SIGMAS, GRID, 100, device)
        ego_tokens = tokens(9, exo=False, batch=len(rows))
        for block, keys_and_values in enumerate(tokens_by_block):
            for joined_tokens, full_tokens in zip(
                kept_part.keys_and_values(block, ego_tokens, ego_tokens),
                keys_and_values,
                strict=True,
            ):
                assert torch.equal(
                    joined_tokens, join_tokens(exo_tokens(full_tokens[rows], GRID), ego_tokens)
                )


def test_incomplete_calls_are_not_cached(call_model):
    exo_cache = ExoCache(0)
    assert [call_model(exo_cache, 1.0, blocks=1), call_model(exo_cache, 0.8)] == ["full", "full"]
    assert call_model(exo_cache, 0.6) == "kept"


def test_every_step_is_full_without_memory(call_model):
    class FullMemory(UnlimitedMemory):
        def available_bytes(self, device: torch.device) -> int:
            return 99

    exo_cache = ExoCache(0)
    exo_cache.begin_run(FullMemory())
    assert [call_model(exo_cache, sigma) for sigma in SIGMAS[:2]] == ["refused", "refused"]
    assert (
        exo_cache.refused_bytes == 100
        and exo_cache.full_count == 2
        and count_cached_bytes(exo_cache) == 0
    )


def test_parked_keys_wait_in_main_memory():
    cpu, card = torch.device("cpu"), torch.device("cuda")
    for kept_on, place in ((cpu, cpu), (None, card)):
        exo_cache = ExoCache(0, kept_on=kept_on)
        exo_forward = exo_cache.forward((), (0,), 1.0, SIGMAS, GRID, 100, card)
        assert [entry.cache_device for entry in exo_forward.entries] == [place]


def test_8_bit_cache_has_small_errors_and_fits_in_8_gb(device):
    token_values = torch.randn(3, 5, 96).to(device)
    token_values[..., 7] *= 1e3  # as a video model's largest channels
    token_values[0, 0] = 0
    codes, scale = quantise(token_values)
    assert codes.dtype == torch.int8 and scale.shape == (3, 5, 3, 1), "32 channels share a scale"
    rounding_error = (
        (dequantise(codes, scale, token_values.dtype) - token_values).abs().unflatten(-1, (3, 32))
    )
    assert (rounding_error <= 0.51 * scale.float()).all() and rounding_error[
        ..., 1:, :
    ].max() < 0.02
    assert kept_size(40, 2, (13, 28, 49, 28), 5120, None) == 7_533_926_400
