"""Every workflow that ships: sound as a file, tidy, and run through the real server with stand-in
weights."""

import gzip
import json
import re
import struct
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from egox_core.safe_files import read_json
from tests.flat_graph import nodes_of
from tests.paths import ROOT
from tools.rigs import standins
from tools.rigs.comfy_page import read_workflow, shipped_workflows
from tools.setup.api_client import ApiClient, read_prompt
from tools.setup.base_dir import BaseDir

from .prompts import SIZE, id_of, of_type, ran, saved_videos, small as smaller, with_standins

NAMES = list(shipped_workflows(ROOT))
CARDS = {path.stem for path in (ROOT / "workflows").glob("*.json")}
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}
LONG = ("egox_long", "egox_one_video", "egox_robot_episode")
WITHOUT_TEXT = (
    "egox_demo",
    "egox_demo_episode",
    "egox_scene_3d",
    "egox_several_cameras",
    "egox_stereo",
)
TITLE = 30  # of a node, above its place
BARS, SMALL_PAGE = (64, 90), (1024, 768)
"""Margins that the page's bars cover at its left and top, and the page that shows the notes whole, in px."""
FRAMES, STEPS = 5, 1  # that a graph runs is the question here, not what it makes


def read(name: str) -> dict[str, Any]:
    return read_workflow(shipped_workflows(ROOT)[name])


def small(prompt: dict[str, Any]) -> dict[str, Any]:
    return smaller(prompt, frames=FRAMES, steps=STEPS)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 0, 1), "square pixels"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def check_run(
    client: ApiClient, prompt: dict[str, Any], base: BaseDir, videos: set[str]
) -> dict[str, np.ndarray]:
    """Run a graph, and return the frames of its saved videos by name."""
    outcome = ran(client, prompt)
    files = saved_videos(outcome, prompt, base)
    saved = {name: frames_of(path) for name, path in files.items()}
    for path in files.values():
        check_private(path, base)
    assert set(saved) == videos
    for name, frames in saved.items():
        assert len(frames) == FRAMES and frames.std() > 3, (
            f"{name}: {frames.shape}, one flat colour or too short"
        )
    return saved


@pytest.mark.parametrize(
    "path", [*shipped_workflows(ROOT).values(), *BLUEPRINTS], ids=lambda path: path.stem
)
def test_each_saved_value_lands_on_its_input(path, object_info):
    """A graph keeps its widgets' values without names, in the order in which the page makes them."""
    prompt = {} if path in BLUEPRINTS else read_prompt(path.stem)
    sent = {number.rpartition(":")[2]: node["inputs"] for number, node in prompt.items()}
    for node in nodes_of(read_workflow(path)):
        if not node["type"].startswith("EgoX"):
            continue
        values = iter(node["widgets_values"])
        specs = object_info[node["type"]]["input"]
        for name, spec in (specs.get("required", {}) | specs.get("optional", {})).items():
            where, options = f"{node['type']}.{name}", spec[1] if len(spec) > 1 else {}
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            if kind not in WIDGETS or options.get("forceInput"):
                continue
            # An input that is newer than the graph keeps its default.
            value = next(values, options.get("default"))
            assert isinstance(value, WIDGETS[kind]), where
            assert kind == "BOOLEAN" or not isinstance(value, bool), where
            if kind == "COMBO":
                assert value in options["options"] or "." in value, where  # a file
            elif "min" in options:
                assert options["min"] <= value <= options["max"], where
            if options.get("control_after_generate"):
                assert next(values) in ("fixed", "randomize"), where
            sent_value = sent.get(str(node["id"]), {}).get(name, value)
            assert sent_value == value or isinstance(sent_value, list), where
        assert set(values) <= {"image"}, (
            f"{node['type']}: values too many"
        )  # of the upload's button


def test_the_blueprint_egox_is_the_subgraph_of_egox_basic():
    """Also its group *Faster*, bypassed."""
    saved = (read("egox_basic"), read_workflow(ROOT / "subgraphs" / "EgoX.json"))
    parts = ("type", "mode", "title", "pos", "size", "widgets_values")
    graphs = [
        next(each for each in one["definitions"]["subgraphs"] if each["name"] == "EgoX")
        for one in saved
    ]
    nodes, rows = (
        [[{part: each.get(part) for part in keys} for each in graph[kind]] for graph in graphs]
        for kind, keys in (("nodes", parts), ("inputs", ("name", "label")))
    )
    assert nodes[0] == nodes[1] and rows[0] == rows[1]
    assert graphs[0]["groups"] == graphs[1]["groups"]


@pytest.mark.parametrize("name", NAMES)
def test_a_note_stands_top_left_and_is_the_first_to_be_seen(name):
    """In the view that the graph is saved with, on a small page."""
    saved = read(name)
    boxes = {True: [], False: []}
    for node in saved["nodes"]:
        (x, y), (w, h) = node["pos"], node["size"]
        boxes[node["type"] == "MarkdownNote"].append((x, y - TITLE, w, h + TITLE))
    (note,), others = boxes[True], boxes[False]
    groups = [tuple(group["bounding"]) for group in saved["groups"]]
    x, y, w, h = note
    assert y <= min(box[1] for box in others), "nothing is higher"
    assert not [box for box in others if box[0] < x + w and box[1] < y + h], "nor further left"
    scale, (right, down) = saved["extra"]["ds"]["scale"], saved["extra"]["ds"]["offset"]
    if name in CARDS:  # opened out of a form, it is fitted into three quarters of the page
        corners = [(x, y, x + w, y + h) for x, y, w, h in (note, *others, *groups)]
        left, top, *_ = map(min, zip(*corners, strict=True))
        *_, rightmost, bottom = map(max, zip(*corners, strict=True))
        fitted = 0.75 * min(1440 / (rightmost - left + 20), 900 / (bottom - top + 20))
        scale_seen = min(scale, fitted)
    else:
        scale_seen = scale
    assert scale_seen * 14 >= 8, "below 8 px the host draws no text"
    assert (x + right) * scale >= BARS[0] and (x + w + right) * scale <= SMALL_PAGE[0]
    assert (y + down) * scale >= BARS[1] and (y + h + down) * scale <= SMALL_PAGE[1]


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_card_ends_in_one_colour(name):
    """A page of 1280 px cuts its lowest part, through letters if there are some."""
    with Image.open(ROOT / "workflows" / f"{name}.jpg") as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=float)
    assert np.ptp(pixels[-32:], axis=(0, 1)).max() < 24


def check_private(path: Path, base: BaseDir) -> None:
    """Check that no file for other people tells a folder of this machine, or a file's size and
    time."""
    content = path.read_bytes().replace(b"\\\\", b"\\")
    folders_told = [
        folder for folder in (base.root, ROOT, Path.home()) if str(folder).encode() in content
    ]
    assert not folders_told, f"{path.name} tells {folders_told}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_tells_nothing_of_its_maker(client, server_base, name):
    """All of the graph is in the tags of a picture and a video, whatever part of it ran."""
    prompt = with_standins(read_prompt(name))
    grey = {"width": 32, "height": 32, "batch_size": 2, "color": 0x808080}
    prompt["grey"] = {"class_type": "EmptyImage", "inputs": grey}
    video = {"images": ["grey", 0], "fps": 30.0}
    saved = {"filename_prefix": f"private/{name}"}
    as_mp4 = {"video": ["video", 0], "format": "mp4", "codec": "h264", **saved}
    prompt["video"] = {"class_type": "CreateVideo", "inputs": video}
    prompt["mp4"] = {"class_type": "SaveVideo", "inputs": as_mp4}
    prompt["png"] = {"class_type": "SaveImage", "inputs": {"images": ["grey", 0], **saved}}
    request = {"prompt": prompt, "partial_execution_targets": ["mp4", "png"]}
    run = client.post("/prompt", request)["prompt_id"]
    while not client.get(f"/history/{run}"):
        time.sleep(0.05)
    saved_files = (server_base.output / "private").glob(f"{name}_0*")
    files = {file.suffix: file for file in saved_files}
    for file in files.values():
        check_private(file, server_base)
    with Image.open(files[".png"]) as picture, av.open(str(files[".mp4"])) as film:
        tags = [json.loads(picture.info["prompt"]), json.loads(film.metadata["prompt"])]
    marks = {
        mark
        for node in tags[0].values()
        if node["class_type"].startswith("EgoX") and "is_changed" in node
        for value in node["is_changed"]
        for mark in re.split("[\n/]", value)
    }
    assert tags[0] == tags[1] and marks > {""}
    # After the bar: how often a page asked for a scene that had been dropped.
    assert all(re.fullmatch(r"([0-9a-f]{32})?(\|\d+)?", mark) for mark in marks), marks


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_encoded_as_released(name):
    """Cut to 512 tokens and with an empty negative prompt, wherever there is a text encoder."""
    prompt = read_prompt(name)
    encoder = [
        node_id
        for node_id, node in prompt.items()
        if node["class_type"] == "CLIPLoader" and node["inputs"]["type"] == "wan"
    ]
    if not encoder:
        assert name in WITHOUT_TEXT
        return
    conditioning = of_type(
        prompt,
        "EgoXSampleLong" if name in LONG else "EgoXConditioning",
    )
    text = of_type(prompt, "EgoXText")
    assert text["clip"] == [encoder[0], 0] and text["negative"] == ""
    text_id = id_of(prompt, "EgoXText")
    assert (conditioning["positive"], conditioning["negative"]) == ([text_id, 0], [text_id, 1])


def test_a_long_video_chunk_after_chunk_is_an_episode(client, load_workflow, server_base):
    prompt = with_standins(load_workflow("egox_robot_episode"))
    part = {"start_frame": 15, "frame_count": 17}
    of_type(prompt, "EgoXLoadExoVideo").update(width=112, height=SIZE, **part)
    of_type(prompt, "EgoXSampleLong").update(length=9, steps=STEPS)
    assert of_type(prompt, "EgoXSampleLong")["continue_motion_max_frames"] == 5
    outcome = ran(client, prompt)
    (ego,) = saved_videos(outcome, prompt, server_base).values()
    assert frames_of(ego).shape == (17, SIZE, SIZE, 3) and frames_of(ego).std() > 3
    assert not list(server_base.root.rglob("chunks/*.npy")), "the video is whole"
    robots = server_base.output / "egox_robots" / "my_set"
    for path in filter(Path.is_file, robots.rglob("*")):
        check_private(path, server_base)
    info = read_json(robots / "meta" / "info.json")
    assert (info["total_episodes"], info["total_frames"]) == (1, 17)


def with_baselines(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace the models of a graph's loaders by stand-ins of the form that each loader's file has."""
    forms = {
        "vace": standins.TESTS_ONLY["vace"].name,
        "fun_control": standins.TESTS_ONLY["fun_control"].name,
    }
    forms_by_node = {
        node_id: form
        for node_id, node in prompt.items()
        for word, form in forms.items()
        if node["class_type"] == "UNETLoader" and word in node["inputs"]["unet_name"]
    }
    prompt = with_standins(prompt)
    for node_id, form in forms_by_node.items():
        prompt[node_id]["inputs"]["unet_name"] = form
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = STEPS
    return prompt


def test_basic_with_stand_in_loaders(client, load_workflow, server_base):
    prompt = with_standins(small(load_workflow("egox_basic")))
    check_run(client, prompt, server_base, {"ego"})
    assert not ran(client, prompt).ran, "nothing changed, so nothing runs"


def test_fast_runs_with_little_memory_too(client, load_workflow, server_base):
    prompt = with_standins(small(load_workflow("egox_fast")))
    assert of_type(prompt, "EgoXConditioning")["low_memory"] is False
    of_type(prompt, "EgoXConditioning")["low_memory"] = True
    check_run(client, prompt, server_base, {"ego"})


def test_any_video_without_the_models_of_its_geometry(client, load_workflow, server_base):
    """MoGe, Depth Anything 3 and SAM3 can't be had here: without them, the depth comes from beside
    the sample's video."""
    prompt = with_standins(small(load_workflow("egox_from_any_video")))
    absent = re.compile("LoadMoGe|MoGe|LoadDA3|DA3|SAM3|CheckpointLoaderSimple|CLIPTextEncode")
    gone = {name for name, node in prompt.items() if absent.match(node["class_type"])}
    prompt = {
        name: {**node, "inputs": {k: v for k, v in node["inputs"].items() if not loose(v, gone)}}
        for name, node in prompt.items()
        if name not in gone
    }
    assert of_type(prompt, "EgoXEgoPoseInput")["source"] == "keyframes"
    check_run(client, prompt, server_base, {"ego"})


def loose(value: Any, gone: set[str]) -> bool:
    """Check for a link from a removed node."""
    return isinstance(value, list) and value[0] in gone


def cells_of(frames: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut the pictures out of a grid of two by two, without the strips of their names."""
    assert frames.shape[2] == 2 * size + 4
    strip = (frames.shape[1] - 4) // 2 - size
    return [
        frames[:, row * (size + strip + 4) + strip :][:, :size, column * (size + 4) :][:, :, :size]
        for row in (0, 1)
        for column in (0, 1)
    ]


def test_the_sweep_makes_one_grid(client, load_workflow, server_base):
    prompt = with_standins(small(load_workflow("egox_compare")))
    of_type(prompt, "EgoXSweep").update(lambda_g="0, 3", strength="0, 1")
    of_type(prompt, "EgoXLabelledGrid")["cell_height"] = SIZE
    frames = check_run(client, prompt, server_base, {"grid"})["grid"].astype(float)
    cells = cells_of(frames, SIZE)
    for one, other in combinations(range(4), 2):
        difference = abs(cells[one] - cells[other]).mean()
        assert difference > 0.5, f"cells {one} and {other} are alike: a value did not arrive"


def test_several_cameras_show_more_than_one(client, load_workflow, server_base):
    """Each camera fills holes of the priors before."""
    prompt = small(load_workflow("egox_several_cameras"))
    grid = check_run(client, prompt, server_base, {"grid"})["grid"]
    one, two, four, ego = cells_of(grid.astype(float), SIZE)
    black = [(prior.mean(-1) < 8).mean() for prior in (one, two, four)]
    assert black[0] > black[1] + 0.05 > black[2] + 0.1, black
    assert (ego.mean(-1) < 8).mean() < black[2]


def test_both_eyes_are_saved(client, load_workflow, server_base):
    prompt = small(load_workflow("egox_stereo"))
    of_type(prompt, "EgoXSecondEye")["eye_px"] = 128
    (frames,) = check_run(client, prompt, server_base, {"ego_180_LR"}).values()
    assert frames.shape == (FRAMES, 128, 256, 3)


def test_the_baselines_beside_each_other(client, load_workflow, server_base):
    prompt = with_baselines(small(load_workflow("egox_compare_baselines")))
    frames = check_run(client, prompt, server_base, {"grid"})["grid"]
    assert all(cell.std() > 3 for cell in cells_of(frames, SIZE))


def test_attention_is_drawn(client, load_workflow, server_base):
    prompt = with_standins(small(load_workflow("egox_attention")))
    of_type(prompt, "EgoXAttentionCapture").update(step=0, block=0)
    of_type(prompt, "EgoXAttentionView").update(ego_x=30, ego_y=30, frame=0)
    outcome = ran(client, prompt)
    (view,) = saved_videos(outcome, prompt, server_base).values()
    assert frames_of(view).std() > 3


def test_the_scene_is_saved_as_gaussians_and_drawn(client, load_workflow, server_base):
    prompt = load_workflow("egox_scene_3d")
    of_type(prompt, "EgoXLoadExoVideo").update(frame_count=FRAMES, width=112, height=SIZE)
    of_type(prompt, "RenderSplat").update(width=SIZE, height=SIZE)
    outcome = ran(client, prompt)
    (file,) = (server_base.output / "egox_scene_3d").glob("scene_*.spz")
    with gzip.open(file) as content:
        magic, version, count = struct.unpack("<4sII", content.read(12))
    assert (magic, version) == (b"NGSP", 2) and count > 1000
    pictures = outcome.outputs[id_of(prompt, "PreviewImage")]["images"]
    assert len(pictures) == FRAMES
    for picture in pictures:
        with Image.open(server_base.temp / picture["subfolder"] / picture["filename"]) as image:
            assert np.asarray(image).std() > 3
