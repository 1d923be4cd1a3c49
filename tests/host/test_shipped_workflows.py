"""Test every shipped workflow's file, layout and run."""

import gzip
import json
import re
import struct
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from egox_core.safe_files import read_json
from tests.flat_graph import all_nodes
from tests.paths import ROOT
from tests.prompts import (
    DETECTORS,
    SIZE,
    inputs_of_type,
    node_id_of_type,
    run_successfully,
    saved_videos,
    shrink_graph,
    use_standin_loaders,
)
from tools.rigs import standins
from tools.rigs.comfy_page import read_workflow, shipped_workflows
from tools.setup.api_client import ApiClient, Outcome, read_prompt
from tools.setup.base_dir import BaseDir

from .drawn_links import nodes_over

WORKFLOW_NAMES = list(shipped_workflows(ROOT))
TEMPLATE_NAMES = {path.stem for path in (ROOT / "workflows").glob("*.json")}
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
WIDGET_TYPES = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}
LONG_VIDEO_NAMES = ("egox_long", "egox_one_video", "egox_robot_episode")
PREVIEW_NAMES = ("exo_prior_preview", "preview")
NAMES_WITHOUT_TEXT = (
    "egox_demo",
    "egox_demo_episode",
    "egox_preview",
    "egox_scene_3d",
    "egox_several_cameras",
    "egox_stereo",
)
TITLE_HEIGHT = 30  # px, above a node's position
BAR_MARGINS, SMALL_PAGE_SIZE = (64, 90), (1024, 768)
"""Margins that the page's bars cover at its left and top, and the page that shows the notes whole,
in px."""
FRAMES, STEPS = 5, 1  # these tests check that a graph runs, not its pictures


def read_shipped(name: str) -> dict[str, Any]:
    return read_workflow(shipped_workflows(ROOT)[name])


def shrink_to_one_step(prompt: dict[str, Any], frames: int = FRAMES) -> dict[str, Any]:
    return shrink_graph(prompt, frames=frames, steps=STEPS)


def read_video(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 0, 1), "square pixels"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def check_run(
    client: ApiClient,
    prompt: dict[str, Any],
    base: BaseDir,
    expected_names: set[str],
    frame_count: int = FRAMES,
) -> dict[str, np.ndarray]:
    """Run a graph, check its saved videos, and return their frames by name."""
    outcome = run_successfully(client, prompt)
    files = saved_videos(outcome, prompt, base)
    saved_frames = {name: read_video(path) for name, path in files.items()}
    for path in files.values():
        check_private(path, base)
    assert set(saved_frames) == expected_names
    for name, frames in saved_frames.items():
        assert len(frames) == frame_count and frames.std() > 3, (
            f"{name}: {frames.shape}, one flat colour or too short"
        )
    return saved_frames


@pytest.mark.parametrize(
    "path", [*shipped_workflows(ROOT).values(), *BLUEPRINTS], ids=lambda path: path.stem
)
def test_each_saved_widget_value_belongs_to_its_input(path, object_info):
    """Check that saved widget values, which have no names, are in the order of the node's
    inputs."""
    prompt = {} if path in BLUEPRINTS else read_prompt(path.stem)
    prompt_inputs = {number.rpartition(":")[2]: node["inputs"] for number, node in prompt.items()}
    for node in all_nodes(read_workflow(path)):
        if not node["type"].startswith("EgoX"):
            continue
        saved_values = iter(node["widgets_values"])
        input_specs = object_info[node["type"]]["input"]
        for name, spec in (
            input_specs.get("required", {}) | input_specs.get("optional", {})
        ).items():
            input_name = f"{node['type']}.{name}"
            options = spec[1] if len(spec) > 1 else {}
            widget_type = "COMBO" if isinstance(spec[0], list) else spec[0]
            if widget_type not in WIDGET_TYPES or options.get("forceInput"):
                continue
            # An input that is newer than the graph keeps its default.
            value = next(saved_values, options.get("default"))
            assert isinstance(value, WIDGET_TYPES[widget_type]), input_name
            assert widget_type == "BOOLEAN" or not isinstance(value, bool), input_name
            if widget_type == "COMBO":
                assert value in options["options"] or "." in value, input_name  # a file
            elif "min" in options:
                assert options["min"] <= value <= options["max"], input_name
            if options.get("control_after_generate"):
                assert next(saved_values) in ("fixed", "randomize"), input_name
            sent_value = prompt_inputs.get(str(node["id"]), {}).get(name, value)
            assert sent_value == value or isinstance(sent_value, list), input_name
        assert set(saved_values) <= {"image"}, (
            f"{node['type']}: values too many"
        )  # of the upload's button


def test_the_blueprint_egox_is_the_subgraph_of_egox_basic():
    saved_graphs = (read_shipped("egox_basic"), read_workflow(ROOT / "subgraphs" / "EgoX.json"))
    node_keys = ("type", "mode", "title", "pos", "size", "widgets_values")
    graphs = [
        next(
            subgraph
            for subgraph in saved_graph["definitions"]["subgraphs"]
            if subgraph["name"] == "EgoX"
        )
        for saved_graph in saved_graphs
    ]
    nodes, inputs = (
        [
            [{key: subgraph.get(key) for key in keys} for subgraph in graph[section]]
            for graph in graphs
        ]
        for section, keys in (("nodes", node_keys), ("inputs", ("name", "label")))
    )
    assert nodes[0] == nodes[1]
    assert inputs[0] == inputs[1]
    assert graphs[0]["groups"] == graphs[1]["groups"]


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_a_graphs_note_is_at_its_top_left_and_visible_on_a_small_page(name):
    saved_graph = read_shipped(name)
    boxes_by_is_note = {True: [], False: []}
    for node in saved_graph["nodes"]:
        (x, y), (w, h) = node["pos"], node["size"]
        boxes_by_is_note[node["type"] == "MarkdownNote"].append(
            (x, y - TITLE_HEIGHT, w, h + TITLE_HEIGHT)
        )
    (note_box,), other_boxes = boxes_by_is_note[True], boxes_by_is_note[False]
    group_boxes = [tuple(group["bounding"]) for group in saved_graph["groups"]]
    x, y, w, h = note_box
    assert y <= min(box[1] for box in other_boxes), "nothing is higher"
    assert not [box for box in other_boxes if box[0] < x + w and box[1] < y + h], "nor further left"
    scale, (x_offset, y_offset) = (
        saved_graph["extra"]["ds"]["scale"],
        saved_graph["extra"]["ds"]["offset"],
    )
    if name in TEMPLATE_NAMES:  # opened out of a form, it is fitted into three quarters of the page
        corners = [(x, y, x + w, y + h) for x, y, w, h in (note_box, *other_boxes, *group_boxes)]
        left, top, *_ = map(min, zip(*corners, strict=True))
        *_, rightmost, bottom = map(max, zip(*corners, strict=True))
        fitted_scale = 0.75 * min(1440 / (rightmost - left + 20), 900 / (bottom - top + 20))
        visible_scale = min(scale, fitted_scale)
    else:
        visible_scale = scale
    assert visible_scale * 14 >= 8, "below 8 px the host draws no text"
    assert (x + x_offset) * scale >= BAR_MARGINS[0] and (
        x + w + x_offset
    ) * scale <= SMALL_PAGE_SIZE[0]
    assert (y + y_offset) * scale >= BAR_MARGINS[1] and (
        y + h + y_offset
    ) * scale <= SMALL_PAGE_SIZE[1]


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_groups_do_not_overlap(name):
    group_boxes = {group["title"]: group["bounding"] for group in read_shipped(name)["groups"]}
    for (title, (x, y, w, h)), (other_title, (left, top, wide, high)) in combinations(
        group_boxes.items(), 2
    ):
        is_apart = x + w <= left or left + wide <= x or y + h <= top or top + high <= y
        assert is_apart, f"{title} and {other_title}"


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_no_link_is_hidden(name):
    """Check that no node, its own ends included, covers a part of a drawn link."""
    graph = read_shipped(name)
    hidden_links = {
        (nodes_over(graph, link).pop(), *link) for link in graph["links"] if nodes_over(graph, link)
    }
    assert not hidden_links


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_stages_stand_from_left_to_right(name):
    groups = sorted(read_shipped(name)["groups"], key=lambda group: group["bounding"][:2])
    stages = [int(number[0]) for group in groups if (number := re.match(r"\d", group["title"]))]
    assert stages == sorted(stages)


@pytest.mark.parametrize("name", sorted(TEMPLATE_NAMES))
def test_a_templates_picture_ends_in_one_colour(name):
    """Check that the lowest rows of a template's picture have one colour."""
    with Image.open(ROOT / "workflows" / f"{name}.jpg") as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=float)
    assert np.ptp(pixels[-32:], axis=(0, 1)).max() < 24


def check_private(path: Path, base: BaseDir) -> None:
    """Check that a saved file contains no path of a folder of this machine."""
    file_bytes = path.read_bytes().replace(b"\\\\", b"\\")
    leaked_folders = [
        folder for folder in (base.root, ROOT, Path.home()) if str(folder).encode() in file_bytes
    ]
    assert not leaked_folders, f"{path.name} contains {leaked_folders}"


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_saved_pictures_and_videos_contain_no_private_folder(client, server_base, name):
    """Check that saved files' tags contain no path of this machine."""
    prompt = use_standin_loaders(read_prompt(name))
    grey_image = {"width": 32, "height": 32, "batch_size": 2, "color": 0x808080}
    prompt["grey"] = {"class_type": "EmptyImage", "inputs": grey_image}
    video_inputs = {"images": ["grey", 0], "fps": 30.0}
    save_options = {"filename_prefix": f"private/{name}"}
    mp4_options = {"video": ["video", 0], "format": "mp4", "codec": "h264", **save_options}
    prompt["video"] = {"class_type": "CreateVideo", "inputs": video_inputs}
    prompt["mp4"] = {"class_type": "SaveVideo", "inputs": mp4_options}
    prompt["png"] = {"class_type": "SaveImage", "inputs": {"images": ["grey", 0], **save_options}}
    request = {"prompt": prompt, "partial_execution_targets": ["mp4", "png"]}
    prompt_id = client.post("/prompt", request)["prompt_id"]
    while not client.get(f"/history/{prompt_id}"):
        time.sleep(0.05)
    saved_files = (server_base.output / "private").glob(f"{name}_0*")
    files = {file.suffix: file for file in saved_files}
    for file in files.values():
        check_private(file, server_base)
    with Image.open(files[".png"]) as picture, av.open(str(files[".mp4"])) as container:
        tagged_prompts = [
            json.loads(picture.info["prompt"]),
            json.loads(container.metadata["prompt"]),
        ]
    change_marks = {
        change_mark
        for node in tagged_prompts[0].values()
        if node["class_type"].startswith("EgoX") and "is_changed" in node
        for value in node["is_changed"]
        for change_mark in re.split("[\n/]", value)
    }
    assert tagged_prompts[0] == tagged_prompts[1]
    assert change_marks > {""}
    # After the bar: how often a page asked for a scene that had been dropped.
    assert all(
        re.fullmatch(r"([0-9a-f]{32})?(\|\d+)?", change_mark) for change_mark in change_marks
    ), change_marks


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_texts_are_encoded_as_released(name):
    """Check that graphs with a text encoder cut texts to 512 tokens and have an empty negative
    prompt."""
    prompt = read_prompt(name)
    encoder_ids = [
        node_id
        for node_id, node in prompt.items()
        if node["class_type"] == "CLIPLoader" and node["inputs"]["type"] == "wan"
    ]
    if not encoder_ids:
        assert name in NAMES_WITHOUT_TEXT
        return
    conditioning_inputs = inputs_of_type(
        prompt,
        "EgoXSampleLong" if name in LONG_VIDEO_NAMES else "EgoXConditioning",
    )
    text_inputs = inputs_of_type(prompt, "EgoXText")
    assert text_inputs["clip"] == [encoder_ids[0], 0]
    assert text_inputs["negative"] == ""
    text_id = node_id_of_type(prompt, "EgoXText")
    assert (conditioning_inputs["positive"], conditioning_inputs["negative"]) == (
        [text_id, 0],
        [text_id, 1],
    )


def test_a_long_video_is_saved_as_a_robot_episode(client, load_workflow, server_base):
    prompt = use_standin_loaders(load_workflow("egox_robot_episode"))
    frame_count = 13  # two chunks
    frame_range = {"start_frame": 15, "frame_count": frame_count}
    inputs_of_type(prompt, "EgoXLoadExoVideo").update(width=112, height=SIZE, **frame_range)
    inputs_of_type(prompt, "EgoXSampleLong").update(length=9, steps=STEPS)
    assert inputs_of_type(prompt, "EgoXSampleLong")["continue_motion_max_frames"] == 5
    outcome = run_successfully(client, prompt)
    (ego_path,) = saved_videos(outcome, prompt, server_base).values()
    assert read_video(ego_path).shape == (frame_count, SIZE, SIZE, 3)
    assert read_video(ego_path).std() > 3
    assert not list(server_base.root.rglob("chunks/*.npy")), "the video is whole"
    data_set_dir = server_base.output / "egox_robots" / "my_set"
    for path in filter(Path.is_file, data_set_dir.rglob("*")):
        check_private(path, server_base)
    data_set_info = read_json(data_set_dir / "meta" / "info.json")
    assert (data_set_info["total_episodes"], data_set_info["total_frames"]) == (1, frame_count)


def use_standin_baselines(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace the models in a graph's loaders by stand-ins of the same architectures."""
    standin_files = {
        "vace": standins.TESTS_ONLY["vace"].name,
        "fun_control": standins.TESTS_ONLY["fun_control"].name,
    }
    files_by_node = {
        node_id: standin_file
        for node_id, node in prompt.items()
        for word, standin_file in standin_files.items()
        if node["class_type"] == "UNETLoader" and word in node["inputs"]["unet_name"]
    }
    prompt = use_standin_loaders(prompt)
    for node_id, standin_file in files_by_node.items():
        prompt[node_id]["inputs"]["unet_name"] = standin_file
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = STEPS
    return prompt


def test_egox_from_any_video_runs_without_depth_and_mask_models(client, load_workflow, server_base):
    """Check that the graph runs after its depth and mask models were removed."""
    prompt = use_standin_loaders(shrink_to_one_step(load_workflow("egox_from_any_video")))
    absent_classes = re.compile(
        "LoadMoGe|MoGe|LoadDA3|DA3|SAM3|CheckpointLoaderSimple|CLIPTextEncode"
    )
    removed_ids = {
        name for name, node in prompt.items() if absent_classes.match(node["class_type"])
    }
    prompt = {
        name: {
            **node,
            "inputs": {
                k: v for k, v in node["inputs"].items() if not is_dangling_link(v, removed_ids)
            },
        }
        for name, node in prompt.items()
        if name not in removed_ids
    }
    assert inputs_of_type(prompt, "EgoXEgoPoseInput")["source"] == "keyframes"
    check_run(client, prompt, server_base, {"ego", *PREVIEW_NAMES})


def is_dangling_link(value: Any, removed_ids: set[str]) -> bool:
    """Check whether an input's value is a link from a removed node."""
    return isinstance(value, list) and value[0] in removed_ids


def cut_grid(frames: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut the four pictures out of a grid of two by two, without the strips of their names."""
    assert frames.shape[2] == 2 * size + 4
    strip_height = (frames.shape[1] - 4) // 2 - size
    return [
        frames[:, row * (size + strip_height + 4) + strip_height :][
            :, :size, column * (size + 4) :
        ][:, :, :size]
        for row in (0, 1)
        for column in (0, 1)
    ]


@pytest.fixture
def empty_detector_files(server_base) -> Iterator[None]:
    """Provide the files of the head's and depth's detectors, empty, so that menus list them."""
    files = [
        server_base.models / model_entry["directory"] / model_entry["name"]
        for node in all_nodes(read_shipped("egox_one_video"))
        if node["type"] in DETECTORS
        for model_entry in node["properties"].get("models", [])
    ]
    assert len(files) == 4 and not any(file.exists() for file in files)
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    yield
    for file in files:
        file.unlink()


def test_egox_one_video_saves_prior_and_preview_without_the_large_model(
    client, load_workflow, server_base, empty_detector_files
):
    prompt = load_workflow("egox_one_video")
    exo_width = 112
    exo_size = {"width": exo_width, "height": SIZE}
    inputs_of_type(prompt, "EgoXLoadExoVideo").update(frame_count=FRAMES, **exo_size)
    for node in prompt.values():
        if node["class_type"] in DETECTORS:
            node["class_type"] = f"EgoXTests{node['class_type']}"
    answer = client.post("/prompt", {"prompt": prompt})
    refused_types = {fault["class_type"] for fault in answer["node_errors"].values()}
    assert {"UNETLoader", "VAELoader", "CLIPLoader", "EgoXLoadLora"} <= refused_types
    while not (entry := client.get(f"/history/{answer['prompt_id']}").get(answer["prompt_id"])):
        time.sleep(0.1)
    outcome = Outcome(entry["status"]["status_str"], entry["outputs"], [], {})
    assert outcome.status == "success", entry["status"]
    files = saved_videos(outcome, prompt, server_base)
    assert set(files) == set(PREVIEW_NAMES)
    film, preview = (read_video(files[name]).astype(float) for name in PREVIEW_NAMES)
    assert preview.shape == (FRAMES, SIZE, SIZE, 3)
    assert film.shape[2] == exo_width + 3 * (SIZE + 4), "exo, prior, preview and the true video"
    prior = film[:, -SIZE:, exo_width + 4 :][:, :, :SIZE]
    assert (prior.mean(-1) < 8).mean() > (preview.mean(-1) < 8).mean() + 0.05, "holes are filled"


def test_egox_compare_makes_a_grid_of_four_different_pictures(client, load_workflow, server_base):
    prompt = use_standin_loaders(shrink_to_one_step(load_workflow("egox_compare"), frames=1))
    inputs_of_type(prompt, "EgoXSweep").update(lambda_g="0, 3", strength="0, 1")
    inputs_of_type(prompt, "EgoXLabelledGrid")["cell_height"] = SIZE
    grid_frames = check_run(client, prompt, server_base, {"grid"}, 1)["grid"].astype(float)
    grid_cells = cut_grid(grid_frames, SIZE)
    for first_cell, second_cell in combinations(range(4), 2):
        difference = abs(grid_cells[first_cell] - grid_cells[second_cell]).mean()
        assert difference > 0.5, (
            f"cells {first_cell} and {second_cell} are alike: a value did not arrive"
        )


def test_each_further_camera_fills_holes_of_the_prior(client, load_workflow, server_base):
    prompt = shrink_to_one_step(load_workflow("egox_several_cameras"), frames=1)
    grid = check_run(client, prompt, server_base, {"grid"}, 1)["grid"]
    one_camera, two_cameras, four_cameras, ego = cut_grid(grid.astype(float), SIZE)
    black_shares = [
        (prior.mean(-1) < 8).mean() for prior in (one_camera, two_cameras, four_cameras)
    ]
    assert black_shares[0] > black_shares[1] + 0.05 > black_shares[2] + 0.1, black_shares
    assert (ego.mean(-1) < 8).mean() < black_shares[2]


def test_egox_compare_baselines_makes_a_grid(client, load_workflow, server_base):
    prompt = shrink_to_one_step(load_workflow("egox_compare_baselines"), frames=1)
    prompt = use_standin_baselines(prompt)
    frames = check_run(client, prompt, server_base, {"grid"}, 1)["grid"]
    assert all(cell.std() > 3 for cell in cut_grid(frames, SIZE))


def test_egox_scene_3d_saves_gaussians_and_renders_them(client, load_workflow, server_base):
    prompt = load_workflow("egox_scene_3d")
    inputs_of_type(prompt, "EgoXLoadExoVideo").update(frame_count=FRAMES, width=112, height=SIZE)
    inputs_of_type(prompt, "RenderSplat").update(width=SIZE, height=SIZE)
    outcome = run_successfully(client, prompt)
    (scene_file,) = (server_base.output / "egox_scene_3d").glob("scene_*.spz")
    with gzip.open(scene_file) as scene_stream:
        magic, version, count = struct.unpack("<4sII", scene_stream.read(12))
    assert (magic, version) == (b"NGSP", 2)
    assert count > 1000
    pictures = outcome.outputs[node_id_of_type(prompt, "PreviewImage")]["images"]
    assert len(pictures) == FRAMES
    for picture in pictures:
        with Image.open(server_base.temp / picture["subfolder"] / picture["filename"]) as image:
            assert np.asarray(image).std() > 3
