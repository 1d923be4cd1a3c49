"""Bring a take's exo lens and poses to the picture that a player shows of the video.

Phones store a picture as the sensor has it, and a display matrix beside it says how it is turned.
Calibrations are of either."""

from dataclasses import replace

import torch

from ..cameras import CameraModel, compose, sensor_from_upright
from ..errors import EgoXInputError
from ..facts import Declared, Statement, settle
from ..remarks import FactRow
from ..types import FrameSelection, TakeMeta
from .meta import ASPECT_ERROR, DRAWN_PX, own_camera

Size = tuple[int, int]
"""Width and height in px."""


def shown_take(meta: TakeMeta, clip: FrameSelection, declared: Declared) -> TakeMeta:
    """Turn a take's exo lens and poses from the picture that they are of to the one that is shown.

    A lens that says its quarter turns is turned by them. One of a wide picture where the shown one
    is high, or the other way round, is of the stored picture, which the video's display matrix
    turns, and so are the poses beside it. Where sizes tell nothing (half a turn, a square or
    mirrored picture), both are taken to be of the shown one, and ``exo.picture`` says otherwise. A
    take with its row is turned already.

    Raises:
        EgoXInputError: a lens of a turned picture in a video that isn't turned so, ``exo.picture``
            that can't be.
    """
    if any(row.fact == "exo.picture" for row in meta.facts):
        return meta
    lens, declared = meta.exo_camera, declared.part("exo.picture")
    if declared or clip.turn != (False, 1, 1) or (lens is not None and lens.quarter_turns % 4):
        turns, row = _settled_turns(meta, clip, declared)
        meta = replace(meta, facts=(*meta.facts, row))
        meta = _turned(meta, turns, clip.source_size) if turns else meta
    check_not_turned(f"exo camera of {meta.name}", meta.exo_camera, clip.source_size)
    return meta


def _settled_turns(meta: TakeMeta, clip: FrameSelection, declared: Declared) -> tuple[int, FactRow]:
    """Settle the clockwise quarter turns from the picture of a take's exo camera to the shown one.

    Raises:
        EgoXInputError: as :func:`shown_take`.
    """
    lens, shown_size, display_turns = meta.exo_camera, clip.source_size, clip.display_turns
    if lens is not None and (own_turns := lens.quarter_turns % 4):
        by = f"quarter_turns of {meta.name}"
        if _is_turned(lens.upright(), shown_size):
            raise EgoXInputError(
                by,
                got=f"{own_turns}, with which the picture is {lens.stored_size[0]} px wide and "
                f"{lens.stored_size[1]} px high",
                expected=f"the turns to the shown one, {shown_size[0]}x{shown_size[1]}",
                fix="leave quarter_turns out, or say 2 where the shown picture is upside down",
            )
        value = f"turned by {90 * own_turns} degrees"
        return own_turns, FactRow(fact="exo.picture", value=value, by=by)
    statements = []
    if lens is not None and display_turns in (1, 3) and shown_size[0] != shown_size[1]:
        is_wide, is_shown_wide = (w > h for w, h in (lens.stored_size, shown_size))
        stated_picture = "shown" if is_wide == is_shown_wide else "stored"
        by = f"size of the lens of {meta.name}"
        statements = [Statement("exo.picture", stated_picture, by)]
    advice = "declare exo.picture=stored where lens and poses are of the picture before its turn"
    picture, row = settle("exo.picture", statements, declared, "shown", advice=advice)
    is_contradicted = any(statement.value != picture for statement in statements)
    problem = row.text if is_contradicted else ""
    if picture == "stored" and clip.source is None:
        problem = "stored, where no video says how its picture is turned"
    elif picture == "stored" and display_turns is None:
        problem = "stored, in a video that its display matrix mirrors"
    if problem:
        raise EgoXInputError(
            f"exo.picture of {meta.name}",
            got=problem,
            expected="the picture that lens and poses are of",
            fix="leave exo.picture out, say quarter_turns in exo_camera, by which the shown "
            "picture is turned clockwise, or write the video anew as it is shown (ffmpeg does)",
        )
    return (display_turns or 0) if picture == "stored" else 0, row


def check_not_turned(
    what: str, lens: CameraModel | None, shown: Size, display_turns: int | None = None
) -> None:
    """Refuse a lens of a picture that is turned by 90 degrees against the one that is shown.

    Raises:
        EgoXInputError: with the numbers of the turned lens.
    """
    if lens is None or not _is_turned(lens, shown):
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


def _is_turned(lens: CameraModel, shown: Size) -> bool:
    """Check whether a lens' picture has the shape of the shown one turned by 90 degrees alone."""
    aspect, shown_aspect = lens.stored_size[0] / lens.stored_size[1], shown[0] / shown[1]
    return (
        abs(aspect / shown_aspect - 1) > ASPECT_ERROR
        and abs(aspect * shown_aspect - 1) <= ASPECT_ERROR
    )


def _turned(meta: TakeMeta, turns: int, shown: Size) -> TakeMeta:
    """Turn lens and poses of a take's exo camera by clockwise quarter turns of its picture.

    A K gets the picture here that it is of, and its middle stays where it is written.
    """
    exo, ego, lens, k = meta.exo, meta.ego, meta.exo.lens, meta.camera_intrinsics
    is_drawn = False
    if lens is None and k is not None:
        lens = own_camera(k, shown[::-1] if turns % 2 else shown, "camera_intrinsics")
        off_middle = 2 * lens.cx - lens.width, 2 * lens.cy - lens.height
        is_drawn = max(map(abs, off_middle)) <= DRAWN_PX
    if lens is not None:
        lens = replace(lens, quarter_turns=turns).upright()
        lens = replace(lens, cx=lens.width / 2, cy=lens.height / 2) if is_drawn else lens
        k = None if k is None else lens.intrinsics
    exo, sensor_turn = replace(exo, lens=lens), sensor_from_upright(turns)
    if not exo.at_origin:
        exo = replace(exo, w2c=sensor_turn.T @ exo.w2c)
    elif ego is not None:  # its world is the exo camera's, whose axes turn
        no_shift = torch.zeros(3, 1, dtype=torch.float64)
        ego = replace(ego, w2c=compose(ego.w2c, torch.cat((sensor_turn, no_shift), 1)))
    return replace(meta, exo=exo, camera_intrinsics=k, ego=ego)
