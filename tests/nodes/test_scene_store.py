"""Scenes that are held for the page: how many, how large, and under which tokens."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from egox_core.cameras.path import CameraPath


@pytest.fixture(scope="module")
def scene(pack):
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


def store(pack: ModuleType, **options):
    from egox_pack.nodes.page.scenes import SceneStore

    return SceneStore(**options)


def copies(scene, count: int) -> list:
    return [replace(scene, notes=(str(i),)) for i in range(count)]


def test_the_least_recently_used_goes(pack, scene):
    scenes = store(pack)
    tokens = [scenes.put(one, scene[1]).token for one in copies(scene[0], 4)]
    assert len(set(tokens)) == 4 and all(len(t) >= 32 for t in tokens)
    assert scenes.get(tokens[0]) is not None  # used: the second is now the oldest
    fifth = scenes.put(copies(scene[0], 1)[0], scene[1]).token
    assert scenes.get(tokens[1]) is None and len(scenes) == 4
    assert all(scenes.get(t) is not None for t in (tokens[0], tokens[2], tokens[3], fifth))
    assert scenes.get(None) is None and scenes.get(3) is None and scenes.get("") is None


def test_the_same_scene_keeps_its_token(pack, scene):
    scenes = store(pack)
    first = scenes.put(*scene)
    assert scenes.put(*scene) is first and len(scenes) == 1
    assert scenes.put(scene[0], None).token != first.token


def test_their_bytes_are_capped(pack, scene):
    from egox_pack.nodes.page.scenes import tensor_bytes

    size = store(pack).put(*scene).size_bytes
    assert size == tensor_bytes((scene[0], scene[1])) + 15 * len(store(pack).put(*scene).static)
    size = store(pack).put(scene[0], scene[1].clone()).size_bytes
    scenes = store(pack, cap=int(2.5 * size))
    tokens = [scenes.put(one, scene[1].clone()).token for one in copies(scene[0], 3)]
    assert [scenes.get(t) is not None for t in tokens] == [False, True, True]


def test_what_is_too_large_is_held_without_its_clip(pack, scene):
    entry = store(pack, cap=20_000).put(*scene)
    assert not entry.whole and entry.images is None and entry.picture(0) is None
    assert len(entry.static) > 0 and len(entry.moving(2)) == 0 and entry.frames == 5
    assert entry.size_bytes == 15 * len(entry.static)
