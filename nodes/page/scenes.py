"""Store the last few scenes under secret tokens for the page's pose editor."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache

import cv2
import psutil
import torch
from torch import Tensor

from ...egox_core.cameras import CameraPath
from ...egox_core.prior import CoarsePoints
from ...egox_core.trajectory import Up, up_of_scene
from ...egox_core.types import PointCloud

MAX_SCENES = 4
MAX_BYTES = 2 * 2**30
"""Largest size of all scenes together. A usual clip (49 frames of 784 x 448 with depth) has about
300 MB."""
MOVING_AT_ONCE = 100_000
"""Largest number of moving points of a frame that are stored. A person covers about 30,000 px of a
released exo frame."""
FRAMES_REMEMBERED = 8
PICTURE_QUALITY = 85


@lru_cache(maxsize=1)
def cap_bytes() -> int:
    """Compute the memory limit in bytes for all stored scenes."""
    return min(MAX_BYTES, psutil.virtual_memory().total // 8)


@dataclass(slots=True, kw_only=True)
class SceneEntry:
    """Hold one stored scene with its exo frames."""

    token: str
    scene: PointCloud
    images: Tensor | None  # [T, H, W, 3] float32 0...1
    static: CoarsePoints
    up: Up
    size_bytes: int  # bytes that this entry keeps allocated
    is_complete: bool  # False: without moving points and pictures, which are too large to keep
    _moving: OrderedDict[int, CoarsePoints] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def frames(self) -> int:
        return self.scene.frame_count

    def moving(self, frame: int) -> CoarsePoints:
        """Load the scene's moving points in one frame, and cache those of the last few frames."""
        with self._lock:
            if frame not in self._moving:
                points = self.scene.moving[frame]
                self._moving[frame] = CoarsePoints.of(points, MOVING_AT_ONCE)
                if len(self._moving) > FRAMES_REMEMBERED:
                    self._moving.popitem(last=False)
            self._moving.move_to_end(frame)
            return self._moving[frame]

    def picture(self, frame: int) -> bytes | None:
        """Encode the exo frame of one index as JPEG, or return None if the scene has no frames."""
        if self.images is None or not len(self.images):
            return None
        rgb = self.images[min(frame, len(self.images) - 1), ..., :3]
        return jpeg((rgb.clamp(0, 1) * 255).round().to(torch.uint8))

    def exo(self, frame: int) -> CameraPath:
        """Select the exo camera of one frame of the scene."""
        return self.scene.exo.one(min(frame, self.scene.frame_count - 1))


class SceneStore:
    """Store the last scenes, and drop the least recently used one when full."""

    def __init__(self, most: int = MAX_SCENES, cap: int | None = None) -> None:
        self._max_entries, self._max_bytes = most, cap
        self._entries: OrderedDict[str, SceneEntry] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, scene: PointCloud, images: Tensor | None) -> SceneEntry:  # images [T, H, W, 3]
        """Store a scene and return its token."""
        with self._lock:
            for scene_entry in self._entries.values():
                if scene_entry.scene is scene and (
                    scene_entry.images is images or not scene_entry.is_complete
                ):
                    self._entries.move_to_end(scene_entry.token)
                    return scene_entry
        scene_entry = _make_entry(scene, images, self._max_bytes or cap_bytes())
        with self._lock:
            self._entries[scene_entry.token] = scene_entry
            max_bytes = self._max_bytes or cap_bytes()
            while len(self._entries) > 1 and (
                len(self._entries) > self._max_entries or self._size() > max_bytes
            ):
                self._entries.popitem(last=False)
        return scene_entry

    def get(self, token: object) -> SceneEntry | None:
        """Find the scene of a token, None if it is unknown or was dropped."""
        with self._lock:
            scene_entry = self._entries.get(token) if isinstance(token, str) else None
            if scene_entry is not None:
                self._entries.move_to_end(scene_entry.token)
            return scene_entry

    def __len__(self) -> int:
        return len(self._entries)

    def _size(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values())


SCENES = SceneStore()


def _make_entry(scene: PointCloud, images: Tensor | None, cap: int) -> SceneEntry:
    static = CoarsePoints.of(scene.static)
    size_bytes = tensor_bytes((scene, images, static))
    fits_whole = size_bytes <= cap
    if not fits_whole:
        size_bytes = tensor_bytes(static)
        images = None
    return SceneEntry(
        token=secrets.token_urlsafe(24),
        scene=scene if fits_whole else _drop_points(scene),
        images=images,
        static=static,
        up=up_of_scene(scene),
        size_bytes=size_bytes,
        is_complete=fits_whole,
    )


def _drop_points(scene: PointCloud) -> PointCloud:
    """Copy a scene without its points, keeping only its cameras and times."""
    empty_points = scene.static.select(torch.zeros(0, dtype=torch.int64))
    return replace(scene, static=empty_points, moving=(empty_points,) * scene.frame_count)


def tensor_bytes(stored_object: object, seen_ids: set[int] | None = None) -> int:
    """Count the bytes of all tensors that an object refers to, each storage once."""
    seen_ids = set() if seen_ids is None else seen_ids
    if isinstance(stored_object, Tensor):
        storage = stored_object.untyped_storage()
        if storage.data_ptr() in seen_ids:
            return 0
        seen_ids.add(storage.data_ptr())
        return storage.nbytes()
    if id(stored_object) in seen_ids or isinstance(
        stored_object, (str, bytes, int, float, type(None))
    ):
        return 0
    seen_ids.add(id(stored_object))
    if isinstance(stored_object, (list, tuple)):
        return sum(tensor_bytes(item, seen_ids) for item in stored_object)
    if isinstance(stored_object, dict):
        return sum(tensor_bytes(item, seen_ids) for item in stored_object.values())
    field_names = (
        [entry.name for entry in fields(stored_object)]
        if is_dataclass(stored_object)
        else list(getattr(stored_object, "__dict__", ()))
    )
    return sum(tensor_bytes(getattr(stored_object, name), seen_ids) for name in field_names)


def jpeg(rgb: Tensor) -> bytes:  # [H, W, 3] uint8
    """Encode a picture as JPEG."""
    ok, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(rgb.contiguous().numpy(), cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY],
    )
    if not ok:
        raise RuntimeError("the picture could not be coded")
    return data.tobytes()
