"""Test the node Estimate Head Pose on a drawn person with known head pose.

The detectors' weights can't be had here, so their answers are the drawn truth; what packs them is
the host's code (SDPose). SAM 3D Body is newer than the host here: its payload's
fields are tested in tests/core/trajectory."""

import importlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from egox_core.cameras import camera_centre
from egox_core.cameras.poses import compose, invert
from egox_core.trajectory.head_payloads import MHR_POINTS
from egox_core.trajectory.head_template import POINTS, ego_from_head
from tests.core.drawn_heads import DrawnHeads, lay_out_heads
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses
from tools.rigs.model_rig import import_core_module, node_defaults

FRAMES, HEIGHT = 13, 224
SDPOSE_POINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
)
"""First names of the 133 points in SDPose's heatmaps."""


@pytest.fixture(scope="module")
def drawn_clip() -> DrawnHeads:
    return lay_out_heads(frames=FRAMES, height=HEIGHT, turning_deg=40.0)


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.estimate_head_pose").EgoXEstimateHeadPose


@dataclass(frozen=True)
class NodeOutput:
    trajectory: object
    keyframes: str
    preview: torch.Tensor
    report: str
    hands: object
    ui: dict

    def median_errors(self, clip: DrawnHeads) -> tuple[float, float]:
        """Measure the median errors of an estimated path: eye position in metres and head angle in
        degrees."""
        head_from_camera = ego_from_head(self.trajectory.ego.camera.quarter_turns)
        c2w = compose(invert(self.trajectory.ego.w2c), head_from_camera).numpy()
        relative_rotations = clip.truth[..., :3].transpose(0, 2, 1) @ c2w[..., :3]
        cosine = np.clip((np.trace(relative_rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)
        return (
            float(np.median(np.linalg.norm(c2w[..., 3] - clip.truth[..., 3], axis=-1))),
            float(np.median(np.degrees(np.arccos(cosine)))),
        )


@pytest.fixture(scope="module")
def estimate_pose(node, drawn_clip):
    def execute(**changed_inputs) -> NodeOutput:
        width, height = drawn_clip.camera.stored_size
        inputs = {
            **node_defaults(node),
            "exo_images": torch.full((FRAMES, height, width, 3), 0.4),
            **changed_inputs,
        }
        with torch.inference_mode():  # as the host runs every node
            output = node.execute(**inputs)
        return NodeOutput(*output.result, ui=output.ui)

    return execute


@pytest.fixture(scope="module")
def depth(pack, drawn_clip):
    frames = import_core_module(pack, "frames").Frames.stated(
        torch.arange(FRAMES) * 3, drawn_clip.times_s
    )
    exo = import_core_module(pack, "cameras").CameraPath.of_exo(
        drawn_clip.camera, drawn_clip.exo_w2c, frames
    )
    return import_core_module(pack, "types").DepthVideo(depth_m=drawn_clip.depth(), exo=exo)


def sdpose_keypoints(clip: DrawnHeads, *shifts: float) -> list[dict]:
    """Build key points as ComfyUI's SDPose node returns them."""
    from comfy_extras.nodes_sdpose import _to_openpose_frames

    points = np.zeros((FRAMES, len(shifts), 133, 2))
    scores = np.zeros((FRAMES, len(shifts), 133))
    for person, shift in enumerate(shifts):
        for row, name in enumerate(SDPOSE_POINTS):
            points[:, person, row] = clip.uv[:, POINTS.index(name)] + [shift, 0]
            scores[:, person, row] = 0.9
    width, height = clip.camera.stored_size
    return _to_openpose_frames(points, scores, height, width)


@pytest.mark.parametrize("has_depth", [True, False])
def test_key_points_of_one_detector_give_the_pose(estimate_pose, drawn_clip, depth, has_depth):
    keypoints = sdpose_keypoints(drawn_clip, 0.0)
    answer = estimate_pose(depth=depth if has_depth else None, pose_keypoints=keypoints)
    preview = answer.ui["egox_preview"][0]
    assert preview["badge"] == (None if has_depth else "lensGuessed")
    assert ("no depth" in answer.report) == ("60 degrees" in answer.report) == (not has_depth)
    assert preview["text"] == answer.report and preview["streams"][0]["name"] == "head"
    if not has_depth:
        return
    position_error, angle_error = answer.median_errors(drawn_clip)
    assert position_error < 0.05 and angle_error < 6.0
    assert answer.report.startswith(f"frames 0 to {FRAMES - 1}: profile, back or small")
    assert answer.trajectory.guessed.all()
    assert torch.equal(answer.trajectory.exo.pose, drawn_clip.exo_w2c)
    eyes = [POINTS.index("left_eye"), POINTS.index("right_eye")]
    for picture, (u, v) in zip(answer.preview, drawn_clip.uv[:, eyes].mean(1), strict=True):
        rows, columns = ((picture - 0.4).abs().amax(-1) > 0.05).nonzero(as_tuple=True)
        assert float(((columns - u) ** 2 + (rows - v) ** 2).min()) < 9, "axes between the eyes"


def test_a_body_model_gives_the_hands(estimate_pose, drawn_clip):
    """Check the hands estimated from a body model's joints."""
    body_points = drawn_clip.metres.mean(1)[:, None] + 0.02 * np.random.default_rng(0).normal(
        size=(FRAMES, 70, 3)
    )
    body_points[:, list(MHR_POINTS.values())] = drawn_clip.metres[
        :, [POINTS.index(n) for n in MHR_POINTS]
    ]
    person = {"pred_cam_t": np.zeros(3), "focal_length": drawn_clip.camera.fx}
    frames = [[{**person, "pred_keypoints_3d": points}] for points in body_points]
    frames[3][0]["bbox"] = [9, 1, 9, 9]
    payload = {"frames": frames, "image_size": drawn_clip.camera.stored_size[::-1]}
    answer = estimate_pose(mhr_pose_data=payload)
    assert np.allclose(answer.hands.joints[:3, 1, 8], body_points[:3, 25])  # right index finger
    assert (answer.hands.reason[3] == 1).all() and answer.hands.joints[3].isnan().all()
    assert "hands" in answer.report


def test_the_keyframes_give_the_same_path_in_ego_pose_input(pack, estimate_pose, drawn_clip, depth):
    pose_input_node = importlib.import_module(f"{pack.__name__}.nodes.ego_pose").EgoXEgoPoseInput
    frames = frames_in_use(
        range(0, 3 * FRAMES, 3),
        drawn_clip.camera.stored_size,
        fps=30.0,
        times_s=drawn_clip.times_s,
        kind=import_core_module(pack, "types").FrameSelection,
    )
    keypoints = sdpose_keypoints(drawn_clip, 0.0)
    answer = estimate_pose(depth=depth, frames=frames, pose_keypoints=keypoints)

    def run_pose_input(source: str, **inputs):
        values = {**node_defaults(pose_input_node), "source": source, "frames": frames, **inputs}
        return pose_input_node.execute(**values)

    poses = run_pose_input("keyframes", keyframes=answer.keyframes).result[0]
    offsets = camera_centre(poses.ego.w2c) - camera_centre(answer.trajectory.ego.w2c)
    assert float(offsets.norm(dim=-1).max()) < 0.006
    output = run_pose_input("estimated", estimated=answer.trajectory)
    torch.testing.assert_close(output.result[0].ego.w2c, answer.trajectory.ego.w2c)
    assert output.result[0].guessed is not None
    assert len(output.ui["egox_pose"][0]["path"]) == FRAMES  # what the editor begins with
    keyframe = '[{"frame": 0, "position": [0, 0, 1], "yaw_deg": 5}]'  # what it writes
    corrected = run_pose_input("keyframes", keyframes=keyframe, estimated=answer.trajectory)
    centres = camera_centre(corrected.result[0].ego.w2c)
    assert centres[-1].tolist() == pytest.approx([0, 0, 1])
    with refuses("nothing connected to 'estimated'"):
        run_pose_input("estimated")


def test_bad_input_is_refused_before_any_work(estimate_pose, drawn_clip, depth):
    keypoints = {"pose_keypoints": sdpose_keypoints(drawn_clip, 0.0), "depth": depth}
    empty_mask = torch.zeros(FRAMES, 64, 64)
    assert "mask of the wearer" in estimate_pose(**keypoints, person_mask=empty_mask).report
    for message, changes in {
        "0 to 0": {"person": 4},
        "mask of the wearer": {"person_mask": torch.ones(5, HEIGHT, 392)},
        "got 7 frames": {"depth": replace(depth, depth_m=depth.depth_m[:7])},
        "relative z depth": {"depth": replace(depth, kind="relative z")},
    }.items():
        with refuses(message):
            estimate_pose(**keypoints | changes)
