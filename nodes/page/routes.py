"""Answer the pose editor's requests for points, pictures, picks and files.

The editor's routes are POST with a JSON object, answered to the server's own page only. Errors
have a JSON body with a ``reason``: 400 for a malformed request, 403 for another page, 410 for a
scene that was dropped, 413 for a body that is too large. Work is done on one thread beside the
event loop and never on a GPU, so that a running prompt keeps its own. Sample videos have a route
because ComfyUI's ``/view`` reads its input, output and temp folders only."""

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from ...egox_core.cameras import CameraModel, CameraPath, preset_camera, validate_w2c
from ...egox_core.errors import EgoXInputError
from ...egox_core.exchange import export_path, import_path
from ...egox_core.file_names import META
from ...egox_core.frames import Frames
from ...egox_core.page import lens_outline, mark_seen, pick_head, pick_point
from ...egox_core.prior import CoarsePoints
from ...egox_core.sizes import REFERENCE_SIZE
from ...egox_core.takes import read_meta
from ...egox_core.trajectory import direction, keyframes_of_path
from ...egox_core.types import PointCloud
from ...egox_core.video import video_mark
from ..host.graph import Graph, exo_video, inputs_of, linked_node_id, sidecar_missing
from ..host.paths import resolve
from ..host.remember import RENEWAL_COUNTS
from ..pose_inputs import AUTO, BESIDE, DEFAULT_PRESET, digest_editor_inputs
from .requests import (
    file_reading_route,
    is_same_origin,
    number,
    read_body,
    refuse,
    uncached_response,
    whole_field,
)
from .scenes import SCENES, SceneEntry, jpeg

EDITOR_PREFIX = "/egox/pose_editor"
SAMPLE_PATH = "/egox/sample_video"
PAGE_FILES = f"/extensions/{Path(__file__).parents[2].name}/"
BYTES = "application/octet-stream"
SAMPLE_SUFFIXES = (".mp4", ".webm", ".mov", ".mkv")  # what a browser's video element may play
SMALL_BODY = 256 * 1024
FILE_BODY = 32 * 2**20
PRIOR_SIZES = (64, 512)
MOST_POINTS = 300_000
"""Largest number of points that a page may request, which is what the coarse prior keeps."""
VIEWS_REMEMBERED, MOST_RENEWED = 64, 1000
MOST_FRAMES = 10**7
WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="egox-pose-editor")
FILES = ThreadPoolExecutor(max_workers=1, thread_name_prefix="egox-pose-files")
"""Thread for imports and exports of long paths, which take seconds, so that pictures don't wait for
them."""
Handler = Callable[[dict], Awaitable[web.StreamResponse]]


class SceneExpired(Exception):
    """Signal that the scene of a token was dropped."""


class NewestRequests:
    """Store the newest request of every view, so that older waiting requests are dropped."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()

    def note(self, view: str, count: int) -> None:
        self._newest[view] = max(count, self._newest.pop(view, 0))
        if len(self._newest) > VIEWS_REMEMBERED:
            self._newest.popitem(last=False)

    def is_late(self, view: str, count: int) -> bool:
        return count < self._newest.get(view, 0)


NEWEST_REQUESTS = NewestRequests()


def guarded(
    limit: int,
) -> Callable[[Handler], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
    """Wrap a JSON handler as a route with checks of origin and size and answers to errors."""

    def wrap(handler: Handler):
        @functools.wraps(handler)
        async def route(request: web.Request) -> web.StreamResponse:
            if not is_same_origin(request):
                return refuse(403, "these addresses answer the server's own page only")
            try:
                return await handler(await read_body(request, limit))
            except EgoXInputError as error:
                return refuse(400, str(error))
            except SceneExpired:
                return refuse(
                    410, "the scene is no longer held: press 'Load scene', or run the graph again"
                )
            except web.HTTPRequestEntityTooLarge:
                return refuse(413, f"at most {limit} bytes")

        return route

    return wrap


async def in_worker(function: Callable, *arguments, worker: ThreadPoolExecutor = WORKER):
    """Run a function on a worker thread, which is the pose editor's by default."""
    return await asyncio.get_running_loop().run_in_executor(worker, function, *arguments)


@guarded(SMALL_BODY)
async def cloud(body: dict) -> web.Response:
    """Send a scene's points and colours as bytes.

    ``part`` is static, or moving with ``frame``.
    """
    stored_scene = scene_entry(body)
    cloud_part = body.get("part", "static")
    if cloud_part not in ("static", "moving"):
        raise EgoXInputError(
            "part", got=repr(cloud_part)[:40], expected="static or moving", fix="send one of them"
        )
    most_points = whole_field(body, "most", 1, MOST_POINTS, MOST_POINTS)
    frame = read_frame(body, stored_scene)
    points = (
        stored_scene.static
        if cloud_part == "static"
        else await in_worker(stored_scene.moving, frame)
    )
    if len(points) > most_points:
        points = points.first(most_points)
    return uncached_response(
        await in_worker(points.packed), BYTES, {"X-EgoX-Points": str(len(points))}
    )


@guarded(SMALL_BODY)
async def prior(body: dict) -> web.Response:
    """Send a JPEG of the ego prior at one camera pose, unless a newer request is waiting.

    ``moving`` adds the frame's moving points. ``dense`` draws all points, not only those that
    the released renderer draws. ``seen`` marks each pixel that exo doesn't see in this frame."""
    stored_scene = scene_entry(body)
    camera = read_camera(body).upright()
    ego_w2c = validate_w2c(body.get("w2c"), "w2c")
    if ego_w2c.ndim != 2:
        raise EgoXInputError(
            "w2c", got=f"shape {tuple(ego_w2c.shape)}", expected="shape (3, 4)", fix="send one pose"
        )
    picture_size = whole_field(body, "size", *PRIOR_SIZES, 224)
    frame = read_frame(body, stored_scene)
    view_id = str(body.get("view", ""))[:64]
    request_number = whole_field(body, "count", 0, 2**53, 0)
    NEWEST_REQUESTS.note(view_id, request_number)
    draw = functools.partial(
        _draw_prior,
        stored_scene,
        CameraPath(lens=camera, w2c=ego_w2c, world=stored_scene.scene.exo.world),
        picture_size,
        frame,
        moving=body.get("moving") is True,
        dense=body.get("dense") is True,
        seen=body.get("seen") is True,
    )
    drawn_prior = await in_worker(
        lambda: None if NEWEST_REQUESTS.is_late(view_id, request_number) else draw()
    )
    if drawn_prior is None:
        return web.Response(status=204)
    picture, coverage = drawn_prior
    return uncached_response(picture, headers={"X-EgoX-Coverage": f"{coverage:.4f}"})


def _draw_prior(
    entry: SceneEntry,
    ego: CameraPath,
    size: int,
    frame: int,
    *,
    moving: bool,
    dense: bool,
    seen: bool,
) -> tuple[bytes, float]:
    point_parts = [entry.static, entry.moving(frame)] if moving else [entry.static]
    points = functools.reduce(
        CoarsePoints.joined, (part if dense else part.first(part.released) for part in point_parts)
    )
    scene_frame = (entry.scene, frame) if seen else None
    rgb, coverage, classes = points.picture(ego, size, scene_frame)
    return jpeg(rgb if classes is None else mark_seen(rgb, classes)), coverage


@guarded(SMALL_BODY)
async def exo_frame(body: dict) -> web.Response:
    """Send one exo frame of a stored scene as a JPEG."""
    stored_scene = scene_entry(body)
    picture = await in_worker(stored_scene.picture, read_frame(body, stored_scene))
    if picture is None:
        return refuse(404, "no exo frames are connected to the node")
    return uncached_response(picture)


@guarded(SMALL_BODY)
async def pick(body: dict) -> web.Response:
    """Find the 3-D point of the scene under a clicked exo pixel.

    With ``head`` it is the centre of the head there. With ``wearer``, the head's position, no
    point belongs to that person.
    """
    stored_scene = scene_entry(body)
    frame = read_frame(body, stored_scene)
    width, height = stored_scene.scene.exo.camera.stored_size
    pixel = number(body, "u", 0, 1) * width - 0.5, number(body, "v", 0, 1) * height - 0.5
    if body.get("head") is True:
        pick_function = functools.partial(
            pick_head, lens_guessed=stored_scene.scene.exo.lens_guessed
        )
    else:
        wearer_place = body.get("wearer")
        wearer_vector = None if wearer_place is None else direction(wearer_place, "wearer")
        pick_function = functools.partial(pick_point, wearer=wearer_vector)
    picked_point = await in_worker(_pick_in_scene, stored_scene, frame, pixel, pick_function)
    if picked_point is None:
        return refuse(
            404,
            "nothing to look at is known there (the wearer's own body is ignored): click on "
            "something that the cloud shows",
        )
    return web.json_response(
        {
            "point": picked_point.point.tolist(),
            "depth_m": picked_point.depth_m,
            "off_px": picked_point.off_px,
        }
    )


def _pick_in_scene(entry: SceneEntry, frame: int, pixel: tuple[float, float], pick: Callable):
    points = entry.static.joined(entry.moving(frame))
    return pick(points, entry.exo(frame), pixel)


@guarded(SMALL_BODY)
async def camera(body: dict) -> web.Response:
    """Send the ego camera that the node's menu selects, with the outline of its picture."""
    name = str(body.get("camera"))
    ego_camera = preset_camera(DEFAULT_PRESET if name == AUTO else name, REFERENCE_SIZE)
    outline = await in_worker(lens_outline, ego_camera)
    return web.json_response(
        {
            "camera": ego_camera.to_json(),
            "quarter_turns": ego_camera.quarter_turns % 4,
            "outline": [[round(v, 5) for v in ray] for ray in outline.tolist()],
        }
    )


@guarded(FILE_BODY)
async def import_keyframes(body: dict) -> web.Response:
    """Convert a camera path file or poses to keyframes, and send them."""
    scene = scene_entry(body).scene if body.get("token") is not None else None
    document, note = await in_worker(_import_keyframes, body, scene, worker=FILES)
    return web.json_response({"document": document, "note": note})


def _import_keyframes(body: dict, scene: PointCloud | None) -> tuple[dict, str]:
    """Convert a request's camera path to a keyframe document with a note.

    Files are read here, not on the event loop.
    """
    ego_camera, clip_frames = read_camera(body), requested_frames(body)
    up = direction(body.get("up"), "up").tolist()
    options = (
        str(body.get("entry", "")),
        whole_field(body, "every_nth", -MOST_FRAMES, MOST_FRAMES, 0),
        body.get("file_frames") or "auto",
    )
    if isinstance(body.get("file"), str):
        trajectory_file = resolve(body["file"], "trajectory file")
        return import_path(trajectory_file, ego_camera, clip_frames, scene, up, *options)
    if body.get("poses") is not None:
        poses = validate_w2c(body["poses"], "poses")
        if poses.ndim != 3 or len(poses) != len(clip_frames):
            raise EgoXInputError(
                "poses",
                got=f"shape {tuple(poses.shape)}",
                expected=f"({len(clip_frames)}, 3, 4)",
                fix="send one pose per frame",
            )
        return keyframes_of_path(poses, clip_frames, up)
    texts = body.get("texts")
    if not isinstance(texts, dict) or not all(isinstance(t, str) for t in texts.values()):
        raise EgoXInputError(
            "texts",
            got=type(texts).__name__,
            expected="file names with their texts",
            fix="send texts, file or poses",
        )
    return import_path(texts, ego_camera, clip_frames, scene, up, *options)


@guarded(FILE_BODY)
async def export_keyframes(body: dict) -> web.Response:
    """Convert keyframes to a camera path file, and send it."""
    scene = scene_entry(body).scene if body.get("token") is not None else None
    name, content = await in_worker(
        lambda: export_path(
            str(body.get("form", "")),
            body.get("document"),
            read_camera(body),
            requested_frames(body),
            scene,
            str(body.get("prompt", "")),
        ),
        worker=FILES,
    )
    return uncached_response(
        content, BYTES, {"Content-Disposition": f'attachment; filename="{name}"'}
    )


@guarded(FILE_BODY)
async def graph_origin(body: dict) -> web.Response:
    """Describe the current inputs of a pose node in the page's graph.

    The answer contains the digests of its scene and path, whether the file of its poses is
    missing or has none, and the mark of its video, if that is known.
    """
    node_id, graph = body.get("node"), body.get("graph")
    if (
        not isinstance(node_id, str)
        or not isinstance(graph, dict)
        or node_id not in graph
        or not all(isinstance(entry, dict) for entry in graph.values())
    ):
        raise EgoXInputError(
            "graph", got=repr(node_id)[:40], expected="a graph with the node in it", fix="send both"
        )
    # Not on the event loop, nor on the editor's thread: a network drive may take long to answer.
    return web.json_response(
        await asyncio.to_thread(
            lambda: {
                "origin": digest_editor_inputs(graph, node_id),
                "file_missing": poses_missing(graph, node_id),
                "video": video_mark(exo_video(graph, node_id)),
            }
        )
    )


def poses_missing(graph: Graph, node: str) -> bool:
    """Check whether a node should read poses beside the exo video, but none exist."""
    values = inputs_of(graph, node)
    source = (values.get("source"), values.get("file"))
    base = linked_node_id(graph, node, "base")
    if source != ("file", BESIDE) or base is not None:
        return False
    return sidecar_missing(graph, node, META) or not has_poses(graph, node)


def has_poses(graph: Graph, node: str) -> bool:
    """Check whether the meta.json beside the exo video contains ego poses."""
    video_path = exo_video(graph, node)
    try:
        return video_path is None or read_meta(video_path.parent / META).ego is not None
    except EgoXInputError:
        return True  # of several takes, or broken: the run says which


@guarded(SMALL_BODY)
async def renew(body: dict) -> web.Response:
    """Mark a node so that its next run stores its scene again."""
    node_id = body.get("node")
    if not isinstance(node_id, str) or not 0 < len(node_id) <= 100:
        raise EgoXInputError(
            "node", got=repr(node_id)[:40], expected="the node's id", fix="send it"
        )
    if len(RENEWAL_COUNTS) > MOST_RENEWED:
        RENEWAL_COUNTS.clear()
    RENEWAL_COUNTS[node_id] += 1
    return web.json_response({"renewals": RENEWAL_COUNTS[node_id]})


def scene_entry(body: dict) -> SceneEntry:
    """Look up the stored scene of the request's token.

    Raises:
        SceneExpired: the store has dropped it.
        EgoXInputError: no token was sent.
    """
    if not isinstance(body.get("token"), str):
        raise EgoXInputError(
            "token", got=repr(body.get("token"))[:40], expected="the node's token", fix="send it"
        )
    entry = SCENES.get(body["token"])
    if entry is None:
        raise SceneExpired
    return entry


def read_frame(body: dict, entry: SceneEntry) -> int:
    """Read the request's frame number in a scene, 0 if it has none."""
    return whole_field(body, "frame", 0, entry.frames - 1, 0)


def read_camera(body: dict) -> CameraModel:
    """Read the request's ego camera.

    Raises:
        EgoXInputError: no camera, or one of absurd size.
    """
    camera_model = CameraModel.from_json(body.get("camera"), "camera")
    if max(camera_model.stored_size) > 8192:
        raise EgoXInputError(
            "camera",
            got=f"{camera_model.stored_size} px",
            expected="at most 8192 px per side",
            fix="give a camera with a smaller image",
        )
    return camera_model


def requested_frames(body: dict) -> Frames:
    """Read the request's frames in use, with their times."""
    source_count = whole_field(body, "source_frames", 0, MOST_FRAMES, 0)
    return Frames.stated(body.get("indices"), body.get("times_s"), source_count or None)


@file_reading_route
async def sample_video(request: web.Request, name: str) -> web.StreamResponse:
    """Send a sample video that ships with the pack."""
    if not name.startswith("sample/") or not name.lower().endswith(SAMPLE_SUFFIXES):
        return refuse(400, "file must name a video, sample/…")
    return web.FileResponse(await asyncio.to_thread(resolve, name, "sample video"))


async def disable_module_caching(request: web.Request, response: web.StreamResponse) -> None:
    """Set a header that makes browsers check whether a module has changed.

    ComfyUI does so for scripts only: after an update, old modules would run with new scripts.
    """
    if request.path.startswith(PAGE_FILES) and request.path.endswith(".mjs"):
        response.headers.setdefault("Cache-Control", "no-cache")


EDITOR_ROUTES: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "cloud": cloud,
    "prior": prior,
    "exo_frame": exo_frame,
    "pick": pick,
    "camera": camera,
    "import": import_keyframes,
    "export": export_keyframes,
    "renew": renew,
    "origin": graph_origin,
}


def register(routes: web.RouteTableDef) -> None:
    """Add all of the pack's HTTP routes to ComfyUI's server."""
    for name, handler in EDITOR_ROUTES.items():
        routes.post(f"{EDITOR_PREFIX}/{name}")(handler)
    routes.get(SAMPLE_PATH)(sample_video)
    logging.debug("EgoX: pose editor at %s", EDITOR_PREFIX)
