"""Depth Align in the host's process: files, masks, depth pictures, refusals, and the host's own
depth nodes."""

import importlib
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from egox_core.safe_files import read_json, write_json
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses
from tools.rigs.model_rig import core, node_defaults

FRAMES, HEIGHT, WIDTH = 5, 64, 112
FOCAL = 90.0


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.depth_align").EgoXDepthAlign


@pytest.fixture
def run(node):
    def execute(**changes):
        with torch.inference_mode():  # as the host runs every node
            return node.execute(**{**node_defaults(node), **changes}).result

    return execute


def room(frames: int = FRAMES, height: int = HEIGHT) -> torch.Tensor:
    """Draw metres [T, H, W] of a slanted wall with a box before it that comes nearer."""
    depth = (3.0 + torch.linspace(0, 3, WIDTH)).expand(frames, height, WIDTH).clone()
    for t in range(frames):
        depth[t, height // 4 : height // 2, WIDTH // 4 : WIDTH // 2] = 2.0 - 0.05 * t
    return depth


@pytest.fixture
def take(comfy_host):
    """Write a depth file with its meta.json to the input folder. The file begins with a frame of
    another depth and ends with one more than is in use."""
    folder = comfy_host.input / "room"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    np.savez(folder / "depth.npz", depth_m=torch.cat([room(1) + 9, room(FRAMES + 1)]).numpy())
    k = [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]
    pose = np.eye(3, 4)
    pose[0, 3] = 0.25
    write_json(folder / "meta.json", {"camera_intrinsics": k, "camera_extrinsics": pose.tolist()})
    return folder


@pytest.fixture
def selection(pack) -> partial:
    """Give selection(), the frames in use of the file."""
    kind = core(pack, "types").FrameSelection
    return partial(frames_in_use, range(1, FRAMES + 1), (WIDTH, HEIGHT), fps=30.0, kind=kind)


ADVICE = "depth_anything_3_base.safetensors (0.54 GB), all that the prior needs"


def test_a_file_with_its_camera_runs_without_a_depth_model(run, selection, take):
    depth, preview, plot, report, _ = run(depth_file="room/depth.npz", frames=selection())
    torch.testing.assert_close(depth.depth_m, room())
    assert depth.kind == "metric z" and (depth.exo.camera.fx, depth.exo.camera.cx) == (
        FOCAL,
        WIDTH / 2,
    )
    assert float(depth.exo.pose[0, 3]) == 0.25 and depth.trust is None
    assert preview.shape == (FRAMES, HEIGHT, WIDTH, 3) and plot.dim() == 4 and plot.shape[0] == 1
    assert 0 <= float(plot.min()) and float(plot.max()) <= 1 and "as it is" in report


def lacks_depth(run, match: str, **inputs) -> None:
    with refuses(match) as caught:
        run(**inputs)
    _, one_video_first, models = str(caught.value).partition("open the template egox_one_video")
    assert one_video_first and ADVICE in models


def test_missing_depth_is_refused_with_the_advice(run, selection):
    lacks_depth(run, "no depth at all", frames=selection())
    lacks_depth(run, "which is not there", depth_file="other/depth.npz", frames=selection())


def test_depth_and_camera_beside_the_video_need_no_name(run, selection, take):
    (take / "exo.mp4").write_bytes(b"video")
    frames = replace(selection(), source=take / "exo.mp4")
    depth, *_ = run(frames=frames)
    torch.testing.assert_close(depth.depth_m, room())
    assert depth.exo.camera.fx == FOCAL
    modelled, _, _, report, _ = run(frames=frames, moge_geometry=moge(2 * room(), focal=70.0))
    torch.testing.assert_close(modelled.depth_m, 2 * room())
    assert modelled.exo.camera.fx == pytest.approx(FOCAL) and "depth.npz" not in report, (
        "a known camera beats an estimate"
    )
    (take / "depth.npz").unlink()
    lacks_depth(run, "no depth at all", frames=frames)


def test_a_meta_file_without_intrinsics_leaves_the_estimate(run, selection, take):
    write_json(take / "meta.json", {"prompt": "a room"})
    depth, *_ = run(
        frames=selection(), moge_geometry=moge(room(), focal=70.0), camera_file="room/meta.json"
    )
    assert depth.exo.camera.fx == pytest.approx(70.0) and depth.exo.pose is None
    assert "60 degrees" in run(frames=selection(), depth_file="room/depth.npz")[3]


def test_sockets_without_a_scale_are_refused_before_a_run(pack):
    module = importlib.import_module(f"{pack.__name__}.nodes.depth_align")
    inputs = {"depth_file": "", "camera_file": "", "da3_geometry": ["2", 0]}
    graph = {"1": {"class_type": "EgoXDepthAlign", "inputs": inputs}, "2": {}}
    with refuses("no scale from da3_geometry alone"):
        module.check_depth_inputs(graph, "1")
    inputs["moge_geometry"] = ["2", 0]
    module.check_depth_inputs(graph, "1")
    del inputs["moge_geometry"], inputs["da3_geometry"]
    inputs["depth_image"] = ["2", 0]
    with refuses("no scale from depth_image alone"):
        module.check_depth_inputs(graph, "1")


def test_a_linked_meta_file_beside_the_depth_is_not_followed(run, selection, comfy_host, take):
    outside = comfy_host.base / "outside_meta.json"
    shutil.move(take / "meta.json", outside)
    try:
        (take / "meta.json").symlink_to(outside)
    except OSError:
        pytest.skip("this system makes no symbolic links without more rights")
    _, _, _, report, _ = run(depth_file="room/depth.npz", frames=selection())
    assert "60 degrees" in report


def test_the_field_of_view_counts_where_nothing_tells_the_lens(run, selection, take):
    depth_of_fov, *_ = run(depth_file="room/depth.npz", frames=selection(), exo_fov=90.0)
    assert (
        depth_of_fov.exo.camera.fx == pytest.approx(FOCAL) and not depth_of_fov.exo.lens_guessed
    ), "the camera file goes first"
    (take / "meta.json").unlink()
    for sockets in (
        {"depth_file": "room/depth.npz"},
        {"moge_geometry": moge(room(), focal=70.0)},
        {"depth_file": "room/depth.npz", "frames": None},
    ):
        depth, _, _, report, _ = run(**{"frames": selection(), "exo_fov": 90.0} | sockets)
        assert (
            depth.exo.camera.fx == pytest.approx(WIDTH / 2)
            and not depth.exo.lens_guessed
            and "60 degrees" not in report
        )
    estimated, *_ = run(frames=selection(), moge_geometry=moge(room(), focal=70.0))
    assert estimated.exo.camera.fx == pytest.approx(70.0) and not estimated.exo.lens_guessed
    with refuses("field of view"):
        run(depth_file="room/depth.npz", frames=selection(), exo_fov=2.0)


def moge(depth: torch.Tensor, focal: float = FOCAL) -> dict:
    """Build the payload of Run MoGe Inference (v2, with normals). Sky is infinite and out of the
    mask."""
    count, height, width = depth.shape
    mask = torch.isfinite(depth)
    k = (
        torch.tensor([[focal / width, 0, 0.5], [0, focal / height, 0.5], [0, 0, 1]])
        .expand(count, 3, 3)
        .clone()
    )
    return {
        "image": torch.zeros(count, height, width, 3),
        "depth": depth,
        "mask": mask,
        "intrinsics": k,
        "points": torch.zeros(count, height, width, 3),
        "normal": torch.zeros(count, height, width, 3),
    }


def da3(depth: torch.Tensor) -> dict:
    """Build the payload of Run Depth Anything 3 for Small or Base in multiview mode."""
    count, height, width = depth.shape
    return {
        "image": torch.zeros(count, height, width, 3),
        "depth": depth,
        "mode": "multiview",
        "confidence": 1 + torch.rand(count, height, width),
        "intrinsics": torch.tensor(
            [[2 * FOCAL, 0, width], [0, 2 * FOCAL, height], [0, 0, 1.0]]
        ).expand(1, count, 3, 3),
    }


def test_masks_are_handed_on_and_their_lack_is_told(run):
    moving = torch.zeros(FRAMES, HEIGHT, WIDTH)
    moving[:, HEIGHT // 2 :, WIDTH // 2 :] = 1
    shared = {"moge_geometry": moge(room()), "da3_geometry": da3(1.4 / (1 / room() - 0.03))}
    depth, _, _, report, _ = run(**shared, dynamic_mask=moving)
    assert torch.equal(depth.dynamic, moving.bool())
    assert "dynamic 25" in report and "no mask" not in report
    assert "warning: no mask of what moves" in run(**shared)[3]


def test_trust_is_handed_on_when_asked(run):
    depth, *_ = run(moge_geometry=moge(room()), trust_map=True)
    assert depth.trust.shape == depth.depth_m.shape and float(
        depth.trust.min()
    ) < 0.1 < 0.9 < float(depth.trust.max())
    plain, *_ = run(moge_geometry=moge(room()), da3_geometry=da3(room()))
    assert plain.trust is None, "a model's confidence must not change the released mode unasked"


def test_changed_files_run_again(node, take):
    before = node.fingerprint_inputs(depth_file="room/depth.npz", camera_file="")
    meta = take / "meta.json"
    meta.write_text(meta.read_text("utf-8") + " ", "utf-8")
    assert node.fingerprint_inputs(depth_file="room/depth.npz", camera_file="") != before
    assert node.fingerprint_inputs(depth_file="none.npz", camera_file="") not in ("", before)
    assert node.fingerprint_inputs(depth_file=None, camera_file=None) == "", (
        "linked widgets have no value yet"
    )


def test_the_preset_chooses_lens_and_scale(run, selection, take):
    """Exact uses the raw lens and the wearer's scale if they are known. A factor takes precedence."""
    shared = dict(depth_file="room/depth.npz", frames=selection())
    depth, _, _, report, preset = run(**shared, preset="released_wild")
    assert (
        preset == "released_wild" and depth.exo.camera.lens == "pinhole" and "scale as is" in report
    )
    _, _, _, report, preset = run(**shared, preset="exact")
    assert preset == "exact" and "no raw lens is known" in report
    assert "scale as is: scale from the wearer" in report
    meta = read_json(take / "meta.json")
    k = [[1237.0, 0, 1920], [0, 1237.0, 1080], [0, 0, 1]]
    write_json(take / "meta.json", {**meta, "camera_intrinsics": k})
    raw, _, _, report, _ = run(**shared, preset="exact", scale_factor=1.5)
    assert raw.exo.camera.lens == "opencv_fisheye" and "exo lens raw" in report
    assert len(raw.exo.camera.distortion) == 4 and raw.exo.camera.stored_size == (WIDTH, HEIGHT)
    torch.testing.assert_close(raw.depth_m, 1.5 * room())
    assert "scale 1.5, as given" in report
