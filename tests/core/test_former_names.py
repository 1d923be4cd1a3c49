"""Check that names and keywords which docs/api.md had in version 1.2 still work."""

import inspect
from collections.abc import Callable

import pytest

from egox_core import errors, sizes
from egox_core.cameras import CameraModel, CameraPath, one_camera
from egox_core.depth import depth_window
from egox_core.exchange import CameraFile
from egox_core.frames import UNSAID, Frames
from egox_core.gga import or_cudnn
from egox_core.hands import HandTrack
from egox_core.metrics.off_path import PathError
from egox_core.page import store_upload, take_in
from egox_core.prior import iter_ego_prior
from egox_core.trajectory.keyframes import turn_to_looks, with_looks
from egox_core.types import CameraTrajectory, DepthVideo
from egox_core.wan import read_header
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("owner", "former_name", "current_name"),
    [
        (CameraFile, "of", "for_depth"),
        (CameraPath, "of", "select"),
        (CameraPath, "through", "with_lens"),
        (CameraTrajectory, "beside", "with_depth_camera"),
        (CameraTrajectory, "known_exo", "required_exo"),
        (CameraTrajectory, "tied", "in_world_of"),
        (Frames, "bare", "without_sizes"),
        (Frames, "of", "select"),
        (HandTrack, "beside", "with_depth_check"),
        (PathError, "moved", "warp_classes"),
    ],
)
def test_former_names_of_methods(owner: type, former_name: str, current_name: str):
    assert vars(owner)[former_name] is vars(owner)[current_name]


def test_former_stand_ins_of_frames():
    shown_frames, size = frames_in_use([4, 6], (8, 8), source_size=(16, 8)), (3, 2)
    assert UNSAID.or_those(shown_frames) is shown_frames is shown_frames.moments_of(UNSAID)
    assert Frames.of_count(1).moments_of(shown_frames) == shown_frames.select(slice(1))
    assert (shown_frames.sizes(size), UNSAID.sizes(size)) == (((16, 8), (8, 8)), (size, size))


def test_former_names_of_functions():
    assert take_in is store_upload
    assert with_looks is turn_to_looks


@pytest.mark.parametrize(
    ("function", "keyword"),
    [
        (iter_ego_prior, "on"),
        (or_cudnn, "own"),
        (CameraFile.read, "what"),
        (CameraModel.check_size, "what"),
        (CameraPath.poses, "what"),
        (DepthVideo.check_metric, "what"),
        (depth_window, "what"),
        (errors.check_choice, "what"),
        (errors.intact, "what"),
        (errors.needs_package, "what"),
        (one_camera, "what"),
        (read_header, "what"),
        (sizes.latent_size, "what"),
    ],
)
def test_documented_keywords_are_accepted(function: Callable, keyword: str):
    assert keyword in inspect.signature(function).parameters


def test_the_keyword_what_begins_the_message():
    with refuses("^size of my canvas: got 100x100 px"):
        sizes.latent_size(100, 100, what="size of my canvas")
