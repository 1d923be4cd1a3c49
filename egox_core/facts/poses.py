"""Settle what the poses of a file are: axes of its cameras and of its world, unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..arrays import as_poses
from ..cameras import CameraModel, CameraPath, World, invert, validate_w2c
from ..errors import EgoXInputError
from ..frames import Frames, Numbering, entries_of, settle_frames
from ..frozen import frozen
from ..remarks import FactRow, Remark, StageReport
from .declared import Declared
from .settle import Statement, settle
from .table import AXIS_SIGNS, FACTS

Axes = Literal["opencv", "opengl", "unity"]
MOUNT_FACTS = "ego.camera_from_tracker", "ego.sensor_from_tracker"
"""Facts that say where a tracker is in the axes of the upright camera, or of Aria's raw sensor."""
UNKNOWN_WORLD = "default"
"""By whom the world of bare matrices is turned where nobody says it."""
SAME_POSE = 1e-6
"""Difference of two poses, in any number, up to which they are the same."""


@frozen
class StatedPoses:
    """Poses as a file has them, and what it states of them.

    Nothing is checked or converted: :func:`settle_poses` does both, once.
    """

    name: str  # of the file
    poses: Tensor  # [N, 3 or 4, 4], or [3 or 4, 4] of a camera that stands; float64
    camera_to_world: bool | None  # None: nothing tells
    # "unit", "axes" and so on, of whichever camera the file is read for
    statements: tuple[Statement, ...] = ()
    # where no file and no user says: the form's own axes, and whether its world turns with them
    axes: Axes | None = "opencv"  # None: the form has none
    turns_world: bool = True
    lens: CameraModel | None = None
    world: World = "unknown"
    applied_scale: float = 1.0  # by which its places were multiplied beside their unit
    gravity: bool = True
    of_body: bool = False  # of a tracked body that carries the camera
    quaternion: str = ""  # order in which its quaternions were read; empty: it has none
    label: str = ""  # of the poses in errors; empty: "path NAME"
    # what it states of their frames, as fields of Numbering; nothing: they are frames 0, 1, 2, ...
    moments: Mapping[str, Any] = field(default_factory=dict)
    read_lens: Callable[[], CameraModel] | None = None  # read when asked for: it may be any
    remarks: tuple[Remark, ...] = ()  # on what of the file isn't read


def settle_poses(
    stated: StatedPoses,
    declared: Declared,
    camera: Literal["ego", "exo"],
) -> tuple[CameraPath, tuple[FactRow, ...]]:
    """Convert a file's poses to w2c in OpenCV's axes and metres, with the facts that were applied.

    Raises:
        EgoXInputError: no rigid ones; bare matrices, or poses of a body, without the user's word.
    """

    def settled(
        fact: str, default: object, default_by: str = "default", advice: str = ""
    ) -> tuple[object, FactRow]:
        statements = [
            statement._replace(fact=f"{camera}.{fact}")
            for statement in stated.statements
            if statement.fact == fact
        ]
        return settle(f"{camera}.{fact}", statements, declared, default, default_by, advice)

    form = f"the form of {stated.name}"
    axes, axes_row = settled(
        "axes", stated.axes, form, f"declare {camera}.axes where its cameras have others"
    )
    form_direction = {True: "c2w", False: "w2c", None: None}[stated.camera_to_world]
    direction, direction_row = settled("direction", form_direction, form)
    _check_known(stated, declared, camera, axes, direction)
    world_axes, world_axes_row = settled(
        "world_axes",
        "turned" if stated.turns_world else "stored",
        UNKNOWN_WORLD if stated.axes is None else form,
        f"declare {camera}.world_axes where its world is "
        f"{'left as stored' if stated.turns_world else 'turned with the cameras'}",
    )
    if axes == "unity" and world_axes == "stored":
        if declared.value(f"{camera}.world_axes"):
            raise EgoXInputError(
                f"{camera}.world_axes of {stated.name}",
                got=f"stored, beside {camera}.axes=unity",
                expected="turned: a left-handed world can't stay as it is stored",
                fix=f"leave {camera}.world_axes out",
            )
        world_axes_row = replace(world_axes_row, value="turned", by=axes_row.by)
    unit_m, unit_row = settled("unit", 1.0, advice=f"declare {camera}.unit where it is another")
    if declared.value(f"{camera}.unit") and stated.applied_scale != 1:
        unit_m = declared.value(f"{camera}.unit") / stated.applied_scale
        unit_row = replace(
            unit_row,
            value=FACTS["ego.unit"].show(unit_m),
            advice=f"its applied_scale of {stated.applied_scale:g} is undone as well",
        )
    rows = [axes_row, unit_row]
    rows += [direction_row] if direction_row.by != form else []
    is_turned = axes != "opencv"
    if is_turned:
        rows.append(world_axes_row)
    poses = validate_w2c(stated.poses, stated.label or f"path {stated.name}")
    if stated.quaternion:
        order, order_row = settled(
            "quaternion", stated.quaternion, form, f"declare {camera}.quaternion=wxyz where w leads"
        )
        rows.append(order_row)
        if order != stated.quaternion:
            poses = _with_other_quaternions(poses, w_first=order == "wxyz")
    if is_turned or unit_m != 1:
        c2w = poses if direction == "c2w" else invert(poses)
        camera_signs = torch.tensor(AXIS_SIGNS[str(axes)], dtype=torch.float64)
        if world_axes == "turned" or axes == "unity":
            c2w = c2w * camera_signs[:, None]
        column_factors = torch.cat((camera_signs, torch.tensor([float(unit_m)]).double()))  # ty: ignore[invalid-argument-type]  parsed
        w2c = invert(c2w * column_factors)
    else:
        w2c = invert(poses) if direction == "c2w" else poses
    path = CameraPath(lens=stated.lens, w2c=w2c, world=stated.world, gravity=stated.gravity)
    return path, tuple(rows)


def with_exo_axes(
    ego: CameraPath, rows: tuple[FactRow, ...], exo: CameraPath | None, exo_rows: Sequence[FactRow]
) -> tuple[CameraPath, tuple[FactRow, ...]]:
    """Turn the world of bare ego matrices as the exo camera's poses in it were turned.

    Raises:
        EgoXInputError: an exo pose of which nothing says in which axes its world is.
    """
    ego_by_fact = {row.fact: row for row in rows}
    world_row = ego_by_fact.get("ego.world_axes")
    if world_row is None or world_row.by != UNKNOWN_WORLD:
        return ego, rows
    axes = ego_by_fact["ego.axes"].value
    # Poses relative to the exo camera are in no world of its poses.
    is_of_exo = "ego.world" in ego_by_fact and ego_by_fact["ego.world"].value == "exo"
    if is_of_exo or axes == "unity" or exo is None or exo.world != "take" or exo.at_origin:
        return ego, rows
    exo_by_fact = {row.fact: row for row in exo_rows}
    exo_axes, exo_world = map(exo_by_fact.get, ("exo.axes", "exo.world_axes"))
    if exo_world is None and (exo_axes is None or exo_axes.by.startswith("the form of")):
        raise EgoXInputError(
            "world of the ego poses",
            got=f"bare matrices of {axes}'s axes, beside an exo pose of which nothing says its own",
            expected="both cameras in one world",
            fix="declare ego.world_axes=stored where the exo pose is in the world as the matrices "
            "have it (ARKit: y up), or ego.world_axes=turned where it is in one turned to y down",
        )
    world_axes = "stored" if exo_world is None else exo_world.value
    new_row = replace(world_row, value=world_axes, by="the exo camera's poses", advice="")
    if world_axes != world_row.value:
        # The world's own turn is undone, the camera's stays.
        signs = torch.tensor([*AXIS_SIGNS[axes], 1.0], dtype=torch.float64)
        ego = replace(ego, w2c=ego.w2c * signs)
    return ego, tuple(new_row if row is world_row else row for row in rows)


def first_posed(*cameras: CameraPath | None) -> CameraPath:
    """Choose the first exo camera that isn't at its own origin, which says no pose, or the last."""
    known_cameras = [camera for camera in cameras if camera is not None]
    return next((camera for camera in known_cameras if not camera.at_origin), known_cameras[-1])


def path_of_array(
    values: object,  # [T, 3, 4] of the frames in use or of the source, or [3, 4] of all
    label: str,
    camera: Literal["ego", "exo"],
    frames: Frames | None,
    declared: Declared,
    # The fact that says of which frames they are.
    frames_fact: str = "ego.frames",
) -> tuple[CameraPath, StageReport]:
    """Settle an array of poses for the frames in use, with its facts and how frames were found.

    Raises:
        EgoXInputError: matrices that are no poses, fewer than frames in use.
    """
    stated = StatedPoses(
        name=label,
        label=label,
        poses=as_poses(values, label),
        camera_to_world=False,
        world="take",
    )
    path, rows = settle_poses(stated, declared, camera)
    pose_frames = settle_frames(frames, path.frames)
    path_in_use = replace(path, frames=pose_frames.without_sizes)
    if path.stands:
        return path_in_use, StageReport(facts=rows)
    file_frames = declared.argument_value(frames_fact)
    numbering = Numbering(what=label, count=len(path), in_memory=True, file_frames=file_frames)
    entries = entries_of(pose_frames, numbering)
    report = StageReport(facts=rows, notes=(entries.remark,))
    return replace(path_in_use, w2c=path.w2c[entries.at]), report


def same_poses(first: CameraPath, second: CameraPath) -> bool:
    """Check whether two cameras have the same poses."""
    is_comparable = first.stands or second.stands or len(first.w2c) == len(second.w2c)
    return is_comparable and float((first.w2c - second.w2c).abs().max()) <= SAME_POSE


def _with_other_quaternions(poses: Tensor, *, w_first: bool) -> Tensor:  # [N, 3, 4]
    """Read the quaternions that made the rotations in the other order: w first, or w last."""
    from scipy.spatial.transform import Rotation  # half of torch's time

    xyzw = Rotation.from_matrix(poses[..., :3].numpy()).as_quat()
    other_order = [1, 2, 3, 0] if w_first else [3, 0, 1, 2]
    rotations = Rotation.from_quat(xyzw[..., other_order]).as_matrix()
    return torch.cat((torch.from_numpy(rotations), poses[..., 3:]), -1)


def _check_known(
    stated: StatedPoses, declared: Declared, camera: str, axes: object, direction: object
) -> None:
    """Refuse poses that nothing can place, and name the facts to declare."""
    unknown_facts = []
    if direction is None:
        unknown_facts.append(
            f"{camera}.direction=c2w (camera to world: ARKit, most trackers) or w2c"
        )
    if axes is None:
        unknown_facts.append(f"{camera}.axes={', '.join(AXIS_SIGNS)} (ARKit: opengl)")
    if unknown_facts:
        raise EgoXInputError(
            f"path {stated.name}",
            got="bare matrices, of which nothing says what they are",
            expected="poses of which axes and direction are known",
            fix=f"declare {', and '.join(unknown_facts)}",
        )
    mount_fix = (
        "declare ego.camera_from_tracker, the body's pose in the upright camera's axes as 12 "
        "numbers, or 0 0 0 where they are the camera's own; of Aria: ego.sensor_from_tracker, "
        "T_camera_device of its calibration (from device to camera, the inverse of "
        "T_device_camera)"
    )
    if camera == "exo":
        mount_fix = "multiply them by the camera's place on the body, and give the product as TUM"
    has_mount = camera == "ego" and any(map(declared.by_name.get, MOUNT_FACTS))
    if stated.of_body and not has_mount:
        raise EgoXInputError(
            f"path {stated.name}",
            got="poses of a tracked body, of which nothing says where its camera is",
            expected="poses of the camera",
            fix=mount_fix,
        )
