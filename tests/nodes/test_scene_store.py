"""Test the store of scenes for the pose editor."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from egox_core.cameras.path import CameraPath


@pytest.fixture(scope="module")
def scene_and_frames(pack):
    from egox_pack.egox_core.cameras.model import CameraModel
    from egox_pack.egox_core.scene.build import build_scene
    from egox_pack.egox_core.types import DepthVideo

    camera = CameraModel.pinhole(32, 24, 30)
    depth = torch.full((5, 24, 32), 2.0)
    depth[:, 8:12, 8:14] = 1.0
    dynamic = torch.zeros(5, 24, 32, dtype=torch.bool)
    dynamic[:, 8:12, 8:14] = True
    frames = torch.rand(5, 24, 32, 3, generator=torch.Generator().manual_seed(0))
    return build_scene(
        frames, DepthVideo(depth_m=depth, dynamic=dynamic, exo=CameraPath.of_exo(camera))
    ), frames


def make_store(pack: ModuleType, **options):
    from egox_pack.nodes.page.scenes import SceneStore

    return SceneStore(**options)


def copy_scene(scene, count: int) -> list:
    return [replace(scene, notes=(str(i),)) for i in range(count)]


def test_the_least_recently_used_scene_is_dropped(pack, scene_and_frames):
    scene, frames = scene_and_frames
    scenes = make_store(pack)
    copies = copy_scene(scene, 5)
    tokens = [scenes.put(each, frames).token for each in copies[:4]]
    assert len(set(tokens)) == 4 and all(len(token) >= 32 for token in tokens)
    assert scenes.get(tokens[0]) is scenes.put(copies[0], frames)  # used: the second is oldest
    tokens.append(scenes.put(copies[4], frames).token)
    assert [scenes.get(token) is not None for token in tokens] == [True, False, True, True, True]
    assert len(scenes) == 4
    assert scenes.get(None) is scenes.get(3) is scenes.get("") is None
    assert scenes.put(copies[4], None).token != tokens[4]


def test_the_bytes_of_stored_scenes_are_limited(pack, scene_and_frames):
    from egox_pack.nodes.page.scenes import tensor_bytes

    scene, frames = scene_and_frames
    entry = make_store(pack).put(scene, frames)
    assert entry.size_bytes == tensor_bytes((scene, frames)) + 15 * len(entry.static)
    own_bytes = make_store(pack).put(scene, frames.clone()).size_bytes
    scenes = make_store(pack, cap=int(2.5 * own_bytes))
    tokens = [scenes.put(each, frames.clone()).token for each in copy_scene(scene, 3)]
    assert [scenes.get(token) is not None for token in tokens] == [False, True, True]
    entry = make_store(pack, cap=20_000).put(scene, frames)  # too large: without its clip
    assert not entry.is_complete and entry.images is None and entry.picture(0) is None
    assert len(entry.static) > 0 == len(entry.moving(2)) and entry.frames == 5
    assert entry.size_bytes == 15 * len(entry.static)
