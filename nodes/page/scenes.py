"""Scenes for the page's pose editor: the last few that nodes had, under tokens that can't be
guessed."""

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
"""Size of all scenes together: a usual clip (49 frames of 784 x 448 with depth) has some 300 MB."""
MOVING_AT_ONCE = 100_000
"""Moving points of one frame that are kept; a person fills some 30,000 px of a released exo
frame."""
FRAMES_REMEMBERED = 8
PICTURE_QUALITY = 85


@lru_cache(maxsize=1)
def cap_bytes() -> int:
    """Limit of all scenes together: less where the machine has little, for a model must fit beside
    them."""
    return min(MAX_BYTES, psutil.virtual_memory().total // 8)


@dataclass(slots=True, kw_only=True)
class SceneEntry:
    """One scene with its exo frames, as a node was given them."""

    token: str
    scene: PointCloud
    images: Tensor | None  # [T, H, W, 3] float32 0...1
    static: CoarsePoints
    up: Up
    size_bytes: int  # of all that it keeps from being freed
    whole: bool  # False: without moving points and pictures, which are too large to keep
    _moving: OrderedDict[int, CoarsePoints] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def frames(self) -> int:
        return self.scene.frame_count

    def moving(self, frame: int) -> CoarsePoints:
        """Load the moving points of one frame, and remember those of the last few."""
        with self._lock:
            if frame not in self._moving:
                points = self.scene.moving[frame]
                self._moving[frame] = CoarsePoints.of(points, MOVING_AT_ONCE)
                if len(self._moving) > FRAMES_REMEMBERED:
                    self._moving.popitem(last=False)
            self._moving.move_to_end(frame)
            return self._moving[frame]

    def picture(self, frame: int) -> bytes | None:
        """Encode the exo frame as JPEG, or give None where there are none."""
        if self.images is None or not len(self.images):
            return None
        rgb = self.images[min(frame, len(self.images) - 1), ..., :3]
        return jpeg((rgb.clamp(0, 1) * 255).round().to(torch.uint8))

    def exo(self, frame: int) -> CameraPath:
        """Take the exo camera as it stands in one frame."""
        return self.scene.exo.one(min(frame, self.scene.frame_count - 1))


class SceneStore:
    """The last scenes, least recently used dropped, safe to use from several threads."""

    def __init__(self, most: int = MAX_SCENES, cap: int | None = None) -> None:
        self._most, self._cap = most, cap
        self._entries: OrderedDict[str, SceneEntry] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, scene: PointCloud, images: Tensor | None) -> SceneEntry:  # images [T, H, W, 3]
        """Keep a scene under a token, the one that it already has if scene and frames are the same."""
        with self._lock:
            for entry in self._entries.values():
                if entry.scene is scene and (entry.images is images or not entry.whole):
                    self._entries.move_to_end(entry.token)
                    return entry
        entry = _entry(scene, images, self._cap or cap_bytes())
        with self._lock:
            self._entries[entry.token] = entry
            cap = self._cap or cap_bytes()
            while len(self._entries) > 1 and (
                len(self._entries) > self._most or self._size() > cap
            ):
                self._entries.popitem(last=False)
        return entry

    def get(self, token: object) -> SceneEntry | None:
        """Find the scene of a token, if it is known and wasn't dropped."""
        with self._lock:
            entry = self._entries.get(token) if isinstance(token, str) else None
            if entry is not None:
                self._entries.move_to_end(entry.token)
            return entry

    def __len__(self) -> int:
        return len(self._entries)

    def _size(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values())


SCENES = SceneStore()


def _entry(scene: PointCloud, images: Tensor | None, cap: int) -> SceneEntry:
    static = CoarsePoints.of(scene.static)
    size = tensor_bytes((scene, images, static))
    fits_whole = size <= cap
    if not fits_whole:
        size = tensor_bytes(static)
        images = None
    return SceneEntry(
        token=secrets.token_urlsafe(24),
        scene=scene if fits_whole else _thin_scene(scene),
        images=images,
        static=static,
        up=up_of_scene(scene),
        size_bytes=size,
        whole=fits_whole,
    )


def _thin_scene(scene: PointCloud) -> PointCloud:
    """Keep the scene's cameras and times, without its points."""
    none = scene.static.select(torch.zeros(0, dtype=torch.int64))
    return replace(scene, static=none, moving=(none,) * scene.frame_count)


def tensor_bytes(thing: object, seen_ids: set[int] | None = None) -> int:
    """Count the bytes of all tensors that a payload keeps from being freed, each storage once."""
    seen_ids = set() if seen_ids is None else seen_ids
    if isinstance(thing, Tensor):
        storage = thing.untyped_storage()
        if storage.data_ptr() in seen_ids:
            return 0
        seen_ids.add(storage.data_ptr())
        return storage.nbytes()
    if id(thing) in seen_ids or isinstance(thing, (str, bytes, int, float, type(None))):
        return 0
    seen_ids.add(id(thing))
    if isinstance(thing, (list, tuple)):
        return sum(tensor_bytes(part, seen_ids) for part in thing)
    if isinstance(thing, dict):
        return sum(tensor_bytes(part, seen_ids) for part in thing.values())
    names = (
        [f.name for f in fields(thing)]
        if is_dataclass(thing)
        else list(getattr(thing, "__dict__", ()))
    )
    return sum(tensor_bytes(getattr(thing, name), seen_ids) for name in names)


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
