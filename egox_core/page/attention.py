"""Draw attention as a heat map over the exo frame, beside the ego frame (the paper's Figure 7)."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frozen import frozen
from ..gga import AttentionRecord, AttentionRows
from ..progress import Progress, no_progress
from ..sizes import PIXEL_STEP
from .maps import colour_stops, colour_table

MIN_TILE = 480  # px of width: smaller pictures are enlarged, or the labels would not fit
TITLE, LEGEND, GAP = 30, 34, 8  # px
BACKGROUND, INK, FAINT = (24, 24, 27), (235, 235, 235), (150, 150, 155)
FONT = cv2.FONT_HERSHEY_SIMPLEX
TOP_QUANTILE = 0.995
"""Attention above this quantile of both maps has the warmest colour: a few tokens may hold most of
it."""


@frozen
class Heat:
    """Heat map over the exo frame, with its title and scale."""

    name: str  # weight | guided | plain
    title: str  # ASCII, the font's reach
    values: np.ndarray  # [h, w_exo] float, NaN where there is none
    low: float
    high: float
    unit: str

    def legend(self) -> dict[str, Any]:
        """List the map's colours from low to high, with labels at the ends and in the middle."""
        return {
            "colours": colour_stops(),
            "ticks": [
                {"at": position, "label": self.tick(position)} for position in (0.0, 0.5, 1.0)
            ],
        }

    def tick(self, at: float) -> str:
        """Format the label of the colour scale at a position (0...1)."""
        return f"{self.low + at * (self.high - self.low):.2g}{self.unit}"

    def picture(self, exo: Tensor) -> Tensor:  # [H, W, 3] 0...1 -> [H, W, 3]
        """Draw the heat map over the exo frame, without title and legend."""
        return torch.from_numpy(_draw_overlay(_to_uint8(exo, 1.0), self)).float() / 255


def attention_view(
    record: AttentionRecord,
    exo_images: Tensor,  # [T, H, W, 3] 0...1
    ego_images: Tensor,  # [T, H, W_ego, 3] 0...1, upright
    pixel: tuple[int, int],  # (x, y) in the ego picture
    frame: int,
    progress: Progress = no_progress,
) -> tuple[Tensor, list[Heat], str]:
    """Draw and describe the attention of one ego pixel.

    Raises:
        EgoXInputError: pictures of another canvas, a pixel or frame outside.
    """
    check_attention_pictures(record, exo_images, ego_images)
    query = record.query(*pixel, frame)
    count = min(len(exo_images), len(ego_images))
    if frame >= count:
        raise EgoXInputError(
            "frame",
            got=frame,
            expected=f"0 to {count - 1}",
            fix="give as many exo and ego frames as were sampled",
        )
    rows = record.rows([query], progress)
    heat_maps = attention_heat_maps(record, rows, query // (record.grid[1] * record.grid[3]))
    caption = f"ego frame {frame}, pixel {pixel[0]}, {pixel[1]}"
    attention_picture = attention_grid(
        exo_images[frame], ego_images[frame], pixel, heat_maps, caption
    )
    return attention_picture, heat_maps, attention_report(record, rows)


def attention_heat_maps(record: AttentionRecord, rows: AttentionRows, key_frame: int) -> list[Heat]:
    """Compute the heat maps of the first query in ``rows``: weight g, attention with geometry,
    attention without.

    Attention is in multiples of an even spread over all tokens of the key frame.
    """
    token_count = record.grid[0] * record.grid[1] * (record.grid[2] + record.grid[3])
    maps_of_query = []
    if rows.weight is not None:
        weight = record.exo_part(rows.weight[0])[key_frame].numpy()
        maps_of_query.append(
            Heat(
                name="weight",
                title="geometry weight g = 1 + cos",
                values=weight,
                low=0.0,
                high=2.0,
                unit="",
            )
        )
    attention_maps = [("plain", "attention without GGA", rows.without, not record.has_bias)]
    if rows.guided is not None and record.options is not None:
        settings_text = f"{record.options.mode}, lambda_g {record.options.lambda_g:g}"
        attention_maps.insert(
            0, ("guided", f"attention with GGA ({settings_text})", rows.guided, True)
        )
    maps = [
        token_count * record.exo_part(row[0])[key_frame].numpy() for *_, row, _ in attention_maps
    ]
    high = max(float(np.quantile(np.stack(maps), TOP_QUANTILE)), 1e-3)
    for (name, title, _, in_model), values in zip(attention_maps, maps, strict=True):
        title += " - as in the model" if in_model else ""
        maps_of_query.append(
            Heat(name=name, title=title, values=values, low=0.0, high=high, unit="x")
        )
    return maps_of_query


def attention_grid(
    exo: Tensor,  # [H, W, 3] 0...1
    ego: Tensor,  # [H, W_ego, 3] 0...1, upright
    pixel: tuple[int, int],  # (x, y) in the ego picture
    maps: Sequence[Heat],
    caption: str,  # ASCII, of the ego picture
) -> Tensor:  # [H', W', 3] float32 0...1
    """Draw the ego frame with the chosen pixel marked, and attention heat maps over the exo frame,
    in a grid."""
    scale = max(1.0, MIN_TILE / exo.shape[1])
    width, height = round(exo.shape[1] * scale), round(exo.shape[0] * scale)
    exo_picture, ego_picture = (_to_uint8(picture, scale) for picture in (exo, ego))
    tiles = [
        _draw_tile(
            caption, _centre_picture(_mark_pixel(ego_picture, pixel, scale), width, height), None
        )
    ]
    tiles += [_draw_tile(heat.title, _draw_overlay(exo_picture, heat), heat) for heat in maps]
    tile_height = TITLE + height + LEGEND
    row_count = -(-len(tiles) // 2)
    canvas = np.full(
        (GAP + row_count * (tile_height + GAP), 3 * GAP + 2 * width, 3), BACKGROUND, np.uint8
    )
    for index, tile in enumerate(tiles):
        row, column = divmod(index, 2)
        top, left = GAP + row * (tile_height + GAP), GAP + column * (width + GAP)
        canvas[top : top + tile.shape[0], left : left + width] = tile
    even_canvas = canvas[
        : canvas.shape[0] // 2 * 2, : canvas.shape[1] // 2 * 2
    ]  # video codecs need even sides
    return torch.from_numpy(even_canvas).float() / 255


def check_attention_pictures(
    record: AttentionRecord,
    exo_images: Tensor,  # [T, H, W, 3]
    ego_images: Tensor,  # [T, H, W_ego, 3]
) -> None:
    """Refuse pictures whose size differs from that of the recorded canvas.

    Raises:
        EgoXInputError: other sizes.
    """
    _, h, w_exo, w_ego = record.grid
    for name, pictures, latent_width in (
        ("exo_images", exo_images, w_exo),
        ("ego_images", ego_images, w_ego),
    ):
        if tuple(pictures.shape[1:3]) != (PIXEL_STEP * h, PIXEL_STEP * latent_width):
            raise EgoXInputError(
                name,
                got=f"{pictures.shape[2]}x{pictures.shape[1]} px",
                expected=f"{PIXEL_STEP * latent_width}x{PIXEL_STEP * h} px, as on the canvas",
                fix="give the exo clip and the decoded ego video of the same sampling",
            )


def attention_report(record: AttentionRecord, rows: AttentionRows) -> str:
    """Describe which attention call was recorded, and the exo half's share of the attention."""
    report_lines = [
        f"step {record.step} of {record.steps} (sigma {record.sigma:.3f}), block {record.block} of "
        f"{record.blocks}, mean of {record.heads} heads"
    ]
    for name, row in (("with GGA", rows.guided), ("without GGA", rows.without)):
        if row is not None:
            report_lines.append(
                f"{name}: exo half {float(record.exo_part(row).sum()) / len(row):.1%} of the "
                "attention"
            )
    if rows.guided is None:
        report_lines.append(
            "The model is patched without geometry (λ_g 0 or mode off): nothing to compare with."
        )
    return "\n".join(report_lines)


def _draw_overlay(picture: np.ndarray, heat: Heat) -> np.ndarray:
    """Draw a heat map over a grey picture, more opaque for higher values."""
    height, width = picture.shape[:2]
    has_value = np.isfinite(heat.values)
    heat_share = np.clip(
        (np.where(has_value, heat.values, heat.low) - heat.low) / (heat.high - heat.low), 0, 1
    )
    heat_share = cv2.resize(
        heat_share.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    )
    value_mask = cv2.resize(
        has_value.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
    )
    map_colours = 255 * colour_table()[np.clip(heat_share * 255, 0, 255).astype(np.uint8)]
    grey_picture = np.repeat(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2
    ).astype(np.float32)
    opacity = ((0.35 + 0.45 * heat_share) * value_mask)[..., None]
    return (grey_picture * (1 - opacity) + map_colours * opacity).round().astype(np.uint8)


def _draw_tile(title: str, picture: np.ndarray, heat: Heat | None) -> np.ndarray:
    height, width = picture.shape[:2]
    tile = np.full((TITLE + height + LEGEND, width, 3), BACKGROUND, np.uint8)
    tile[TITLE : TITLE + height] = picture
    _draw_text(tile, title, (2, 20), width - 4, INK)
    if heat is not None:
        _draw_legend(tile[TITLE + height :], heat)
    return tile


def _draw_legend(strip: np.ndarray, heat: Heat) -> None:
    left = 10
    right = strip.shape[1] - 10
    table = (255 * colour_table()).round().astype(np.uint8)
    strip[5:13, left:right] = table[np.linspace(0, 255, right - left).round().astype(int)][None]
    for share in (0.0, 0.5, 1.0):
        text = heat.tick(share)
        if share == 0.5 and heat.unit:
            text += " of an even spread"
        (text_width, _), _ = cv2.getTextSize(text, FONT, 0.42, 1)
        x = min(
            max(round(left + share * (right - left) - text_width / 2), left), right - text_width
        )
        cv2.putText(strip, text, (x, 28), FONT, 0.42, FAINT, 1, cv2.LINE_AA)


def _mark_pixel(picture: np.ndarray, pixel: tuple[int, int], scale: float) -> np.ndarray:
    centre = tuple(round((value + 0.5) * scale) for value in pixel)
    radius = max(5, picture.shape[0] // 40)
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.circle(picture, centre, radius, colour, thickness, cv2.LINE_AA)
        cv2.drawMarker(
            picture,
            centre,
            colour,
            cv2.MARKER_CROSS,
            4 * radius,
            max(1, thickness - 1),
            cv2.LINE_AA,
        )
    return picture


def _centre_picture(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    tile = np.full((height, width, 3), BACKGROUND, np.uint8)
    left = max(0, (width - picture.shape[1]) // 2)
    cropped_picture = picture[:height, :width]
    tile[: cropped_picture.shape[0], left : left + cropped_picture.shape[1]] = cropped_picture
    return tile


def _to_uint8(picture: Tensor, scale: float) -> np.ndarray:
    data = (
        (picture[..., :3].detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    )
    if scale == 1.0:
        return np.ascontiguousarray(data)
    return cv2.resize(
        data,
        (round(data.shape[1] * scale), round(data.shape[0] * scale)),
        interpolation=cv2.INTER_LINEAR,
    )


def _draw_text(
    canvas: np.ndarray,
    text: str,
    position: tuple[int, int],
    width: int,
    colour: tuple[int, int, int],
) -> None:
    font_scale = 0.52
    (text_width, _), _ = cv2.getTextSize(text, FONT, font_scale, 1)
    cv2.putText(
        canvas,
        text,
        position,
        FONT,
        font_scale * min(1.0, width / max(text_width, 1)),
        colour,
        1,
        cv2.LINE_AA,
    )
