"""Test the pose editor's JavaScript modules in Node."""

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import torch

from egox_core.cameras.presets import preset_camera
from egox_core.safe_files import read_json, write_json
from egox_core.trajectory.keyframes import keyframe_track, pose_angles, sensor_pose, upright_pose

HERE = Path(__file__).resolve().parent
JS = HERE.parent.parent / "web" / "js"
CAMERAS = {0: preset_camera("pinhole", 64), 1: preset_camera("aria_released", 64)}


def test_the_editor_modules_tests_pass(run_node_tests):
    assert run_node_tests("editor_state.test.mjs") >= 10


def make_track_cases() -> list[dict]:
    """Build keyframe documents of many kinds for a comparison with Python."""
    rng = random.Random(3)
    cases = []
    for count in (1, 2, 3, 4, 5, 9, 30):
        for mode in ("spline", "linear", "hold", "mixed"):
            moments = sorted(rng.sample(range(0, 200), count))
            clock_field = rng.choice(["frame", "time_s"])
            up_axis = rng.choice([None, [0.0, 0.0, 1.0], [0.05, -1.0, 0.3]])
            quarter_turns = rng.choice([0, 1])
            keys = []
            for moment in moments:
                position = [rng.uniform(-2, 2) for _ in range(3)]
                keyframe: dict = {
                    clock_field: moment if clock_field == "frame" else moment / 30,
                    "position": position,
                }
                pose_kind = rng.choice(["angles", "look_at", "w2c"])
                angles = [rng.uniform(-180, 180), rng.uniform(-80, 80), rng.uniform(-60, 60)]
                if pose_kind == "angles":
                    keyframe |= dict(zip(("yaw_deg", "pitch_deg", "roll_deg"), angles, strict=True))
                elif pose_kind == "look_at":
                    keyframe |= {
                        "look_at": [rng.uniform(3, 5) for _ in range(3)],
                        "roll_deg": angles[2],
                    }
                else:
                    pose = sensor_pose(
                        upright_pose(torch.tensor(position), *angles),
                        CAMERAS[quarter_turns].quarter_turns,
                    )
                    keyframe = {clock_field: keyframe[clock_field], "w2c": pose.tolist()}
                if mode == "mixed":
                    keyframe["interpolation"] = rng.choice(["spline", "linear", "hold"])
                keys.append(keyframe)
            document = {"keyframes": keys} | ({} if up_axis is None else {"up": up_axis})
            document |= {} if mode == "mixed" else {"interpolation": mode}
            document["looks"] = [
                {
                    clock_field: m if clock_field == "frame" else m / 30,
                    "point": [9 * rng.random() for _ in "xyz"],
                }
                for m in sorted(rng.sample(range(0, 200), count % 4))
            ]
            scale = 1 if clock_field == "frame" else 30
            query_moments = [m / scale for m in moments] + [
                rng.uniform(-5, 205) / scale for _ in range(40)
            ]
            cases.append(
                {"document": document, "wanted": query_moments, "quarter_turns": quarter_turns}
            )
    return cases


def test_the_page_and_a_run_make_the_same_path(run_node, tmp_path):
    cases = make_track_cases()
    write_json(tmp_path / "cases.json", cases)
    results = json.loads(run_node("evaluate_tracks.mjs", str(tmp_path / "cases.json")))
    for case, result in zip(cases, results, strict=True):
        camera = CAMERAS[case["quarter_turns"]]
        query_moments = torch.tensor(case["wanted"], dtype=torch.float64)
        track = keyframe_track(case["document"], camera)
        camera_poses = camera.upright_poses(track.at(query_moments))
        # Both in double precision; the spline's system and the slerp are solved in different
        # orders.
        assert torch.allclose(
            torch.tensor(result["w2c"], dtype=torch.float64), camera_poses, atol=1e-7, rtol=0
        ), case
        up_axis = case["document"].get("up", [0.0, -1.0, 0.0])
        for pose, angles in zip(camera.upright_poses(track.w2c), result["angles"], strict=True):
            angle_differences = [
                math.remainder(a - b, 360)
                for a, b in zip(pose_angles(pose, up_axis), angles, strict=True)
            ]
            assert max(map(abs, angle_differences)) < 1e-4
        # What the page writes into the node gives the same path, to the digits that it writes.
        reloaded_track = keyframe_track(result["written"], camera)
        assert (
            reloaded_track.between == track.between
            and reloaded_track.moments.tolist() == track.moments.tolist()
        )
        assert torch.allclose(reloaded_track.w2c, track.w2c, atol=5e-6, rtol=0)
        assert torch.allclose(
            reloaded_track.at(query_moments), track.at(query_moments), atol=5e-5, rtol=0
        )


def test_the_page_marks_points_where_the_lens_sees_them(run_node, tmp_path):
    points = torch.rand(300, 3, dtype=torch.float64) * 4 - torch.tensor([2.0, 2.0, -0.03])
    lenses = [("pinhole", ()), ("opencv_fisheye", (0.04, -0.01, 0.006, -0.001))]
    lenses += [("opencv", (-0.3, k2, 0.003, -0.002)) for k2 in (0.1, 0.02, -0.01)]
    for lens, distortion in lenses:
        camera = replace(CAMERAS[0], lens=lens, distortion=distortion)
        projection_case = {"camera": camera.to_json(), "points": points.tolist()}
        write_json(tmp_path / "cases.json", [projection_case])
        (marks,) = json.loads(run_node("project_points.mjs", str(tmp_path / "cases.json")))
        pixels, seen_mask = camera.project(points)
        assert [mark is not None for mark in marks] == seen_mask.tolist()
        drawn_pixels = torch.tensor([mark for mark in marks if mark], dtype=torch.float64)
        assert torch.allclose(drawn_pixels, pixels[seen_mask], atol=1e-9) and len(drawn_pixels) > 50


def test_the_vendored_three_js_is_the_recorded_one():
    from tools.vendor_three import BUNDLE, DATA, LICENCE, TARGET, sha256

    bundle_record = read_json(DATA)
    assert set(bundle_record["files"]) == {BUNDLE, LICENCE}
    assert bundle_record["files"] == {path.name: sha256(path) for path in TARGET.iterdir()}
    bundle_text = (TARGET / BUNDLE).read_text("utf-8")
    assert not re.search(r"(?m)^\s*(?:import\b|export\b.*\bfrom\b)|\bimport\(", bundle_text), (
        "all in one"
    )
    assert "SPDX-License-Identifier: MIT" in bundle_text
    used_names = {
        name
        for module in (JS / "editor").rglob("*.mjs")
        for block in module.read_text("utf-8").split('} from "../../vendor/three.mjs"')[:-1]
        for name in block.rsplit("import {", 1)[1].replace(",", " ").split()
    }
    assert (
        {"Scene", "OrbitControls"}
        <= used_names
        <= {*bundle_record["core"], *bundle_record["addons"]}
    )
