"""Test the node Estimate Head Pose on a drawn person with known head pose.

The detectors' weights can't be had here, so their answers are the drawn truth; what packs them is
the host's code (SDPose, SAM3). SAM 3D Body is newer than the host here: its payload's
fields are tested in tests/core/trajectory."""

import importlib
import json
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


def sam3_mask(clip: DrawnHeads) -> torch.Tensor:
    """Build the person mask that ComfyUI's SAM3 node returns."""
    from comfy.ldm.sam3.tracker import pack_masks
    from comfy_extras.nodes_sam3 import SAM3_TrackToMask

    width, height = clip.camera.stored_size
    boxes = torch.zeros(FRAMES, 1, height, width)
    for frame, uv in enumerate(clip.uv):
        (left, top) = uv.min(0) - 4
        (right, bottom) = uv.max(0) + 4
        boxes[
            frame, 0, max(0, int(top)) : max(0, int(bottom)), max(0, int(left)) : max(0, int(right))
        ] = 1
    sam3_track = {
        "packed_masks": pack_masks(boxes),
        "orig_size": (height, width),
        "n_frames": FRAMES,
    }
    return SAM3_TrackToMask.execute(sam3_track, "0").result[0]


def test_key_points_of_one_detector_give_the_pose(estimate_pose, drawn_clip, depth):
    answer = estimate_pose(depth=depth, pose_keypoints=sdpose_keypoints(drawn_clip, 0.0))
    position_error, angle_error = answer.median_errors(drawn_clip)
    assert position_error < 0.05
    assert angle_error < 6.0
    expected_note = "profile, back or small: the turn is a guess"
    assert answer.report.startswith(f"frames 0 to {FRAMES - 1}: {expected_note}")
    assert answer.trajectory.guessed.tolist() == [True] * FRAMES
    assert torch.equal(answer.trajectory.exo.pose, drawn_clip.exo_w2c)


def test_a_body_model_gives_the_hands(estimate_pose, drawn_clip):
    """Check the hands estimated from a body model's joints."""
    noise = np.random.default_rng(0).normal(size=(FRAMES, 70, 3))
    body_points = drawn_clip.metres.mean(1)[:, None] + 0.02 * noise
    body_points[:, list(MHR_POINTS.values())] = drawn_clip.metres[
        :, [POINTS.index(n) for n in MHR_POINTS]
    ]
    person = {"pred_cam_t": np.zeros(3), "focal_length": drawn_clip.camera.fx}
    frames = [[{**person, "pred_keypoints_3d": points}] for points in body_points]
    frames[3][0]["bbox"] = [9, 1, 9, 9]
    payload = {"frames": frames, "image_size": drawn_clip.camera.stored_size[::-1]}
    answer = estimate_pose(mhr_pose_data=payload)
    joints = answer.hands.joints[:3]
    thumb_and_little_indices = [62, 45, 44, 43, 42, 61, 60, 59, 58]
    assert np.allclose(
        joints[:, 0, [0, 1, 2, 3, 4, 17, 18, 19, 20]], body_points[:3, thumb_and_little_indices]
    )
    assert np.allclose(joints[:, 1, 8], body_points[:3, 25])  # tip of the right index finger
    assert (answer.hands.reason[3] == 1).all()
    assert answer.hands.joints[3].isnan().all()
    assert "hands: their distance is the network's own" in answer.report
    output_without_hands = estimate_pose(pose_keypoints=sdpose_keypoints(drawn_clip, 0.0))
    assert (
        output_without_hands.hands.reason == 1
    ).all() and "hands" not in output_without_hands.report


def test_the_mask_chooses_one_of_two_people(estimate_pose, drawn_clip, depth):
    two_people = sdpose_keypoints(drawn_clip, 98.0, 0.0)
    for frame in range(0, FRAMES, 2):  # detectors number people anew in every frame
        two_people[frame]["people"].reverse()
    answer = estimate_pose(
        depth=depth, pose_keypoints=two_people, person_mask=sam3_mask(drawn_clip)
    )
    assert answer.median_errors(drawn_clip)[0] < 0.05


def test_the_keyframes_give_the_same_path_in_ego_pose_input(pack, estimate_pose, drawn_clip, depth):
    pose_input_node = importlib.import_module(f"{pack.__name__}.nodes.ego_pose").EgoXEgoPoseInput
    frames = frames_in_use(
        range(0, 3 * FRAMES, 3),
        drawn_clip.camera.stored_size,
        fps=30.0,
        times_s=drawn_clip.times_s,
        kind=import_core_module(pack, "types").FrameSelection,
    )
    answer = estimate_pose(
        depth=depth, frames=frames, pose_keypoints=sdpose_keypoints(drawn_clip, 0.0)
    )

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
    corrected_keyframes = json.dumps(
        [{"frame": 0, "position": [0, 0, 1], "yaw_deg": 5}]
    )  # what the editor writes
    corrected_path = run_pose_input(
        "keyframes", keyframes=corrected_keyframes, estimated=answer.trajectory
    ).result[0]
    assert camera_centre(corrected_path.ego.w2c)[-1].tolist() == pytest.approx([0, 0, 1])
    with refuses("nothing connected to 'estimated'"):
        run_pose_input("estimated")


def test_the_preview_draws_the_heads_axes_between_the_eyes(estimate_pose, drawn_clip, depth):
    answer = estimate_pose(depth=depth, pose_keypoints=sdpose_keypoints(drawn_clip, 0.0))
    preview = answer.ui["egox_preview"][0]
    assert [stream["name"] for stream in preview["streams"]] == ["head"]
    assert [tick["label"] for tick in preview["streams"][0]["legend"]["ticks"]] == [
        "a guess",
        "seen",
    ]
    assert preview["text"] == answer.report == answer.ui["text"][0]
    for frame, picture in enumerate(answer.preview):
        rows, columns = ((picture - 0.4).abs().amax(-1) > 0.05).nonzero(as_tuple=True)
        eye_centre = drawn_clip.uv[
            frame, [POINTS.index("left_eye"), POINTS.index("right_eye")]
        ].mean(0)
        assert (
            float(((columns - eye_centre[0]) ** 2 + (rows - eye_centre[1]) ** 2).min()) < 9
        )  # the axes begin between the eyes


def test_assumed_lens_and_missing_depth_are_reported(estimate_pose, drawn_clip, depth):
    keypoints = sdpose_keypoints(drawn_clip, 0.0)
    assert (
        "no depth" in (report := estimate_pose(pose_keypoints=keypoints).report)
        and "60 degrees across are assumed" in report
    )
    assert estimate_pose(pose_keypoints=keypoints).ui["egox_preview"][0]["badge"] == "lensGuessed"
    assert (
        estimate_pose(pose_keypoints=keypoints, depth=depth).ui["egox_preview"][0]["badge"] is None
    )
    output_of_empty_mask = estimate_pose(
        pose_keypoints=keypoints, depth=depth, person_mask=torch.zeros(FRAMES, 64, 64)
    )
    assert "mask of the wearer is empty" in output_of_empty_mask.report


def test_bad_input_is_refused_before_any_work(estimate_pose, drawn_clip, depth):
    keypoints = {"pose_keypoints": sdpose_keypoints(drawn_clip, 0.0)}
    relative_depth = replace(depth, kind="relative z")
    for message, changes in {
        "0 to 0": {**keypoints, "person": 4},
        "mask of the wearer": {**keypoints, "person_mask": torch.ones(5, HEIGHT, 392)},
        "depth: got 7 frames": {**keypoints, "depth": replace(depth, depth_m=depth.depth_m[:7])},
        "relative z depth": {**keypoints, "depth": relative_depth},
    }.items():
        with refuses(message):
            estimate_pose(**{"depth": depth, **changes})
