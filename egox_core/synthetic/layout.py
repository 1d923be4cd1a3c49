"""Draw a whole scene from a spec: room, workspace, person, cameras, light, then the textures; and its prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .looks import draw_material
from .palettes import Colour, colour_name
from .parts import Part, placed, turn_z
from .person import Person, draw_person
from .rig import carried, draw_exo, ego_camera, reach_path, sway
from .room import Room, draw_room
from .scene import Light, Scene
from .solids import Solid
from .spec import SyntheticSpec
from .workspace import Workspace, draw_workspace

STREAMS = ("workspace", "motion", "person", "room", "exo", "light", "looks", "world")


def _listed(things: tuple[tuple[str, Colour], ...]) -> str:
    words = [_with_article(f"{colour_name(colour)} {name}") for name, colour in things]
    if not words:
        return "nothing else"
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def write_prompt(room: Room, workspace: Workspace, person: Person) -> str:
    """The take's prompt in the released form: one ``[Exo view]`` and one ``[Ego view]`` section."""
    wall, floor = colour_name(room.wall_colour), _with_article(colour_name(room.floor_colour))
    table, shirt = colour_name(workspace.table_colour), colour_name(person.shirt)
    posture = "sits on a stool" if workspace.seated else "stands"
    things, load = _listed(workspace.objects), _listed(person.held)
    return (
        f"[Exo view] **Scene Overview:** A computer-drawn room with {wall} walls and {floor} floor. A person in "
        f"{_with_article(shirt)} shirt wearing dark glasses {posture} at {_with_article(table)} table. "
        f"On the table: {things}. "
        f"**Action Analysis:** The person holds {load} and moves both hands over the table, lifting and putting down "
        "what they hold, while the head follows the hands. The camera and everything else stay still. "
        f"[Ego view] **Scene Overview:** From the person's eyes the view goes down over the {table} table with "
        f"{things} on it, towards {wall} walls and {floor} floor. Both forearms in {shirt} sleeves reach in from "
        f"below. **Action Analysis:** The hands hold {load} and move it from place to place over the table; the "
        "view sways gently with the head.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A drawn scene and the words for it."""

    scene: Scene
    prompt: str


def draw_layout(spec: SyntheticSpec) -> Layout:
    """Draw the scene of a spec. Every noun has its own random stream (see SyntheticSpec)."""
    streams = {name: np.random.default_rng([spec.seed, number]) for number, name in enumerate(STREAMS)}
    times_s = np.arange(spec.frames) / spec.fps
    workspace = draw_workspace(streams["workspace"], clutter=spec.clutter, posture=spec.posture,
                               count=spec.table_objects, scale=spec.object_scale)
    person = _draw_moving_person(streams, spec, workspace, times_s)
    heading = float(streams["world"].uniform(-0.35, 0.35))
    room = draw_room(streams["room"], spec.clutter, keep_free=[(0.0, 0.0, 0.75), (*_turned(heading, 0.0, 0.7), 1.0)])
    parts = [*room.parts, *placed(workspace.parts, heading, (0, 0, 0)), *placed(person.parts, heading, (0, 0, 0))]
    turn = turn_z(heading)
    target = turn @ np.array([0.0, 0.38, workspace.table_height + 0.15])
    exo_camera, exo_from_room = draw_exo(
        streams["exo"], spec.exo_width, spec.exo_height, low=room.low, high=room.high, parts=parts, target=target,
        landmarks=person.landmarks @ turn.T, heading=heading)
    # The room's axes are not the world's: poses must not profit from walls along the axes.
    room_from_world = turn_z(-float(streams["world"].uniform(-np.pi, np.pi)))
    eye = -exo_from_room[:, :3].T @ exo_from_room[:, 3]
    solids, poses = _solids(streams["looks"], spec, parts, eye, exo_camera.fx)
    rotation = np.einsum("ij,tsjk->tsik", room_from_world.T, poses[..., :3])
    centre = poses[..., 3] @ room_from_world
    world_from_solid = np.concatenate([rotation, centre[..., None]], axis=-1)
    ego_from_room = _right_turned(person.ego_from_body, turn.T)
    if spec.exo_motion > 0:
        exo_from_room = carried(streams["exo"], exo_from_room, target, times_s, spec.exo_motion)
    scene = Scene(
        solids=solids, world_from_solid=torch.from_numpy(world_from_solid).float(),
        light=_draw_light(streams["light"], spec, room, room_from_world, times_s), exo_camera=exo_camera,
        exo_w2c=torch.from_numpy(_right_turned(exo_from_room, room_from_world)),
        ego_camera=ego_camera(spec.ego_size),
        ego_w2c=torch.from_numpy(_right_turned(ego_from_room, room_from_world)))
    return Layout(scene=scene, prompt=write_prompt(room, workspace, person))


def _turned(angle: float, x: float, y: float) -> tuple[float, float]:
    spot = turn_z(angle) @ np.array([x, y, 0.0])
    return float(spot[0]), float(spot[1])


def _right_turned(target_from_source: np.ndarray, source_from_other: np.ndarray) -> np.ndarray:
    """A pose [..., 3, 4] whose source is replaced by one turned against it by a rotation [3, 3]."""
    return np.concatenate([target_from_source[..., :3] @ source_from_other, target_from_source[..., 3:]], axis=-1)


def _draw_moving_person(streams: dict[str, np.random.Generator], spec: SyntheticSpec, workspace: Workspace,
                        times_s: np.ndarray) -> Person:
    rng = streams["motion"]
    period = rng.uniform(1.0, 1.7)
    palms = []
    for stops, slower in ((workspace.right_stops, 1.0), (workspace.left_stops, 1.6)):
        # Less motion shortens the way between the stops, more lengthens it, about their mean.
        scaled = stops.mean(0) + spec.motion * (stops - stops.mean(0))
        path = reach_path(times_s, scaled, period_s=period * slower, offset_s=rng.uniform(0, 3),
                          lift_m=0.06 * spec.motion)
        shake = np.stack([sway(rng, times_s, size=0.006 * spec.motion) for _ in range(3)], axis=-1)
        palms.append(path + shake)
    body = np.stack([sway(rng, times_s, size=size * spec.motion) for size in (0.012, 0.010, 0.004)], axis=-1)
    base = np.array([rng.uniform(-0.25, 0.25), rng.uniform(0.95, 1.35), workspace.table_height])
    follow = palms[0] - workspace.right_stops.mean(0)
    wander = np.stack([sway(rng, times_s, size=size * spec.motion, slowest_s=5.0) for size in (0.16, 0.10, 0.08)],
                      axis=-1)
    gaze = base + 0.5 * spec.motion * follow * np.array([1.0, 0.5, 0.0]) + wander
    return draw_person(streams["person"], seated=workspace.seated, right_palm=palms[0], left_palm=palms[1], gaze=gaze,
                       sway=body, held_scale=spec.object_scale)


def _solids(rng: np.random.Generator, spec: SyntheticSpec, parts: list[Part], eye: np.ndarray,
            focal: float) -> tuple[tuple[Solid, ...], np.ndarray]:
    """(solids, room_from_solid [T, S, 3, 4])."""
    solids, poses = [], []
    for part in parts:
        pose = np.broadcast_to(part.pose, (spec.frames, 3, 4))
        own = np.random.default_rng(rng.integers(2**63))  # one stream a part: a new part changes no other's texture
        material = draw_material(own, part, texture=spec.texture, exo_pixel_m=_exo_pixel(part, pose[0], eye) / focal)
        solids.append(Solid(name=part.name, kind=part.kind, size=part.size, group=part.group, material=material))
        poses.append(pose)
    return tuple(solids), np.stack(poses, axis=1)


def _exo_pixel(part: Part, pose: np.ndarray, eye: np.ndarray) -> float:
    """Metres on the part a radian of the exo picture spans: its distance, stretched where a slab is seen at a slant."""
    away = pose[:, 3] - eye
    far = float(np.linalg.norm(away))
    half = np.asarray(part.size)
    if part.kind != "box" or half.min() > 0.3 * half.max():
        return max(far, 0.5)
    normal = pose[:, int(half.argmin())]
    height = abs(float(away @ normal))  # distance to the slab's plane
    far = float(np.clip(far, 1.2 * height, 3.0 * max(height, 0.4)))
    return max(far, 0.5) * float(np.clip(far / max(height, 1e-6), 1.0, 2.0))


def _draw_light(rng: np.random.Generator, spec: SyntheticSpec, room: Room, room_from_world: np.ndarray,
                times_s: np.ndarray) -> Light:
    low, high = np.asarray(room.low), np.asarray(room.high)
    position = np.array([rng.uniform(low[0] + 0.6, high[0] - 0.6), rng.uniform(low[1] + 0.6, high[1] - 0.6),
                         high[2] - 0.25])
    positions = np.repeat(position[None], spec.frames, axis=0)
    strength = np.full(spec.frames, rng.uniform(0.85, 1.05))
    if spec.moving_light:
        for axis, size in enumerate((0.6, 0.6, 0.0)):
            positions[:, axis] = np.clip(positions[:, axis] + sway(rng, times_s, size=size), low[axis] + 0.3,
                                         high[axis] - 0.3)
        strength = strength * (1 + np.clip(sway(rng, times_s, size=0.15), -0.4, 0.4))
    return Light(position=torch.from_numpy(positions @ room_from_world).float(),
                 strength=torch.from_numpy(strength).float(), ambient=float(rng.uniform(0.50, 0.62)))
