"""Exo's keys and values between steps: when they are kept, what makes them others, where they
lie."""

import pytest
import torch

from egox_core.gga.exo_cache import (
    ExoCache,
    UnlimitedMemory,
    exo_tokens,
    join_tokens,
    kept_size,
    pack,
    step_of,
    unpack,
)

GRID = (2, 3, 4, 2)  # t, h, w_exo, w_ego
SIGMAS = (1.0, 0.8, 0.6, 0.3, 0.0)
BLOCKS = 2
FULL, KEPT = "full", "kept"


@pytest.fixture
def tokens(device):
    def random_tokens(seed: int, exo: bool = True, batch: int = 1):  # [batch, tokens, 8]
        t, h, w_exo, w_ego = GRID
        width = w_ego + (w_exo if exo else 0)
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(batch, t * h * width, 8, generator=draw).to(device)

    return random_tokens


@pytest.fixture
def forward(tokens, device):
    def model_call(
        cache: ExoCache,
        sigma: float,
        key: str = "",
        conditions: tuple = ("positive",),
        blocks: int = BLOCKS,
        **more,
    ) -> str:
        """Run one model call, and name its kind: "kept", "full" or "refused"."""
        part = cache.forward(key, conditions, sigma, SIGMAS, GRID, 100, device, **more)
        if part is None:
            return "refused"
        with_exo, batch = not part.kept, len(conditions)
        for block in range(blocks):
            k, v = (tokens(block + seed, exo=with_exo, batch=batch) for seed in (0, 50))
            whole_k, whole_v = part.keys_and_values(block, k, v)
            assert whole_k.shape == whole_v.shape == tokens(0, batch=batch).shape
        part.finish(BLOCKS)
        return "kept" if part.kept else "full"

    return model_call


def test_halves_of_a_canvas_are_joined_again(tokens):
    canvas, (t, h, w_exo, _) = tokens(1), GRID
    ego = canvas.unflatten(1, (t * h, -1))[:, :, w_exo:].flatten(1, 2)
    assert torch.equal(join_tokens(exo_tokens(canvas, GRID), ego), canvas)


def test_a_kept_step_sees_the_exo_of_the_last_full_one(tokens, device):
    cache = ExoCache(2)
    full = cache.forward("", ("positive",), 1.0, SIGMAS, GRID, 100, device)
    for block in range(BLOCKS):
        full.keys_and_values(block, tokens(block), tokens(block + 50))
    full.finish(BLOCKS)
    assert cache.kept_bytes == BLOCKS * 2 * exo_tokens(tokens(0), GRID).numel() * 4
    kept_part = cache.forward("", ("positive",), 0.8, SIGMAS, GRID, 100, device)
    assert (
        kept_part.kept
        and kept_part.tokens == tokens(0, exo=False).shape[1]
        and full.tokens == tokens(0).shape[1]
    )
    for block in range(BLOCKS):
        k, v = kept_part.keys_and_values(block, tokens(7, exo=False), tokens(8, exo=False))
        assert torch.equal(exo_tokens(k, GRID), exo_tokens(tokens(block), GRID))
        assert torch.equal(exo_tokens(v, GRID), exo_tokens(tokens(block + 50), GRID))
        assert torch.equal(k, join_tokens(exo_tokens(tokens(block), GRID), tokens(7, exo=False)))


@pytest.mark.parametrize(
    ("sigma", "step"),
    [(1.0, 0), (0.9, 0), (0.8, 1), (0.8 * (1 + 1e-7), 1), (0.31, 2), (0.3, 3), (0.1, 3), (1.5, 0)],
)
def test_a_noise_level_belongs_to_the_step_that_it_lies_in(sigma, step):
    assert step_of(sigma, SIGMAS) == step


@pytest.mark.parametrize(
    ("every", "sigmas", "expected"),
    [
        (2, SIGMAS[:4], [FULL, KEPT, FULL, KEPT]),
        (3, SIGMAS[:4], [FULL, KEPT, KEPT, FULL]),
        (0, SIGMAS[:4], [FULL, KEPT, KEPT, KEPT]),
        (1, SIGMAS[:4], [FULL] * 4),
        (2, (1.0, 0.8, 0.8, 0.6, 0.6, 0.3), [FULL, KEPT, KEPT] * 2),  # two calls a step, of heun
        (2, (0.8, 0.6), [FULL, FULL]),  # from the middle: groups are the schedule's
        (0, (1.0, 0.6, 0.8, 1.0), [FULL, KEPT, KEPT, KEPT]),
        (0, (0.8, 0.6, 1.0), [FULL, KEPT, FULL]),  # more noise again: a restart
    ],
)
def test_which_forwards_are_full(forward, every, sigmas, expected):
    cache = ExoCache(every)
    for _ in range(2):  # a run leaves nothing for the next
        assert [forward(cache, sigma) for sigma in sigmas] == expected
        assert (cache.full, cache.kept) == (expected.count(FULL), expected.count(KEPT))
        cache.begin_run(UnlimitedMemory())


def test_each_condition_window_and_weight_has_its_own(forward):
    cache = ExoCache(0)
    assert forward(cache, 1.0) == "full"
    assert forward(cache, 0.8, conditions=("negative",)) == "full"
    assert forward(cache, 0.8, key="second window") == "full"
    assert forward(cache, 0.8) == forward(cache, 0.8, conditions=("negative",)) == "kept"
    assert forward(cache, 0.6, weights="a LoRA") == "full"
    before = cache.kept_bytes
    assert forward(cache, 0.6) == "full" and cache.kept_bytes == before, "in place of it"


BOTH, POSITIVE, NEGATIVE = ("negative", "positive"), ("positive",), ("negative",)


OTHER = ("negative", "b")


@pytest.mark.parametrize("every", [0, 4])
@pytest.mark.parametrize(
    ("asked", "expected", "entries"),
    [
        # conditions of each noise level, those that are computed, and how many are kept then
        ([BOTH, POSITIVE, POSITIVE], [BOTH, (), ()], [2, 1, 1]),
        ([BOTH, POSITIVE, BOTH], [BOTH, (), NEGATIVE], [2, 1, 2]),
        ([POSITIVE, BOTH, POSITIVE, BOTH], [POSITIVE, NEGATIVE, (), NEGATIVE], [1, 2, 1, 2]),
        ([BOTH, BOTH[::-1], BOTH], [BOTH, (), ()], [2, 2, 2]),
        ([BOTH, OTHER, BOTH], [BOTH, ("b",), ("positive",)], [2, 2, 2]),
        ([BOTH, OTHER[::-1], POSITIVE, BOTH], [BOTH, ("b",), POSITIVE, ()], [2, 2, 3, 2]),
    ],
    ids=["cfg to 1", "and back", "cfg later", "order", "other prompt", "by turns"],
)
@pytest.mark.parametrize("stacked", [True, False])
def test_a_condition_is_kept_whatever_stands_beside_it(
    forward, every, asked, expected, entries, stacked
):
    cache, of_one = ExoCache(every), BLOCKS * 2 * 2 * 3 * 4 * 8 * 4
    for conditions, wanted, kept, sigma in zip(asked, expected, entries, SIGMAS, strict=False):
        calls = [conditions] if stacked else [(condition,) for condition in conditions]
        computed = []
        for call in calls:
            for places in cache.alike("", call, sigma, SIGMAS):
                own = tuple(call[place] for place in places)
                if forward(cache, sigma, conditions=own, asked=conditions) == "full":
                    computed += own
        assert sorted(computed) == sorted(wanted) and cache.kept_bytes == kept * of_one


def test_a_guider_that_asks_more_than_once_keeps_all(forward):
    """As the host's guider of two models does, and one that says nothing of what it asks for."""
    cache, silent = ExoCache(0), ExoCache(0)
    kinds = [
        forward(cache, s, conditions=c, asked=c) for s in SIGMAS[:3] for c in (POSITIVE, NEGATIVE)
    ]
    assert kinds == [FULL, FULL, *[KEPT] * 4]
    kinds_of_both = [forward(silent, s, conditions=c) for s in SIGMAS[:3] for c in (BOTH, POSITIVE)]
    assert kinds_of_both == [FULL, *[KEPT] * 5]


def test_a_condition_s_part_of_a_batch_is_its_own(tokens, device):
    cache = ExoCache(0)
    full = cache.forward("", BOTH, 1.0, SIGMAS, GRID, 100, device)
    tokens_by_block = [
        [tokens(block + seed, batch=2) for seed in (0, 50)] for block in range(BLOCKS)
    ]
    for block, pair in enumerate(tokens_by_block):
        full.keys_and_values(block, *pair)
    full.finish(BLOCKS)
    for conditions, rows in ((BOTH[::-1], [1, 0]), (POSITIVE, [1])):
        kept_part, ego = (
            cache.forward("", conditions, 1.0, SIGMAS, GRID, 100, device),
            tokens(9, exo=False, batch=len(rows)),
        )
        for block, pair in enumerate(tokens_by_block):
            for out, full_tokens in zip(
                kept_part.keys_and_values(block, ego, ego), pair, strict=True
            ):
                assert torch.equal(out, join_tokens(exo_tokens(full_tokens[rows], GRID), ego))


def test_blocks_that_were_skipped_keep_nothing(forward):
    cache = ExoCache(0)
    assert [forward(cache, 1.0, blocks=1), forward(cache, 0.8)] == ["full", "full"]
    assert forward(cache, 0.6) == "kept"


def test_without_room_every_step_is_full(forward):
    class Full(UnlimitedMemory):
        def room(self, device: torch.device) -> int:
            return 99

    cache = ExoCache(0)
    cache.begin_run(Full())
    assert [forward(cache, sigma) for sigma in SIGMAS[:2]] == ["refused", "refused"]
    assert cache.refused_bytes == 100 and cache.full == 2 and cache.kept_bytes == 0


def test_8_bits_lose_half_a_scale_and_both_prompts_fit_in_8_gb(device):
    x = torch.randn(3, 5, 96).to(device)
    x[..., 7] *= 1e3  # as a video model's largest channels
    x[0, 0] = 0
    codes, scale = pack(x)
    assert codes.dtype == torch.int8 and scale.shape == (3, 5, 3, 1), "32 channels share a scale"
    error = (unpack(codes, scale, x.dtype) - x).abs().unflatten(-1, (3, 32))
    assert (error <= 0.51 * scale.float()).all() and error[..., 1:, :].max() < 0.02
    sizes = (40, 2, (13, 28, 49, 28), 5120)
    assert kept_size(*sizes, 2) == 29_222_502_400 and kept_size(*sizes, None) == 7_533_926_400
