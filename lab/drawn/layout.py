"""Draw a whole random scene: room, workspace, person, cameras, light and textures."""

from functools import partial

import numpy as np
import torch

from egox_core.cameras import CameraModel, CameraPath
from egox_core.frames import Frames
from egox_core.frozen import frozen

from .head import HeadForm, draw_head
from .looks import draw_material
from .palettes import THINGS
from .parts import Part, box, place_parts, turn_z
from .person import Person, draw_person
from .postures import apply_posture, draw_posture, workspace_for_posture
from .prompt import write_prompt
from .rig import draw_exo, ego_camera, handheld, reach_path, smooth_motion
from .room import Room, draw_room
from .scene import Light, Scene
from .solids import Solid
from .spec import SyntheticSpec
from .workspace import Workspace, draw_workspace

EXO_STREAM_NAMES = ("exo", "exo 2", "exo 3", "exo 4")
STREAMS = (
    "workspace",
    "motion",
    "person",
    "room",
    "exo",
    "light",
    "looks",
    "world",
    "wearer",
    "",  # once a second person's; numbers are seeds
    *EXO_STREAM_NAMES[1:],
    "posture",
)
AZIMUTHS_DEG = {"lying": (0.0, 180.0), "bent": (0.0, 180.0), "climbing": (80.0, 180.0)}
"""Off the wearer's heading: all around, and not behind the climbing wall."""
BOARD_SIZE_M, BOARD_SHARE_RANGE = (0.4, 0.04, 0.5), (0.4, 0.7)
"""Size of what hides the head, and its share of the way from the exo camera."""
BEHIND_AZIMUTHS_DEG = (135.0, 180.0)  # off the wearer's heading
QUARTER_AZIMUTHS_DEG = (180.0, 90.0, -90.0)
"""Directions of further exo cameras from the point that all look at, off the first one's."""
QUARTER_SPREAD_DEG = (
    0.0,
    30.0,
)  # to either side of that; so two cameras are 30 degrees apart or more
QUARTER_DISTANCE_M = (
    1.2,
    2.7,
)  # nearer than the first may stand, since a quarter may end at a wall


@frozen
class DrawnHead:
    """Exact positions of a person's head and shoulders in the world, in metres."""

    world_from_eyes: np.ndarray  # [T, 3, 4] float64, between the eyes: columns right, down, forward
    marks: dict[str, np.ndarray]  # [T, 3] eyes, ears, nose, neck, shoulders
    form: HeadForm
    solids: range  # of the scene, that the person is made of and holds


@frozen
class Layout:
    """Drawn scene, with its prompt and the exact positions of head and hands."""

    scene: Scene
    prompt: str
    head: DrawnHead  # the wearer's
    hands: torch.Tensor  # [T, 2, 21, 3] float64, world: the wearer's left and right


def draw_layout(spec: SyntheticSpec) -> Layout:
    """Draw the random scene that a specification describes."""
    random_streams = {
        name: np.random.default_rng([spec.seed, number]) for number, name in enumerate(STREAMS)
    }
    times_s = np.arange(spec.frames) / spec.fps
    workspace = draw_workspace(
        random_streams["workspace"],
        clutter=spec.clutter,
        scale=spec.object_scale,
    )
    head_form = draw_head(random_streams["wearer"], spec.wearer)
    if spec.posture != "usual":
        workspace = workspace_for_posture(random_streams["posture"], workspace, spec.posture)
    person = _draw_moving_person(random_streams, spec, workspace, times_s, head_form)
    heading_rad = float(random_streams["world"].uniform(-0.35, 0.35))
    free_circles = [(0.0, 0.0, 0.75), (*_rotate_about_z(heading_rad, 0.0, 0.7), 1.0)]
    room = draw_room(random_streams["room"], spec.clutter, keep_free=free_circles)
    support_parts = workspace.parts
    gaze_target = np.array([0.0, 0.38, workspace.table_height + 0.15])
    if spec.posture != "usual":
        posture = draw_posture(random_streams["posture"], spec.posture, room.high[2])
        person = apply_posture(person, posture)
        support_parts = posture.parts
        gaze_target = posture.target
    first_index = len(room.parts) + len(support_parts)
    scene_parts = [*room.parts, *place_parts(support_parts, heading_rad, (0, 0, 0))]
    scene_parts += place_parts(person.parts, heading_rad, (0, 0, 0))
    heading_rotation = turn_z(heading_rad)
    person_indices = range(first_index, len(scene_parts))
    camera_target = heading_rotation @ gaze_target
    exo_cameras = _draw_exo_cameras(
        random_streams,
        spec,
        room,
        scene_parts,
        target=camera_target,
        landmarks=person.landmarks @ heading_rotation.T,
        facing=heading_rad,
    )
    if not spec.exo_sees_head:
        scene_parts.append(
            _hiding_board(
                random_streams["posture"],
                _camera_position(exo_cameras[0][1]),
                heading_rotation @ person.landmarks[0],
            )
        )
    # The room's axes are not the world's: poses must not profit from walls along the axes.
    room_from_world = turn_z(-float(random_streams["world"].uniform(-np.pi, np.pi)))
    solids, poses = _build_solids(
        random_streams["looks"],
        spec,
        scene_parts,
        _camera_position(exo_cameras[0][1]),
        exo_cameras[0][0].fx,
    )
    solid_rotations = np.einsum("ij,tsjk->tsik", room_from_world.T, poses[..., :3])
    solid_centres = poses[..., 3] @ room_from_world
    world_from_solid = np.concatenate([solid_rotations, solid_centres[..., None]], axis=-1)
    ego_from_room = _rotate_source(person.ego_from_body, heading_rotation.T)
    if spec.exo_moves:
        motion_options = {
            "path": spec.exo_path,
            "size_m": spec.exo_motion,
            "turn_deg": spec.exo_turn_deg,
        }
        motion_options |= {
            "room": (np.asarray(room.low), np.asarray(room.high)),
            "parts": scene_parts,
        }
        exo_cameras = [
            (camera, handheld(random_streams[name], pose, camera_target, times_s, **motion_options))
            for name, (camera, pose) in zip(EXO_STREAM_NAMES, exo_cameras, strict=False)
        ]

    def in_world(camera: CameraModel, camera_from_room: np.ndarray) -> CameraPath:
        w2c = torch.from_numpy(_rotate_source(camera_from_room, room_from_world))
        return CameraPath(
            lens=camera, w2c=w2c, frames=Frames.timed(torch.from_numpy(times_s)), world="take"
        )

    scene = Scene(
        solids=solids,
        world_from_solid=torch.from_numpy(world_from_solid).float(),
        light=_draw_light(random_streams["light"], room, room_from_world),
        ego=in_world(ego_camera(spec.ego_size), ego_from_room),
        exos=tuple(in_world(camera, pose) for camera, pose in exo_cameras),
    )
    room_head = _drawn_head(person, heading_rotation, head_form, person_indices, room_from_world)
    room_hands = np.einsum("ij,tsnj->tsni", heading_rotation, person.hands)
    return Layout(
        scene=scene,
        prompt=write_prompt(room, workspace, person, spec.posture),
        head=room_head,
        hands=torch.from_numpy(room_hands @ room_from_world),
    )


def _draw_exo_cameras(
    streams: dict[str, np.random.Generator],
    spec: SyntheticSpec,
    room: Room,
    parts: list[Part],
    *,
    target: np.ndarray,
    landmarks: np.ndarray,
    facing: float,
) -> list[tuple[CameraModel, np.ndarray]]:
    """Draw the exo cameras with their poses exo_from_room [3, 4].

    With four cameras the first two are those of the same seed with two."""
    draw_camera = partial(
        draw_exo,
        width=spec.exo_width,
        height=spec.exo_height,
        low=room.low,
        high=room.high,
        parts=parts,
        target=target,
        landmarks=landmarks[1:] if spec.exo_place == "overhead" else landmarks,
        place=spec.exo_place,
        roll_deg=spec.exo_roll_deg,
    )
    azimuth_range = (
        BEHIND_AZIMUTHS_DEG if spec.exo_side == "behind" else AZIMUTHS_DEG.get(spec.posture)
    )
    azimuth_options = {} if azimuth_range is None else {"azimuths_deg": azimuth_range}
    first_camera = draw_camera(streams[EXO_STREAM_NAMES[0]], heading=facing, **azimuth_options)
    to_camera = _camera_position(first_camera[1]) - target
    azimuth_rad = float(np.arctan2(-to_camera[0], to_camera[1]))
    further_cameras = [
        draw_camera(
            streams[name],
            heading=azimuth_rad + np.radians(quarter_deg),
            azimuths_deg=QUARTER_SPREAD_DEG,
            far_m=QUARTER_DISTANCE_M,
        )
        for name, quarter_deg in zip(
            EXO_STREAM_NAMES[1 : spec.exo_views], QUARTER_AZIMUTHS_DEG, strict=False
        )
    ]
    return [first_camera, *further_cameras]


def _hiding_board(rng: np.random.Generator, eye: np.ndarray, head: np.ndarray) -> Part:
    """Place a board between an exo camera and the head, which hides the head."""
    head_offset = head - eye
    board_position = eye + rng.uniform(*BOARD_SHARE_RANGE) * head_offset
    board_angle = float(np.arctan2(-head_offset[0], head_offset[1]))
    return box("board", BOARD_SIZE_M, board_position, THINGS[0], "print", angle=board_angle)


def _camera_position(camera_from_room: np.ndarray) -> np.ndarray:
    return -camera_from_room[:, :3].T @ camera_from_room[:, 3]


def _drawn_head(
    person: Person,
    heading_rotation: np.ndarray,
    form: HeadForm,
    solids: range,
    room_from_world: np.ndarray,
) -> DrawnHead:
    def world(points: np.ndarray) -> np.ndarray:  # [T, 3] of the body's frame
        return np.einsum("ij,tj->ti", heading_rotation, points) @ room_from_world

    rotation = room_from_world.T @ heading_rotation @ person.body_from_eyes[..., :3]
    eyes_position = world(person.body_from_eyes[..., 3])
    return DrawnHead(
        world_from_eyes=np.concatenate([rotation, eyes_position[..., None]], axis=-1),
        form=form,
        solids=solids,
        marks={name: world(points) for name, points in person.marks.items()},
    )


def _rotate_about_z(angle: float, x: float, y: float) -> tuple[float, float]:
    rotated_point = turn_z(angle) @ np.array([x, y, 0.0])
    return float(rotated_point[0]), float(rotated_point[1])


def _rotate_source(target_from_source: np.ndarray, source_from_other: np.ndarray) -> np.ndarray:
    """Rotate the source frame of poses [..., 3, 4]."""
    return np.concatenate(
        [target_from_source[..., :3] @ source_from_other, target_from_source[..., 3:]], axis=-1
    )


def _draw_moving_person(
    streams: dict[str, np.random.Generator],
    spec: SyntheticSpec,
    workspace: Workspace,
    times_s: np.ndarray,
    form: HeadForm,
) -> Person:
    rng = streams["motion"]
    period_s = rng.uniform(1.0, 1.7)
    palm_paths = []
    for stop_points, slowness in ((workspace.right_stops, 1.0), (workspace.left_stops, 1.6)):
        # Less motion shortens the way between the stops, more lengthens it, about their mean.
        scaled_stops = stop_points.mean(0) + spec.motion * (stop_points - stop_points.mean(0))
        path = reach_path(
            times_s,
            scaled_stops,
            period_s=period_s * slowness,
            offset_s=rng.uniform(0, 3),
            lift_m=0.06 * spec.motion,
        )
        palm_shake = np.stack(
            [smooth_motion(rng, times_s, size=0.006 * spec.motion) for _ in range(3)], axis=-1
        )
        palm_paths.append(path + palm_shake)
    body_sway = np.stack(
        [smooth_motion(rng, times_s, size=size * spec.motion) for size in (0.012, 0.010, 0.004)],
        axis=-1,
    )
    gaze_base = np.array(
        [rng.uniform(-0.25, 0.25), rng.uniform(0.95, 1.35), workspace.table_height]
    )
    palm_offset = palm_paths[0] - workspace.right_stops.mean(0)
    gaze_sway = np.stack(
        [
            smooth_motion(rng, times_s, size=size * spec.motion, slowest_s=5.0)
            for size in (0.16, 0.10, 0.08)
        ],
        axis=-1,
    )
    gaze_path = gaze_base + 0.5 * spec.motion * palm_offset * np.array([1.0, 0.5, 0.0]) + gaze_sway
    if spec.turning_deg > 0:
        gaze_path = _swing_gaze(streams["wearer"], spec, gaze_path, times_s)
    return draw_person(
        streams["person"],
        seated=workspace.seated,
        right_palm=palm_paths[0],
        left_palm=palm_paths[1],
        gaze=gaze_path,
        sway=body_sway,
        held_scale=spec.object_scale,
        form=form,
    )


def _swing_gaze(
    rng: np.random.Generator, spec: SyntheticSpec, gaze: np.ndarray, times_s: np.ndarray
) -> np.ndarray:
    """Swing the gaze to both sides of the head, once every few seconds."""
    period_s, phase_rad = rng.uniform(2.6, 4.5), rng.uniform(0, 2 * np.pi)
    swing_angles = np.radians(spec.turning_deg) * np.sin(2 * np.pi * times_s / period_s + phase_rad)
    rotations = np.stack([turn_z(frame_angle) for frame_angle in swing_angles])
    pivot_point = np.array([0.0, 0.1, 0.0])
    return pivot_point + np.einsum("tij,tj->ti", rotations, gaze - pivot_point)


def _build_solids(
    rng: np.random.Generator, spec: SyntheticSpec, parts: list[Part], eye: np.ndarray, focal: float
) -> tuple[tuple[Solid, ...], np.ndarray]:
    """Convert parts to solids with their poses room_from_solid [T, S, 3, 4]."""
    solids, poses = [], []
    for part in parts:
        pose = np.broadcast_to(part.pose, (spec.frames, 3, 4))
        part_rng = np.random.default_rng(
            rng.integers(2**63)
        )  # one stream a part: a new part changes no other's texture
        material = draw_material(
            part_rng,
            part,
            texture=spec.texture,
            exo_pixel_m=_metres_per_radian(part, pose[0], eye) / focal,
        )
        solids.append(
            Solid(
                name=part.name, kind=part.kind, size=part.size, group=part.group, material=material
            )
        )
        poses.append(pose)
    return tuple(solids), np.stack(poses, axis=1)


def _metres_per_radian(part: Part, pose: np.ndarray, eye: np.ndarray) -> float:
    """Compute how many metres on a surface one radian of the exo picture spans."""
    part_offset = pose[:, 3] - eye
    part_distance = float(np.linalg.norm(part_offset))
    half_size = np.asarray(part.size)
    if part.kind != "box" or half_size.min() > 0.3 * half_size.max():
        return max(part_distance, 0.5)
    slab_normal = pose[:, int(half_size.argmin())]
    plane_distance = abs(float(part_offset @ slab_normal))  # distance to the slab's plane
    part_distance = float(
        np.clip(part_distance, 1.2 * plane_distance, 3.0 * max(plane_distance, 0.4))
    )
    return max(part_distance, 0.5) * float(
        np.clip(part_distance / max(plane_distance, 1e-6), 1.0, 2.0)
    )


def _draw_light(
    rng: np.random.Generator,
    room: Room,
    room_from_world: np.ndarray,
) -> Light:
    low_corner, high_corner = np.asarray(room.low), np.asarray(room.high)
    lamp_position = np.array(
        [
            rng.uniform(low_corner[0] + 0.6, high_corner[0] - 0.6),
            rng.uniform(low_corner[1] + 0.6, high_corner[1] - 0.6),
            high_corner[2] - 0.25,
        ]
    )
    lamp_strength = rng.uniform(0.85, 1.05)
    return Light(
        position=torch.from_numpy(lamp_position[None] @ room_from_world)[0].float(),
        strength=torch.tensor(lamp_strength, dtype=torch.float32),
        ambient=float(rng.uniform(0.50, 0.62)),
    )
