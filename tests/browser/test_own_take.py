"""A new user's own take through egox_basic by hand: uploaded, run by the page's own button, seen in
the page.

The stock loaders read tiny random weights that lie under the real files' names. No stock loader
reads a text or vision encoder that is tiny, so these two are the tests' own nodes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.browser.small_graph import values
from tests.browser.test_demo_in_page import SEEN
from tests.browser.upload_page import LOADER, choose, set_value, told, value
from tools.rigs import standins
from tools.rigs.standin_shapes import lora_shapes
from tools.setup.base_dir import BaseDir

HEIGHT, WIDTH, FRAMES, STEPS = 64, 112, 9, 2
LORA_RANK = 256  # the released one's, which alone may have its name
OWN_LOADERS = {
    "CLIPLoader": ("EgoXTestsLoadTextEncoder", "egox_standin_umt5.safetensors"),
    "CLIPVisionLoader": ("EgoXTestsLoadClipVision", "egox_standin_clip_vision.safetensors"),
}


def with_own_loaders(saved: dict[str, Any]) -> dict[str, Any]:
    """The graph with the tests' text and vision loaders, at whatever depth the stock ones stand."""
    changed = 0
    for graph in (saved, *saved.get("definitions", {}).get("subgraphs", [])):
        for node in graph["nodes"]:
            if node["type"] in OWN_LOADERS:
                node["type"], name = OWN_LOADERS[node["type"]]
                node["inputs"], node["widgets_values"], node["properties"] = [], [name], {}
                changed += 1
    assert changed == 2
    return saved


def place_tiny_weights(base: BaseDir) -> None:
    """Weights under the real files' names."""
    models = base.models
    for made, real in (
        (
            "diffusion_models/egox_standin_wan21_i2v",
            "diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled",
        ),
        ("vae/egox_standin_wan_vae", "vae/wan_2.1_vae"),
    ):
        assert (models / f"{real}.safetensors").is_file(), "egox_basic names other files"
        shutil.copy(models / f"{made}.safetensors", models / f"{real}.safetensors")
    lora = standins.random_tensors(lora_shapes(standins.WAN21_I2V, LORA_RANK), 7)
    standins.write(models / "loras" / "pytorch_lora_weights.safetensors", lora, {"format": "pt"})


@pytest.fixture
def own_files(tmp_path, repo_root) -> list[Path]:
    """Video, depth and meta under names that say nothing."""
    names = {"exo.mp4": "walk.mp4", "depth.npz": "walk_depth.npz", "meta.json": "walk_meta.json"}
    return [
        Path(shutil.copy(repo_root / "sample" / "synthetic_room" / name, tmp_path / own))
        for name, own in names.items()
    ]


def test_an_own_take_runs_through_egox_basic(
    same_page, shipped, browser_server, own_files, uploads
):
    place_tiny_weights(browser_server.base)
    page = same_page(size=(1600, 900))
    page.load(with_own_loaders(shipped("egox_basic")))
    page.show(page.node_bounds(LOADER))
    choose(page, LOADER, *own_files)
    assert "video (49 frames), depth (49 frames), exo camera, ego poses" in told(
        page, LOADER, "Set in"
    )
    assert value(page, LOADER, "file") == "egox/walk/walk.mp4"

    for kind, name, small in values(FRAMES, HEIGHT, WIDTH, STEPS):
        set_value(page, kind, name, small)
    inputs = {node["class_type"]: node["inputs"] for node in page.to_prompt().values()}
    assert inputs["EgoXDepthAlign"]["depth_file"] == "egox/walk/walk_depth.npz"
    assert (
        inputs["EgoXDepthAlign"]["camera_file"]
        == inputs["EgoXEgoPoseInput"]["file"]
        == "egox/walk/walk_meta.json"
    )
    assert not [
        name for name in ("moge_geometry", "da3_geometry") if name in inputs["EgoXDepthAlign"]
    ]
    page.queue()
    page.wait_for_run()
    page.show()
    seen = page.evaluate(SEEN, "ego_")
    assert (seen["width"], seen["height"]) == (HEIGHT, HEIGHT) and seen["deviation"] > 3
    outputs = browser_server.base.output / "egox_basic"
    assert {path.stem.split("_")[0] for path in outputs.iterdir()} == {"ego"}
