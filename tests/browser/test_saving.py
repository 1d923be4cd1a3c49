"""*Save* in a player: what is shown becomes a video in the output folder, with the workflow of the
run that made it."""

import json
from pathlib import Path

import numpy as np
import pytest

from .small_graph import FRAMES, HEIGHT, make_small

SEED = 71

# The prior's player on its subgraph is marked for clicks; a frame of it as numbers.
_MARK = """() => {
  const node = app.graph.nodes.find((n) => n.title === 'Scene and prior');
  const preview = node.egoxPreview ?? node.subgraph.nodes.find((n) => n.type === 'EgoXRenderEgoPrior').egoxPreview;
  preview.element.dataset.node = 'prior';
  window.egoxPlayer = preview;
  return preview.clips.length;
}"""
_FRAME = """(number) => {
  const [image, x, y, w, h] = egoxPlayer.clip('prior').frame(number);
  const context = Object.assign(document.createElement('canvas'), { width: w, height: h }).getContext('2d');
  context.drawImage(image, x, y, w, h, 0, 0, w, h);
  return [...context.getImageData(0, 0, w, h).data];
}"""


def save(page, output: Path) -> tuple[Path, str]:
    """The file that a click on *Save* writes, and what the player says of it."""
    said = '[data-node="prior"] [data-testid="egox-preview-about"]'
    page.page.locator('[data-node="prior"] [data-testid="egox-preview-save"]').click()
    page.page.wait_for_function(
        "(said) => /aved: /.test(document.querySelector(said).textContent)", arg=said
    )
    text = page.page.locator(said).inner_text()
    return output.parent / text.partition(": ")[2].partition(",")[0], text


def read_video(path: Path) -> tuple[np.ndarray, float, dict[str, str]]:
    """Frames [T, H, W, 3] of 0...255, frames a second, what the file says of itself."""
    import av

    with av.open(str(path)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
        return frames, float(file.streams.video[0].average_rate), dict(file.metadata)


def test_the_prior_of_a_subgraph_is_saved(open_page, shipped, browser_server):
    page = open_page(vue_nodes=True, size=(1600, 900))
    page.load(shipped("egox_demo"))
    make_small(page)
    page.set_widget("EgoXWanSampler", "seed", SEED)
    # Drawn in this run, as no test before it has: a prior that was kept is of an earlier seed.
    page.set_widget("EgoXRenderEgoPrior", "dynamic", "keep")
    page.queue()
    page.wait_for_run()
    page.page.wait_for_function(_MARK)
    page.set_widget(
        "EgoXWanSampler", "seed", SEED + 1
    )  # the file's graph is the run's, not the page's

    path, said = save(page, browser_server.base.output)
    assert (
        path.name.startswith("prior_")
        and path.parent.name == "egox_previews"
        and "workflow" not in said
    )
    frames, fps, about = read_video(path)
    assert frames.shape == (FRAMES, HEIGHT, HEIGHT, 3)
    assert fps == pytest.approx(page.evaluate("() => egoxPlayer.fps"), rel=0.01)
    shown = np.array(page.evaluate(_FRAME, 2)).reshape(HEIGHT, HEIGHT, 4)[..., :3]
    assert shown.std() > 5 and np.abs(frames[2] - shown.astype(float)).mean() < 8, "two lossy steps"
    graph, prompt = json.loads(about["workflow"]), json.loads(about["prompt"])
    assert {inside["name"] for inside in graph["definitions"]["subgraphs"]} == {
        "Scene and prior",
        "EgoX",
    }
    assert [
        node["inputs"]["seed"] for node in prompt.values() if node["class_type"] == "EgoXWanSampler"
    ] == [SEED]

    page.page.locator('[data-node="prior"] [data-view="side"]').click()
    frame = page.evaluate("() => egoxPlayer.number")
    path, _ = save(page, browser_server.base.output)
    frames, _, _ = read_video(path)
    assert path.name.startswith("side_") and len(frames) == FRAMES and frames.std() > 5
    assert page.evaluate("() => egoxPlayer.number") == frame, "the player stays where it was"
