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
    scenes = make_store(pack)
    tokens = [
        scenes.put(copied_scene, scene_and_frames[1]).token
        for copied_scene in copy_scene(scene_and_frames[0], 4)
    ]
    assert len(set(tokens)) == 4
    assert all(len(token) >= 32 for token in tokens)
    assert scenes.get(tokens[0]) is not None  # used: the second is now the oldest
    fifth_token = scenes.put(copy_scene(scene_and_frames[0], 1)[0], scene_and_frames[1]).token
    assert scenes.get(tokens[1]) is None
    assert len(scenes) == 4
    assert all(
        scenes.get(token) is not None for token in (tokens[0], tokens[2], tokens[3], fifth_token)
    )
    assert scenes.get(None) is None
    assert scenes.get(3) is None
    assert scenes.get("") is None


def test_the_same_scene_keeps_its_token(pack, scene_and_frames):
    scenes = make_store(pack)
    first_entry = scenes.put(*scene_and_frames)
    assert scenes.put(*scene_and_frames) is first_entry
    assert len(scenes) == 1
    assert scenes.put(scene_and_frames[0], None).token != first_entry.token


def test_the_bytes_of_stored_scenes_are_limited(pack, scene_and_frames):
    from egox_pack.nodes.page.scenes import tensor_bytes

    size_bytes = make_store(pack).put(*scene_and_frames).size_bytes
    assert size_bytes == tensor_bytes((scene_and_frames[0], scene_and_frames[1])) + 15 * len(
        make_store(pack).put(*scene_and_frames).static
    )
    size_bytes = make_store(pack).put(scene_and_frames[0], scene_and_frames[1].clone()).size_bytes
    scenes = make_store(pack, cap=int(2.5 * size_bytes))
    tokens = [
        scenes.put(copied_scene, scene_and_frames[1].clone()).token
        for copied_scene in copy_scene(scene_and_frames[0], 3)
    ]
    assert [scenes.get(token) is not None for token in tokens] == [False, True, True]


def test_a_scene_that_is_too_large_is_stored_without_its_clip(pack, scene_and_frames):
    entry = make_store(pack, cap=20_000).put(*scene_and_frames)
    assert not entry.is_complete
    assert entry.images is None
    assert entry.picture(0) is None
    assert len(entry.static) > 0
    assert len(entry.moving(2)) == 0
    assert entry.frames == 5
    assert entry.size_bytes == 15 * len(entry.static)
