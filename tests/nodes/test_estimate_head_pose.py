"""Estimate Head Pose on the payloads that the host's own nodes pack, of a drawn person whose head
is known.

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
from tests.core.drawn_heads import DrawnHeads, drawn_heads
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses
from tools.rigs.model_rig import core, node_defaults

FRAMES, HEIGHT = 13, 224
MMPOSE = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
)
"""First of the 133 points that SDPose's heatmaps are of."""


@pytest.fixture(scope="module")
def clip() -> DrawnHeads:
    return drawn_heads(frames=FRAMES, height=HEIGHT, turning_deg=40.0)


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.estimate_head_pose").EgoXEstimateHeadPose


@dataclass(frozen=True)
class Answer:
    trajectory: object
    keyframes: str
    preview: torch.Tensor
    report: str
    hands: object
    ui: dict

    def errors(self, clip: DrawnHeads) -> tuple[float, float]:
        """Measure medians of the errors: the eyes' place in metres, and the angle in degrees."""
        mount = ego_from_head(self.trajectory.ego.camera.quarter_turns)
        c2w = compose(invert(self.trajectory.ego.w2c), mount).numpy()
        turns = clip.truth[..., :3].transpose(0, 2, 1) @ c2w[..., :3]
        cosine = np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)
        return (
            float(np.median(np.linalg.norm(c2w[..., 3] - clip.truth[..., 3], axis=-1))),
            float(np.median(np.degrees(np.arccos(cosine)))),
        )


@pytest.fixture(scope="module")
def run(node, clip):
    def execute(**changes) -> Answer:
        width, height = clip.camera.stored_size
        inputs = {
            **node_defaults(node),
            "exo_images": torch.full((FRAMES, height, width, 3), 0.4),
            **changes,
        }
        with torch.inference_mode():  # as the host runs every node
            output = node.execute(**inputs)
        return Answer(*output.result, ui=output.ui)

    return execute


@pytest.fixture(scope="module")
def depth(pack, clip):
    types = core(pack, "types")
    return types.DepthVideo(
        depth_m=clip.depth(),
        exo=types.CameraPath.of_exo(
            clip.camera,
            clip.exo_w2c,
            types.Frames.stated(torch.arange(FRAMES) * 3, clip.times_s),
        ),
    )


def of_sdpose(clip: DrawnHeads, *shifts: float) -> list[dict]:
    """Build POSE_KEYPOINT as SDPose packs it, with one person for each shift in px to the right."""
    from comfy_extras.nodes_sdpose import _to_openpose_frames

    raw, scores = np.zeros((FRAMES, len(shifts), 133, 2)), np.zeros((FRAMES, len(shifts), 133))
    for number, shift in enumerate(shifts):
        for row, name in enumerate(MMPOSE):
            raw[:, number, row] = clip.uv[:, POINTS.index(name)] + [shift, 0]
            scores[:, number, row] = 0.9
    width, height = clip.camera.stored_size
    return _to_openpose_frames(raw, scores, height, width)


def of_sam3(clip: DrawnHeads) -> torch.Tensor:
    """Build the MASK of the host's own node for SAM3's tracks: a box round the person."""
    from comfy.ldm.sam3.tracker import pack_masks
    from comfy_extras.nodes_sam3 import SAM3_TrackToMask

    width, height = clip.camera.stored_size
    boxes = torch.zeros(FRAMES, 1, height, width)
    for t, uv in enumerate(clip.uv):
        (left, top), (right, bottom) = uv.min(0) - 4, uv.max(0) + 4
        boxes[
            t, 0, max(0, int(top)) : max(0, int(bottom)), max(0, int(left)) : max(0, int(right))
        ] = 1
    track = {"packed_masks": pack_masks(boxes), "orig_size": (height, width), "n_frames": FRAMES}
    return SAM3_TrackToMask.execute(track, "0").result[0]


def test_one_detector_is_enough(run, clip, depth):
    answer = run(depth=depth, pose_keypoints=of_sdpose(clip, 0.0))
    place, angle = answer.errors(clip)
    assert place < 0.05 and angle < 6.0
    words = "profile, back or small: the turn is a guess"
    assert answer.report.startswith(f"frames 0 to {FRAMES - 1}: {words}")
    assert answer.trajectory.guessed.tolist() == [True] * FRAMES
    assert torch.equal(answer.trajectory.exo.pose, clip.exo_w2c)


def test_a_body_model_gives_the_hands(run, clip):
    """Its fingers begin at the tip. A person in an empty box is nobody."""
    noise = np.random.default_rng(0).normal(size=(FRAMES, 70, 3))
    solid = clip.metres.mean(1)[:, None] + 0.02 * noise
    solid[:, list(MHR_POINTS.values())] = clip.metres[:, [POINTS.index(n) for n in MHR_POINTS]]
    person = {"pred_cam_t": np.zeros(3), "focal_length": clip.camera.fx}
    frames = [[{**person, "pred_keypoints_3d": points}] for points in solid]
    frames[3][0]["bbox"] = [9, 1, 9, 9]
    payload = {"frames": frames, "image_size": clip.camera.stored_size[::-1]}
    answer = run(mhr_pose_data=payload)
    joints = answer.hands.joints[:3]
    thumb_and_little = [62, 45, 44, 43, 42, 61, 60, 59, 58]
    assert np.allclose(joints[:, 0, [0, 1, 2, 3, 4, 17, 18, 19, 20]], solid[:3, thumb_and_little])
    assert np.allclose(joints[:, 1, 8], solid[:3, 25])  # tip of the right index finger
    assert (answer.hands.reason[3] == 1).all() and answer.hands.joints[3].isnan().all()
    assert "hands: their distance is the network's own" in answer.report
    without = run(pose_keypoints=of_sdpose(clip, 0.0))
    assert (without.hands.reason == 1).all() and "hands" not in without.report


def test_of_two_people_the_chosen_one(run, clip, depth):
    two = of_sdpose(clip, 98.0, 0.0)
    for t in range(0, FRAMES, 2):  # detectors number people anew in every frame
        two[t]["people"].reverse()
    answer = run(depth=depth, pose_keypoints=two, person_mask=of_sam3(clip))
    assert answer.errors(clip)[0] < 0.05


def test_keyframes_are_the_same_path_in_ego_pose_input(pack, run, clip, depth):
    ego_pose = importlib.import_module(f"{pack.__name__}.nodes.ego_pose").EgoXEgoPoseInput
    frames = frames_in_use(
        range(0, 3 * FRAMES, 3),
        clip.camera.stored_size,
        fps=30.0,
        times_s=clip.times_s,
        kind=core(pack, "types").FrameSelection,
    )
    answer = run(depth=depth, frames=frames, pose_keypoints=of_sdpose(clip, 0.0))

    def pose(source: str, **inputs):
        values = {**node_defaults(ego_pose), "source": source, "frames": frames, **inputs}
        return ego_pose.execute(**values)

    poses = pose("keyframes", keyframes=answer.keyframes).result[0]
    off = camera_centre(poses.ego.w2c) - camera_centre(answer.trajectory.ego.w2c)
    assert float(off.norm(dim=-1).max()) < 0.006
    output = pose("estimated", estimated=answer.trajectory)
    torch.testing.assert_close(output.result[0].ego.w2c, answer.trajectory.ego.w2c)
    assert output.result[0].guessed is not None
    assert len(output.ui["egox_pose"][0]["path"]) == FRAMES  # what the editor begins with
    corrected = json.dumps(
        [{"frame": 0, "position": [0, 0, 1], "yaw_deg": 5}]
    )  # what the editor writes
    corrected_path = pose("keyframes", keyframes=corrected, estimated=answer.trajectory).result[0]
    assert camera_centre(corrected_path.ego.w2c)[-1].tolist() == pytest.approx([0, 0, 1])
    with refuses("nothing connected to 'estimated'"):
        pose("estimated")


def test_the_preview_shows_the_head(run, clip, depth):
    answer = run(depth=depth, pose_keypoints=of_sdpose(clip, 0.0))
    preview = answer.ui["egox_preview"][0]
    assert [stream["name"] for stream in preview["streams"]] == ["head"]
    assert [tick["label"] for tick in preview["streams"][0]["legend"]["ticks"]] == [
        "a guess",
        "seen",
    ]
    assert preview["text"] == answer.report == answer.ui["text"][0]
    for t, picture in enumerate(answer.preview):
        rows, columns = ((picture - 0.4).abs().amax(-1) > 0.05).nonzero(as_tuple=True)
        eye = clip.uv[t, [POINTS.index("left_eye"), POINTS.index("right_eye")]].mean(0)
        assert (
            float(((columns - eye[0]) ** 2 + (rows - eye[1]) ** 2).min()) < 9
        )  # the axes begin between the eyes


def test_fallbacks_are_told(run, clip, depth):
    keypoints = of_sdpose(clip, 0.0)
    assert (
        "no depth" in (report := run(pose_keypoints=keypoints).report)
        and "60 degrees across are assumed" in report
    )
    assert run(pose_keypoints=keypoints).ui["egox_preview"][0]["badge"] == "lensGuessed"
    assert run(pose_keypoints=keypoints, depth=depth).ui["egox_preview"][0]["badge"] is None
    empty = run(pose_keypoints=keypoints, depth=depth, person_mask=torch.zeros(FRAMES, 64, 64))
    assert "mask of the wearer is empty" in empty.report


def test_bad_input_is_refused_before_any_work(run, clip, depth):
    keypoints = {"pose_keypoints": of_sdpose(clip, 0.0)}
    relative = replace(depth, kind="relative z")
    for message, changes in {
        "0 to 0": {**keypoints, "person": 4},
        "mask of the wearer": {**keypoints, "person_mask": torch.ones(5, HEIGHT, 392)},
        "depth: got 7 frames": {**keypoints, "depth": replace(depth, depth_m=depth.depth_m[:7])},
        "relative z depth": {**keypoints, "depth": relative},
    }.items():
        with refuses(message):
            run(**{"depth": depth, **changes})
