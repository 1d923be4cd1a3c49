"""Apply what the user declares of an ego path: where its tracker is mounted, and its world."""

from dataclasses import replace

import torch

from ..cameras import CameraPath, compose, sensor_from_upright
from ..errors import EgoXInputError
from ..facts import MOUNT_FACTS, Declared
from ..remarks import FactRow
from ..types import CameraTrajectory

ARIA_TURNS = 1
"""Quarter turns of Aria's sensor, by which its picture becomes upright."""
TAKEN_AS_ONE = "taken to be one with the scene's"
"""Value of the fact ``ego.world`` where no source ties the path's world to the scene's."""


def with_declared_mount(trajectory: CameraTrajectory, declared: Declared) -> CameraTrajectory:
    """Move the poses of a tracker on a hat, ring or controller to the wearer's camera.

    Without a declared mount they are the camera's.

    Raises:
        EgoXInputError: both mounts are declared.
    """
    rows = declared.rows(*MOUNT_FACTS)
    if not rows or any(row.fact in MOUNT_FACTS for row in trajectory.facts):
        return trajectory
    if len(rows) > 1:
        raise EgoXInputError(
            "mount of the tracker",
            got=" and ".join(MOUNT_FACTS),
            expected="one of them",
            fix="leave ego.sensor_from_tracker out, unless it is of Aria's raw sensor",
        )
    ego = trajectory.ego
    mount = torch.tensor(declared.value(rows[0].fact), dtype=torch.float64).reshape(3, 4)
    if rows[0].fact == "ego.sensor_from_tracker":
        mount = sensor_from_upright(ARIA_TURNS).mT @ mount
    turned = sensor_from_upright(ego.camera.quarter_turns % 4)
    upright_w2c = compose(mount, ego.upright_w2c)
    return replace(
        trajectory,
        ego=replace(ego, w2c=turned @ upright_w2c),
        facts=(*trajectory.facts, *rows),
    )


def with_declared_world(
    trajectory: CameraTrajectory, declared: Declared, scene_exo: CameraPath | None
) -> CameraTrajectory:
    """Put a path into the world that is declared for it.

    ``take`` is the scene's world; ``exo`` the exo camera's own in the first frame, from which the
    poses go to the scene's world.

    Raises:
        EgoXInputError: ``exo`` without a scene, which says where that camera is.
    """
    is_settled = any(row.fact == "ego.world" for row in trajectory.facts)
    if is_settled or declared.value("ego.world") is None:
        return trajectory
    rows = declared.rows("ego.world")
    trajectory = replace(trajectory, facts=(*trajectory.facts, *rows))
    if declared.value("ego.world") == "take":
        return trajectory
    if scene_exo is None:
        raise EgoXInputError(
            "ego.world",
            got="exo, without a scene",
            expected="the scene, whose exo camera it is",
            fix="give stages.path the scene",
        )
    first_exo = CameraPath.of_exo(None) if scene_exo.at_origin else scene_exo.one(0)
    w2c = compose(trajectory.ego.w2c, first_exo.w2c)
    return replace(
        trajectory, ego=replace(trajectory.ego, w2c=w2c, world=scene_exo.world), exo=scene_exo
    )


def taken_facts(trajectory: CameraTrajectory) -> tuple[FactRow, ...]:
    """Record what is taken of poses from a file or an array, because nobody says it.

    Their own world is taken to be the scene's where nothing ties them, and a pose to be the
    camera's, not that of a tracker beside it.
    """
    settled_facts = {row.fact for row in trajectory.facts}
    rows = []
    if "ego.world" not in settled_facts and trajectory.exo is None:
        advice = (
            "if it is another one, give the exo camera's pose in the path's world, or declare "
            "ego.world=exo where the poses are relative to the exo camera"
        )
        rows.append(FactRow(fact="ego.world", value=TAKEN_AS_ONE, by="default", advice=advice))
    elif "ego.world" not in settled_facts and "ego.axes" in settled_facts:
        rows.append(
            FactRow(
                fact="ego.world",
                value="that of the exo camera's pose",
                by="default",
                advice="declare ego.world=exo where the poses are relative to the exo camera",
            )
        )
    if "ego.axes" in settled_facts and not settled_facts & {*MOUNT_FACTS}:
        rows.append(
            FactRow(
                fact="ego.camera_from_tracker",
                value="no tracker, the poses are the camera's",
                by="default",
                advice="declare ego.camera_from_tracker where they are those of a hat, a headset "
                "or a controller",
            )
        )
    return tuple(rows)
