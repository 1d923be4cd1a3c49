"""Bring a take's exo lens and poses to the picture that a player shows of the video.

Phones store a picture as the sensor has it, and a display matrix beside it says how it is turned.
Calibrations are of either."""

from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import CameraModel, compose, sensor_from_upright
from ..errors import EgoXInputError
from ..facts import Declared, Statement, settle
from ..types import FrameSelection, TakeMeta
from .meta import ASPECT_ERROR, DRAWN_PX, picture_of_k

Size = tuple[int, int]
"""Width and height in px."""


def shown_take(meta: TakeMeta, clip: FrameSelection, declared: Declared) -> TakeMeta:
    """Turn a take's exo lens and poses from the picture that they are of to the one that is shown.

    A lens that says its quarter turns is turned by them. One of the shown picture's size turned is
    of the stored picture, which the video's display matrix turns, and so are the poses beside it.
    Where sizes tell nothing (half a turn, a square or mirrored picture), both are taken to be of
    the shown one, and ``exo.picture`` says otherwise.

    Raises:
        EgoXInputError: a lens of a turned picture in a video that isn't turned so, ``exo.picture``
            that can't be.
    """
    lens = meta.exo_camera
    if lens is not None and lens.quarter_turns % 4:
        return _turned(meta, lens.quarter_turns, clip.source_size)
    declared = declared.part("exo.picture")
    if declared or clip.turn != (False, 1, 1):
        return _turned_as_shown(meta, lens, clip, declared)
    check_not_turned(f"exo camera of {meta.name}", lens, clip.source_size)
    return meta


def _turned_as_shown(
    meta: TakeMeta, lens: CameraModel | None, clip: FrameSelection, declared: Declared
) -> TakeMeta:
    """Settle which picture lens and poses are of, and turn them if it is the stored one.

    Raises:
        EgoXInputError: as :func:`shown_take`.
    """
    display_turns = clip.display_turns
    if clip.source is None and declared.value("exo.picture") == "stored":
        raise EgoXInputError(
            f"exo.picture of {meta.name}",
            got="stored, where no video says how its picture is turned",
            expected="a video file whose display matrix turns it",
            fix="say quarter_turns in exo_camera, by which the shown picture is turned clockwise",
        )
    is_odd = display_turns in (1, 3)
    is_of_stored = is_odd and lens is not None and is_turned(lens.stored_size, clip.source_size)
    is_square = not is_turned(clip.source_size[::-1], clip.source_size)
    is_of_shown = is_odd and lens is not None and not is_square and not is_of_stored
    statements = [
        Statement("exo.picture", picture, f"size of the lens of {meta.name}")
        for picture, is_stated in (("stored", is_of_stored), ("shown", is_of_shown))
        if is_stated
    ]
    advice = "declare exo.picture=stored where lens and poses are of the picture before its turn"
    picture, row = settle("exo.picture", statements, declared, "shown", advice=advice)
    is_contradicted = any(statement.value != picture for statement in statements)
    if is_contradicted or (picture == "stored" and display_turns is None):
        raise EgoXInputError(
            f"exo.picture of {meta.name}",
            got=f"{picture}, in a video that its display matrix mirrors"
            if display_turns is None
            else row.text,
            expected="the picture that lens and poses are of",
            fix="leave exo.picture out, or write the video anew as it is shown (ffmpeg does)",
        )
    turned = _turned(meta, display_turns, clip.source_size) if picture == "stored" else meta
    rest = Declared(
        declarations=tuple(
            entry for entry in meta.declared.declarations if entry[0] != "exo.picture"
        )
    )
    return replace(turned, declared=rest, facts=(*meta.facts, row))


def is_turned(size: Size, shown: Size) -> bool:
    """Check whether a picture has the shape of the shown one turned by 90 degrees, and no other."""
    aspect, shown_aspect = size[0] / size[1], shown[0] / shown[1]
    return (
        abs(aspect / shown_aspect - 1) > ASPECT_ERROR
        and abs(aspect * shown_aspect - 1) <= ASPECT_ERROR
    )


def check_not_turned(
    what: str, lens: CameraModel | None, shown: Size, display_turns: int | None = None
) -> None:
    """Refuse a lens of a picture that is turned by 90 degrees against the one that is shown.

    Raises:
        EgoXInputError: with the numbers of the turned lens.
    """
    if lens is None or not is_turned(lens.stored_size, shown):
        return
    turns = display_turns or 1
    turned = replace(lens, quarter_turns=turns).upright()
    raise EgoXInputError(
        what,
        got=f"a lens of {lens.width}x{lens.height} px for a picture of {shown[0]}x{shown[1]}",
        expected="the lens of the shown picture",
        fix=f"if the shown picture is the lens' one turned {90 * turns} degrees clockwise, say "
        f"quarter_turns {turns} in exo_camera (poses turn with it), or give the lens turned: "
        f"{turned.width}x{turned.height} px, fx {turned.fx:g}, fy {turned.fy:g}, centre "
        f"{turned.cx:g}, {turned.cy:g}, and poses of that picture",
    )


def _turned(meta: TakeMeta, turns: int | None, shown: Size) -> TakeMeta:
    """Turn lens, K and poses of a take's exo camera by clockwise quarter turns of its picture."""
    turns = (turns or 0) % 4
    exo, k, ego = meta.exo, meta.camera_intrinsics, meta.ego
    sensor_turn = sensor_from_upright(turns)
    if exo.lens is not None:
        exo = replace(exo, lens=replace(exo.lens, quarter_turns=turns).upright())
    if k is not None:
        k = _turned_k(k, turns, shown[::-1] if turns % 2 else shown)
    if not exo.at_origin:
        exo = replace(exo, w2c=sensor_turn.T @ exo.w2c)
    elif ego is not None:  # its world is the exo camera's, whose axes turn
        no_shift = torch.zeros(3, 1, dtype=torch.float64)
        ego = replace(ego, w2c=compose(ego.w2c, torch.cat((sensor_turn, no_shift), 1)))
    return replace(meta, exo=exo, camera_intrinsics=k, ego=ego)


def _turned_k(k: Tensor, turns: int, stored: Size) -> Tensor:  # [3, 3]
    """Turn a K of the stored picture, whose middle stays where it is written."""
    width, height = picture_of_k(k, stored, "camera_intrinsics") or stored
    camera = CameraModel.from_intrinsics(k, round(width), round(height))
    turned = replace(camera, quarter_turns=turns).upright()
    if max(abs(2 * camera.cx - width), abs(2 * camera.cy - height)) <= DRAWN_PX:
        turned = replace(turned, cx=turned.width / 2, cy=turned.height / 2)
    return turned.intrinsics
