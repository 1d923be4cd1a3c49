"""Write the README.md of a robot data set, with the header that the Hugging Face hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BEGIN, END = "<!-- EgoX writes from here -->", "<!-- to here; all else is kept -->"
HEAD = """---
{license}task_categories:
- robotics
tags:
- LeRobot
- egocentric
{tags}configs:
- config_name: default
  data_files: data/*/*.parquet
---
"""
"""Read by the hub, in a card that is new."""
TEXT = """# First-person episodes from third-person video

{origin} Measured by a camera or a detector: the exo video, its poses and lens, the head's path and \
the hands, as far as `egox.head_guessed` and `egox.hand_valid` say.{cost}

{episodes}, {total_frames} frames at {fps} a second, {tasks}. {hands}

```python
from lerobot.datasets.lerobot_dataset import LeRobotDataset
episodes = LeRobotDataset("egox", root="THIS_FOLDER", video_backend="pyav")
```

| column | meaning |
| --- | --- |
| `observation.images.exo` | the third-person video, as filmed |
| `observation.images.ego` | the first-person video, upright; a model's or a true one |
| `observation.images.ego_depth` | z depth (not along the ray) of the scene in the ego camera, \
metres, 0.01 to 10; 0.01: unknown, 10: everything farther, such as the sky. It needs LeRobot 0.6: an \
older one reads a picture of 0 to 1 |
| `observation.images.ego_seen` | 255: exo sees it now, 128: at another time, 64: doubtful, 0: \
never; where a generated video was compared with exo, also 192: drawn otherwise than exo saw it, 224 \
and 160: like 255 and 128, with exo's own pixel put back |
| `observation.state` | per hand, left first: the wrist's place (x y z), two columns of its \
rotation (r11 r21 r31 r12 r22 r32), five finger tips; metres, head's frame |
| `action` | the next frame's hands in the head's frame of this one; in the last frame its \
own state (`egox.action_repeated`) |
| `egox.hand_valid` | left, right: whether the state's numbers were seen. Where not, for up to half a \
second, the hand moves on a straight line in the world; a hand that an episode never shows is at rest in \
all its frames |
| `egox.action_valid` | the same of the action: both frames were seen |
| `egox.hand_reason` | why a hand is not valid, numbered as in EgoX' hands.json; 0: it is |
| `egox.hand_label_px` | median distance to the joints that a detector saw in the ego video; -1: \
not testable |
| `egox.ego_generated` | whether the ego picture is a model's |
| `egox.ego_w2c` | ego camera from world; 4x4 row by row, metres |
| `egox.ego_c2w` | world from ego camera |
| `egox.exo_w2c` | exo camera from world |
| `egox.exo_c2w` | world from exo camera |
| `egox.ego_K` | row by row, pixels of the picture as it is here; pixel centres are integers |
| `egox.exo_K` | the same of the exo camera |
| `egox.head_guessed` | whether the head's turn was estimated from too little |
| `egox.path_deg` | degrees between the ego video's view and the pose that was ordered, from which \
`egox/notes` says a corrected one differs; -1: not measured here |
| `egox.camera_fits` | 1: the cameras fit the pictures, 0: they don't, -1: not testable (a \
generated view follows its prior, right or wrong) |
| `egox.source_time` | seconds in the source video |

Axes are those of the upright pictures: x right, y down, z forward. The head's frame is the ego
camera's. Lenses are written whole (model, K, distortion, size) in `egox/ego_camera` and
`egox/exo_camera` of meta/episodes, with what the checks said in `egox/notes`; K alone describes a
pinhole only.

Not promised: areas that the exo camera never saw are invented, hands that it didn't see are not
valid, and a generated hand may be elsewhere than its label; `egox.hand_label_px` has the distance
where it was measured.
"""
"""The card of a set with all columns; a set that lacks one has no row for it."""
COST = " An hour of generated video costs {} GPU hours."


def data_card(
    # Content of info.json.
    info: Mapping[str, Any],
    hand_valid: np.ndarray | None,  # [2] share of frames; None: a set without hands
    # All models of the set's episodes; empty: not stated.
    made_by: Sequence[str],
    gpu_hours: float | None,  # None: as the existing card states
    # Identifier of the hub's; "": not stated.
    license: str,
    # Whether any ego video is a model's.
    generated: bool,
    # The set's existing card: text outside our marks is kept.
    owners: str = "",
) -> str:
    """Write the README.md of a data set, and keep the owner's text outside of our marks."""
    sentence = "It has no hands: neither state nor action."
    if hand_valid is not None:
        left_share, right_share = 100 * hand_valid
        sentence = (
            f"The left hand is valid in {left_share:.0f} % of the frames, the right one in "
            f"{right_share:.0f} %."
        )
    origin = "The ego videos are a camera's: no model made them (`egox.ego_generated` is false)."
    if generated:
        makers = ", ".join(
            f"by {model}" if model else "by EgoX (model and weights not stated)"
            for model in made_by
        )
        origin = f"Where `egox.ego_generated` is true the ego pixels are **generated**, {makers}."
    cost = "" if gpu_hours is None else COST.format(f"{gpu_hours:g}")
    if not cost and (stated_cost := re.search(COST.format(r"[\d.e+-]+"), owners)):
        cost = stated_cost[0]
    card_text = TEXT.format(
        **info,
        origin=origin,
        cost=cost,
        episodes=_counted(info["total_episodes"], "episode"),
        tasks=_counted(info["total_tasks"], "task"),
        hands=sentence,
    )
    features = info["features"]
    card_text = re.sub(
        r"(?m)^\| `(\S+)` .*\n", lambda row: row[0] if row[1] in features else "", card_text
    )
    marked_text = f"{BEGIN}\n{card_text}{END}"
    marked_pattern = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    if marked_pattern.search(owners):
        return marked_pattern.sub(lambda _: marked_text, owners)
    tags = [
        *(["human-hands"] if hand_valid is not None else []),
        *(["generated"] if generated else []),
    ]
    card_header = HEAD.format(
        license=f"license: {license}\n" if license else "",
        tags="".join(f"- {tag}\n" for tag in tags),
    )
    return (
        f"{owners.rstrip()}\n\n{marked_text}\n"
        if owners.strip()
        else f"{card_header}{marked_text}\n"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
