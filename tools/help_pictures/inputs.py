"""Pictures of the nodes that bring something in: video, lens, prompt, choice of camera."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch

from egox_core.cameras.model import rescale
from egox_core.prior.rank import ExoCandidate, rank_exo_cameras
from egox_core.sizes import REFERENCE_EXO_SIZE, REFERENCE_SIZE
from egox_core.video.reader import fit_picture
from egox_core.video.selection import select_frames, source_rectangle
from egox_core.wan.caption import even_moments, request_pictures
from egox_core.wan.prompt import TOKENS

from .room import NOW, Room
from .sheet import BACKGROUND, COLOURS, FONT, INK, WIDTH, as_bytes, sheet

PHONE = (400, 300)


def load_exo_video(room: Room) -> np.ndarray:
    """A 4:3 video made 7:4, cropped and padded; and the frames that are taken at a lower rate."""
    own = room.take.depth.camera
    camera = replace(rescale(own, *PHONE), fx=330.0, fy=330.0)
    source = as_bytes(room.seen_from(room.take.depth.exo_w2c, camera).rgb)
    info = replace(room.take.video, width=PHONE[0], height=PHONE[1])
    framed = {}
    marked = source.copy()
    for resize in ("crop", "pad"):
        selection = select_frames(info, frame_count=49, resize=resize, width=REFERENCE_EXO_SIZE[0],
                                  height=REFERENCE_SIZE)
        rectangle = source_rectangle(selection)
        framed[resize] = fit_picture(source, rectangle, selection.size)
        if resize == "crop":
            left, top, width, height = rectangle
            cv2.rectangle(marked, (left + 1, top + 1), (left + width - 2, top + height - 2), (255, 190, 60), 2)
    frames = [(f"frame {int(n)}", room.exo[place]) for place, n in enumerate(room.take.frames.source_indices)][::6]
    return sheet([("the source video (4:3)", marked)], [("crop", framed["crop"]), ("pad", framed["pad"])], frames)


def rank_exo_cameras_(room: Room) -> np.ndarray:
    """Three exo cameras of one moment, by what each could show of the wearer's view."""
    path, rows = room.trajectory_now(), []
    for turn, higher in ((0.0, 0.0), (40.0, 0.0), (110.0, -0.3)):
        pose = room.exo_pose(turn, away=0.9, higher_m=higher) if turn else room.take.depth.exo_w2c
        seen = room.seen_from(pose)
        # Every camera's own file tells the same ego path, in one world.
        own = replace(path, exo_w2c=pose, exo_camera=seen.depth.camera)
        candidate = ExoCandidate(name=f"{turn:g}", camera=seen.depth.camera, trajectory=own, exo_w2c=pose,
                                 depth=seen.depth)
        share = rank_exo_cameras([candidate], frames=1)[0].coverage
        rows.append((share, seen.rgb, room.prior_of(seen.scene, path=own).rgb[0]))
    rows.sort(key=lambda row: -row[0])
    return sheet(*([(f"exo camera, rank {rank}", exo), (f"shows {share:.0%}", prior)]
                   for rank, (share, exo, prior) in enumerate(rows, 1)))


def prompt(room: Room) -> np.ndarray:
    """The two pictures that the prompt's two sections describe."""
    return sheet([("exo_view: what this camera sees", room.exo[NOW])],
                 [("ego_view: what the wearer sees and does", torch.as_tensor(room.truth[NOW]))])


def caption_request(room: Room) -> np.ndarray:
    """The pictures that the language model is shown."""
    moments = even_moments(len(room.exo))
    priors = {t: room.prior_of(room.scene_at(t), path=room.trajectory_at(t)).rgb[0] for t in moments}
    unseen = torch.zeros_like(priors[0])
    pictures = request_pictures(room.exo, torch.stack([priors.get(t, unseen) for t in range(len(room.exo))]))
    tiles = [(f"frame {t}", picture) for t, picture in zip(moments, pictures, strict=True)]
    return sheet(tiles[:2], tiles[2:])


def text(room: Room) -> np.ndarray:
    """Prompts of three lengths as bars of their two sections, and where the model's 512 tokens end."""
    del room
    canvas = np.full((230, WIDTH, 3), BACKGROUND, np.uint8)
    scale = (WIDTH - 24) / 740
    edge = 12 + round(TOKENS * scale)
    for row, (exo, ego) in enumerate(((60, 60), (300, 212), (350, 390))):
        top, left = 40 + 62 * row, 12
        for length, colour in ((exo, COLOURS[0]), (ego, COLOURS[1])):
            right = left + round(length * scale)
            cv2.rectangle(canvas, (left, top), (min(right, edge), top + 26), colour, -1)
            if right > edge:
                cv2.rectangle(canvas, (edge, top), (right - 2, top + 26), colour, 2)
            left = right
        cv2.putText(canvas, f"{exo + ego} tokens", (12, top + 48), FONT, 0.6, INK, 1, cv2.LINE_AA)
    cv2.line(canvas, (edge, 30), (edge, 218), INK, 2)
    cv2.putText(canvas, f"{TOKENS}", (edge - 40, 24), FONT, 0.7, INK, 2, cv2.LINE_AA)
    cv2.putText(canvas, "cut off", (edge + 12, 155), FONT, 0.6, INK, 1, cv2.LINE_AA)
    cv2.putText(canvas, "[Exo view]", (12, 24), FONT, 0.65, COLOURS[0], 2, cv2.LINE_AA)
    cv2.putText(canvas, "[Ego view]", (150, 24), FONT, 0.65, COLOURS[1], 2, cv2.LINE_AA)
    return canvas
