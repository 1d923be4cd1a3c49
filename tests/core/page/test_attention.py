"""Test the drawn attention: token positions, relative values, colours and legends."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from egox_core.gga.options import GgaOptions
from egox_core.gga.record import AttentionRecord, AttentionRows
from egox_core.page.attention import GAP, TITLE, Heat, attention_grid, attention_heat_maps
from egox_core.types import GgaGeometry
from tests.refusals import refuses

GRID = (2, 3, 5, 3)  # t, h, w_exo, w_ego in tokens
TOKENS = 2 * 3 * 8


def random_record(latent_frames: tuple[int, ...] = (0, 1)) -> AttentionRecord:
    t, h, w_exo, w_ego = GRID
    trust_map = torch.ones(t, h, w_exo + w_ego)
    trust_map[..., w_exo:] = trust_map[:, 0, 0] = 0  # no depth in a corner
    directions = normalize(torch.randn(t, *trust_map.shape, 3), dim=-1) * trust_map[..., None]
    geometry = GgaGeometry(
        query_dirs=normalize(torch.randn(t, h * w_ego, 3), dim=-1),
        key_dirs=directions.flatten(1, 3),
        key_trust=trust_map.flatten(),
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


def test_pixels_and_frames_have_their_token():
    attention_record = random_record()
    assert attention_record.query(0, 0, 0) == 0
    assert attention_record.query(47, 47, 0) == 8, "the last token of the first latent frame"
    assert [attention_record.query(16, 32, frame) for frame in (1, 4)] == [9 + 6 + 1] * 2
    window_record = random_record(latent_frames=(5, 6))
    assert window_record.query(0, 0, 20) == 0
    assert window_record.query(0, 0, 21) == 9
    for x, y, frame in ((48, 0, 0), (0, -1, 0), (0, 0, 5), (0, 0, -1)):
        with refuses():
            attention_record.query(x, y, frame)
    with refuses("17 to 24"):
        window_record.query(0, 0, 4)


def test_attention_is_shown_relative_to_an_even_spread():
    attention_record = random_record()
    even_weights = torch.full((1, TOKENS), 1 / TOKENS)
    attention_rows = AttentionRows(
        without=even_weights, guided=even_weights, weight=torch.ones(1, TOKENS)
    )
    weight_heat, guided_heat, plain_heat = attention_heat_maps(attention_record, attention_rows, 0)
    assert all(np.allclose(heat.values, 1) for heat in (weight_heat, guided_heat, plain_heat))
    assert "as in the model" in guided_heat.title
    assert "as in the model" not in plain_heat.title
    assert float(attention_record.exo_part(even_weights[0]).sum()) == pytest.approx(5 / 8)


def test_attention_picture_is_warm_where_attention_is_high():
    exo_picture, ego_picture = torch.full((480, 800, 3), 0.5), torch.full((480, 480, 3), 0.5)
    heat_values = np.zeros((3, 5))
    heat_values[1, 3] = 1.0
    heat_values[0, 0] = np.nan
    attention_heat = Heat(name="plain", title="a", values=heat_values, low=0, high=1, unit="x")
    attention_picture = attention_grid(
        exo_picture, ego_picture, (100, 50), [attention_heat] * 2, "ego"
    )
    assert attention_picture.shape[0] % 2 == 0
    assert attention_picture.shape[1] % 2 == 0
    top = GAP + TITLE
    left = 2 * GAP + 800
    attention_heat = attention_picture[top : top + 480, left : left + 800]
    red_minus_blue = attention_heat[..., 0] - attention_heat[..., 2]
    row, column = divmod(int(red_minus_blue.argmax()), 800)
    assert 160 <= row < 320 and 480 <= column < 640, "the token in row 1, column 3"
    corner_pixel = attention_heat[20, 20]
    assert float(corner_pixel.max() - corner_pixel.min()) < 0.01, "grey where nothing is known"
    # The ego picture is centred in its tile, with a mark where it was clicked.
    grey_difference = (attention_picture[top : top + 480, GAP + 160 : GAP + 640] - 0.5).abs()
    assert float(grey_difference[40:61, 90:111].max()) > 0.4
    assert float(grey_difference[200:, 200:].max()) < 0.01
    cold_colour, warm_colour = attention_picture[top + 489, [left + 40, left + 760]]
    assert cold_colour[2] > 2 * cold_colour[1] and warm_colour[0] > 2 * warm_colour[2]
