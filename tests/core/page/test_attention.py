"""Attention drawn: warm where the attention is, legends true, nothing where nothing is known."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from egox_core.gga.options import GgaOptions
from egox_core.gga.record import AttentionRecord, AttentionRows
from egox_core.page.attention import GAP, LEGEND, TITLE, Heat, attention_grid, heats
from egox_core.types import GgaGeometry
from tests.refusals import refuses

GRID = (2, 3, 5, 3)  # t, h, w_exo, w_ego in tokens
TOKENS = 2 * 3 * 8


def random_record(latent_frames: tuple[int, ...] = (0, 1)) -> AttentionRecord:
    t, h, w_exo, w_ego = GRID
    trust = torch.ones(t, h, w_exo + w_ego)
    trust[..., w_exo:] = trust[:, 0, 0] = 0  # no depth in a corner
    directions = normalize(torch.randn(t, *trust.shape, 3), dim=-1) * trust[..., None]
    geometry = GgaGeometry(
        query_dirs=normalize(torch.randn(t, h * w_ego, 3), dim=-1),
        key_dirs=directions.flatten(1, 3),
        key_trust=trust.flatten(),
        grid=GRID,
    )
    return AttentionRecord(
        q_ego=torch.randn(t * h * w_ego, 4 * 8),
        heads=4,
        grid=GRID,
        k=torch.randn(TOKENS, 4 * 8),
        block=7,
        blocks=40,
        step=3,
        steps=50,
        sigma=0.9,
        geometry=geometry,
        options=GgaOptions(),
        latent_frames=latent_frames,
    )


def test_pixels_and_frames_find_their_token():
    record = random_record()
    assert record.query(0, 0, 0) == 0
    assert record.query(47, 47, 0) == 8, "the last token of the first latent frame"
    assert [record.query(16, 32, frame) for frame in (1, 4)] == [9 + 6 + 1] * 2
    window = random_record(latent_frames=(5, 6))
    assert window.query(0, 0, 20) == 0 and window.query(0, 0, 21) == 9
    for x, y, frame in ((48, 0, 0), (0, -1, 0), (0, 0, 5), (0, 0, -1)):
        with refuses():
            record.query(x, y, frame)
    with refuses("17 to 24"):
        window.query(0, 0, 4)


def test_attention_is_told_in_multiples_of_an_even_spread():
    record = random_record()
    even = torch.full((1, TOKENS), 1 / TOKENS)
    rows = AttentionRows(without=even, guided=even, weight=torch.ones(1, TOKENS))
    weight, guided, plain = heats(record, rows, 0)
    assert all(np.allclose(heat.values, 1) for heat in (weight, guided, plain))
    assert "as in the model" in guided.title and "as in the model" not in plain.title
    assert float(record.exo_part(even[0]).sum()) == pytest.approx(5 / 8)


def test_without_depth_there_is_no_weight():
    """Values of all rows: ``tests/host/test_attention_view.py``."""
    record = random_record()
    weight = record.exo_part(record.rows(range(18)).weight)
    assert bool(weight[:, :, 0, 0].isnan().all()) and not bool(weight[:, :, 1:].isnan().any())


def test_the_picture_is_warm_where_the_attention_is():
    exo, ego = torch.full((480, 800, 3), 0.5), torch.full((480, 480, 3), 0.5)
    values = np.zeros((3, 5))
    values[1, 3], values[0, 0] = 1.0, np.nan
    heat = Heat(name="plain", title="a", values=values, low=0, high=1, unit="x")
    grid = attention_grid(exo, ego, (100, 50), [heat] * 2, "ego")
    assert grid.shape[0] % 2 == 0 and grid.shape[1] % 2 == 0
    top, left = GAP + TITLE, 2 * GAP + 800
    heat = grid[top : top + 480, left : left + 800]
    red_minus_blue = heat[..., 0] - heat[..., 2]
    row, column = divmod(int(red_minus_blue.argmax()), 800)
    assert 160 <= row < 320 and 480 <= column < 640, "the token in row 1, column 3"
    corner = heat[20, 20]
    assert float(corner.max() - corner.min()) < 0.01, "grey where nothing is known"
    mark = grid[
        top : top + 480, GAP + 160 : GAP + 160 + 480
    ]  # the ego picture, centred in its tile
    away = (mark - 0.5).abs()
    assert float(away[40:61, 90:111].max()) > 0.4 and float(away[200:, 200:].max()) < 0.01
    legend = grid[top + 480 : top + 480 + LEGEND, left : left + 800]
    cold, warm = legend[9, 40], legend[9, -40]
    assert cold[2] > 2 * cold[1] and warm[0] > 2 * warm[2], "blue left, red right"
