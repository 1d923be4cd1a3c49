"""Test the node Depth Align with files, masks and outputs of depth nodes."""

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
from tools.rigs.model_rig import import_core_module, node_defaults

FRAMES, HEIGHT, WIDTH = 5, 64, 112
FOCAL_PX = 90.0


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.depth_align").EgoXDepthAlign


@pytest.fixture
def align_depth(node):
    def execute(**changes):
        with torch.inference_mode():  # as the host runs every node
            return node.execute(**{**node_defaults(node), **changes}).result

    return execute


def draw_room_depth(frames: int = FRAMES, height: int = HEIGHT) -> torch.Tensor:
    """Draw depth maps of a slanted wall with an approaching box in front."""
    depth = (3.0 + torch.linspace(0, 3, WIDTH)).expand(frames, height, WIDTH).clone()
    for frame in range(frames):
        depth[frame, height // 4 : height // 2, WIDTH // 4 : WIDTH // 2] = 2.0 - 0.05 * frame
    return depth


@pytest.fixture
def take_folder(comfy_host):
    """Write a depth file with its meta.json to the input folder.

    The file begins with a frame of another depth, and ends with one frame more than is in use."""
    folder = comfy_host.input / "room"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    np.savez(
        folder / "depth.npz",
        depth_m=torch.cat([draw_room_depth(1) + 9, draw_room_depth(FRAMES + 1)]).numpy(),
    )
    intrinsics = [[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]]
    pose = np.eye(3, 4)
    pose[0, 3] = 0.25
    write_json(
        folder / "meta.json", {"camera_intrinsics": intrinsics, "camera_extrinsics": pose.tolist()}
    )
    return folder


@pytest.fixture
def select_frames(pack) -> partial:
    """Provide a function that makes the selection of the frames in use."""
    kind = import_core_module(pack, "types").FrameSelection
    return partial(frames_in_use, range(1, FRAMES + 1), (WIDTH, HEIGHT), fps=30.0, kind=kind)


DEPTH_MODEL_ADVICE = "depth_anything_3_base.safetensors (0.54 GB), all that the prior needs"


def test_a_depth_file_with_its_camera_needs_no_depth_model(align_depth, select_frames, take_folder):
    depth, preview, plot, report, _ = align_depth(
        depth_file="room/depth.npz", frames=select_frames()
    )
    torch.testing.assert_close(depth.depth_m, draw_room_depth())
    assert depth.kind == "metric z" and depth.trust is None
    assert (depth.exo.camera.fx, depth.exo.camera.cx) == (FOCAL_PX, WIDTH / 2)
    assert float(depth.exo.pose[0, 3]) == 0.25
    assert preview.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert len(plot) == 1 and 0 <= float(plot.min()) < float(plot.max()) <= 1
    assert "as it is" in report
    depth, *_ = align_depth(
        depth_file="room/depth.npz", frames=select_frames(), declared="depth.unit=cm, exo.unit=ft"
    )
    torch.testing.assert_close(depth.depth_m, draw_room_depth() * 0.01)
    assert float(depth.exo.pose[0, 3]) == pytest.approx(0.25 * 0.3048)


def check_advice_on_missing_depth(run, match: str, **inputs) -> None:
    with refuses(match) as refusal:
        run(**inputs)
    _, one_video_first, models = str(refusal.value).partition("open the template egox_one_video")
    assert one_video_first
    assert DEPTH_MODEL_ADVICE in models


def test_depth_and_camera_beside_the_video_are_found(align_depth, select_frames, take_folder):
    (take_folder / "exo.mp4").write_bytes(b"video")
    frames = replace(select_frames(), source=take_folder / "exo.mp4")
    depth, *_ = align_depth(frames=frames)
    torch.testing.assert_close(depth.depth_m, draw_room_depth())
    assert depth.exo.camera.fx == FOCAL_PX
    moge = moge_payload(2 * draw_room_depth(), focal=70.0)
    moge_depth, _, _, report, _ = align_depth(frames=frames, moge_geometry=moge)
    torch.testing.assert_close(moge_depth.depth_m, 2 * draw_room_depth())
    assert moge_depth.exo.camera.fx == pytest.approx(FOCAL_PX), "a known camera beats an estimate"
    (take_folder / "depth.npz").unlink()
    check_advice_on_missing_depth(align_depth, "no depth at all", frames=frames)
    other_file = {"depth_file": "other/depth.npz", "frames": select_frames()}
    check_advice_on_missing_depth(align_depth, "which is not there", **other_file)


def test_sockets_without_a_scale_are_refused_before_a_run(pack):
    depth_module = importlib.import_module(f"{pack.__name__}.nodes.depth_align")
    inputs = {"depth_file": "", "camera_file": "", "da3_geometry": ["2", 0]}
    graph = {"1": {"class_type": "EgoXDepthAlign", "inputs": inputs}, "2": {}}
    with refuses("no scale from da3_geometry alone"):
        depth_module.check_depth_inputs(graph, "1")
    inputs["moge_geometry"] = ["2", 0]
    depth_module.check_depth_inputs(graph, "1")
    del inputs["moge_geometry"], inputs["da3_geometry"]
    inputs["depth_image"] = ["2", 0]
    with refuses("no scale from depth_image alone"):
        depth_module.check_depth_inputs(graph, "1")


def test_a_symbolic_link_to_a_meta_file_is_not_followed(
    align_depth, select_frames, comfy_host, take_folder
):
    outside_file = comfy_host.base / "outside_meta.json"
    shutil.move(take_folder / "meta.json", outside_file)
    try:
        (take_folder / "meta.json").symlink_to(outside_file)
    except OSError:
        pytest.skip("this system makes no symbolic links without more rights")
    report = align_depth(depth_file="room/depth.npz", frames=select_frames())[3]
    assert "60 degrees" in report and "give exo_fov of Depth Align" in report


def moge_payload(depth: torch.Tensor, focal: float = FOCAL_PX) -> dict:
    """Build the output of ComfyUI's MoGe node."""
    count, height, width = depth.shape
    mask = torch.isfinite(depth)
    intrinsics = (
        torch.tensor([[focal / width, 0, 0.5], [0, focal / height, 0.5], [0, 0, 1]])
        .expand(count, 3, 3)
        .clone()
    )
    return {
        "image": torch.zeros(count, height, width, 3),
        "depth": depth,
        "mask": mask,
        "intrinsics": intrinsics,
        "points": torch.zeros(count, height, width, 3),
        "normal": torch.zeros(count, height, width, 3),
    }


def da3_payload(depth: torch.Tensor) -> dict:
    """Build the output of ComfyUI's Depth Anything 3 node."""
    count, height, width = depth.shape
    return {
        "image": torch.zeros(count, height, width, 3),
        "depth": depth,
        "mode": "multiview",
        "confidence": 1 + torch.rand(count, height, width),
        "intrinsics": torch.tensor(
            [[2 * FOCAL_PX, 0, width], [0, 2 * FOCAL_PX, height], [0, 0, 1.0]]
        ).expand(1, count, 3, 3),
    }


def test_masks_and_trust_reach_the_output(align_depth):
    moving_mask = torch.zeros(FRAMES, HEIGHT, WIDTH)
    moving_mask[:, HEIGHT // 2 :, WIDTH // 2 :] = 1
    depth_inputs = {
        "moge_geometry": moge_payload(draw_room_depth()),
        "da3_geometry": da3_payload(1.4 / (1 / draw_room_depth() - 0.03)),
    }
    depth, _, _, report, _ = align_depth(**depth_inputs, dynamic_mask=moving_mask)
    assert torch.equal(depth.dynamic, moving_mask.bool()) and "dynamic 25" in report
    assert depth.trust is None, "a model's confidence must not change the released mode unasked"
    depth, _, _, report, _ = align_depth(**depth_inputs, trust_map=True)
    assert "no mask of what moves" in report
    assert depth.trust.shape == depth.depth_m.shape
    assert float(depth.trust.min()) < 0.1 < 0.9 < float(depth.trust.max())


def test_a_changed_file_changes_the_fingerprint(node, take_folder):
    files = {"depth_file": "room/depth.npz", "camera_file": ""}
    before = node.fingerprint_inputs(**files)
    meta_file = take_folder / "meta.json"
    meta_file.write_text(meta_file.read_text("utf-8") + " ", "utf-8")
    missing = node.fingerprint_inputs(depth_file="none.npz", camera_file="")
    assert len({before, missing, node.fingerprint_inputs(**files), ""}) == 4
    unlinked = dict.fromkeys(files)  # linked widgets have no value yet
    assert node.fingerprint_inputs(**unlinked) == ""


def test_the_preset_chooses_lens_and_scale(align_depth, select_frames, take_folder):
    """Check that the preset ``exact`` uses the raw lens and the right scale."""
    meta = read_json(take_folder / "meta.json")
    raw = {"camera_intrinsics": [[1237.0, 0, 1920], [0, 1237.0, 1080], [0, 0, 1]]}
    declared = {"declared": {"depth.scale": 2.0}}
    for preset, changed_meta, given, factor, lens, words in (
        ("released_wild", {}, 1, 1, "pinhole", ("scale as is",)),
        ("exact", {}, 1, 1, "pinhole", ("no raw lens", "scale from the wearer")),
        ("exact", declared, 1, 2, "pinhole", ("scale 2, as given",)),
        ("exact", declared, 1.5, 1.5, "pinhole", ("scale 1.5, as given",)),
        ("exact", raw, 1.5, 1.5, "opencv_fisheye", ("exo lens raw", "scale 1.5, as given")),
    ):
        write_json(take_folder / "meta.json", {**meta, **changed_meta})
        depth, _, _, report, output_preset = align_depth(
            depth_file="room/depth.npz",
            frames=select_frames(),
            preset=preset,
            scale_factor=given,
        )
        assert output_preset == preset and depth.exo.camera.lens == lens
        assert depth.exo.camera.stored_size == (WIDTH, HEIGHT)
        assert all(word in report for word in words)
        torch.testing.assert_close(depth.depth_m, factor * draw_room_depth())
