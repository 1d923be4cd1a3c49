"""Test that the page asks before it runs a graph whose EgoX LoRA is switched off."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tools.setup.base_dir import PACK_NAME

from .small_graph import end_at_latent, place_node, shrink_graph_on_canvas

MUTED, BYPASSED = 2, 4
DIALOG, ON, WITHOUT, CANCEL = (
    f'[data-testid="egox-lora-{name}"]' for name in ("off", "on", "without", "cancel")
)
OFF_SCRIPT = f"""async () => (await (await import('/extensions/{PACK_NAME}/lora_off.js')).loraOff())
  .map(([node]) => node.widgets.find((w) => w.name === 'lora_name').value)"""
_SWITCH_SCRIPT = """([mode, name]) => {
  const nodes = [app.graph, ...app.graph.nodes.map((n) => n.subgraph).filter(Boolean)].flatMap((g) => g.nodes);
  for (const node of nodes.filter((n) => n.type === 'EgoXLoadLora'))
    if (node.widgets.find((w) => w.name === 'lora_name').value.includes(name)) node.mode = mode;
}"""
_LOAD_BEFORE_SCRIPT = """() => {
  const find = (type) => app.graph.nodes.find((n) => n.type === type);
  const host = find('LoraLoaderModelOnly'), own = find('EgoXLoadLora');
  host.connect(0, own, own.findInputSlot('model'));
}"""


def switch_lora(page, mode: int, name: str = "") -> None:
    """Set the mode of the LoRAs whose file name contains a text."""
    page.evaluate(_SWITCH_SCRIPT, [mode, name])


def has_lora(page) -> bool:
    return "EgoXLoadLora" in {node["class_type"] for node in page.to_prompt().values()}


@pytest.mark.parametrize("vue_nodes", [False, True])
def test_a_run_without_its_lora_is_asked_first(open_page, read_shipped, vue_nodes):
    page = open_page(size=(1200, 700), stays_open=True, vue_nodes=vue_nodes)
    page.load(read_shipped("egox_demo"))
    shrink_graph_on_canvas(page, frames=1)
    escape = page.browser_tab.keyboard.press
    for mode, leave in (
        (MUTED, page.browser_tab.locator(CANCEL).click),
        (BYPASSED, lambda: escape("Escape")),
    ):
        switch_lora(page, mode)
        page.queue()
        page.browser_tab.locator(DIALOG, has_text="noise instead of the ego view").wait_for()
        leave()
        page.browser_tab.locator(DIALOG).wait_for(state="detached")
        page.browser_tab.wait_for_timeout(500)
        assert not page.evaluate("() => window.egoxSeen.length") and not has_lora(page)
    if vue_nodes:
        return
    end_at_latent(page)
    page.queue()
    page.browser_tab.locator(ON).click()
    page.wait_for_run()
    assert has_lora(page), "switched on"
    switch_lora(page, BYPASSED)
    page.queue()
    page.browser_tab.locator(WITHOUT).click()
    page.wait_for_run()
    assert "noise" in page.wait_for_node("EgoXWanSampler")["text"][0]
    page.set_widget("EgoXWanSampler", "steps", 1)
    page.queue()
    page.wait_for_run()  # asked once


def test_other_forms_of_a_lora_are_not_asked_about(
    open_page, read_shipped, read_unpacked, browser_server
):
    page = open_page(size=(1600, 900), stays_open=True)
    page.load(read_shipped("egox_fast"))
    switch_lora(page, BYPASSED, "pytorch_lora")
    (lora_name,) = page.evaluate(OFF_SCRIPT)
    assert lora_name.startswith("pytorch_lora_weights"), "the distilled one alone"

    model_folder = browser_server.base.models / "diffusion_models"
    saved_graph = json.dumps({"3": {"class_type": "EgoXLoadLora"}})
    metadata_of_file = {
        "merged": {"egox.merged": "1", "egox.merged_from": "base + 1 x lora"},
        "saved": {"prompt": saved_graph},
    }
    page.load(read_shipped("egox_demo"))
    switch_lora(page, BYPASSED)
    assert len(page.evaluate(OFF_SCRIPT)) == 1
    for name, metadata in metadata_of_file.items():
        model_file = model_folder / f"{name}.safetensors"
        save_file({"x": torch.zeros(1)}, model_file, metadata)
        try:
            page.set_widget("UNETLoader", "unet_name", model_file.name)
            assert page.evaluate(OFF_SCRIPT) == [], name
        finally:
            model_file.unlink()
    page.load(read_unpacked("egox_demo"))
    switch_lora(page, BYPASSED)
    assert len(page.evaluate(OFF_SCRIPT)) == 1
    place_node(page, "LoraLoaderModelOnly", {"model": ("UNETLoader", "MODEL")})
    page.evaluate(_LOAD_BEFORE_SCRIPT)
    assert page.evaluate(OFF_SCRIPT) == [], "ComfyUI's own loader"
