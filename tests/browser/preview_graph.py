"""Connect everything in the demo graph that the previews show."""

from typing import Any

from tests.browser.head_graph import BUILD_HELPERS_SCRIPT, add_head
from tests.browser.page import PageUnderTest

_CONNECT_SCRIPT = (
    "() => {"
    + BUILD_HELPERS_SCRIPT
    + """
  const video = by('EgoXLoadExoVideo'), prior = by('EgoXRenderEgoPrior'), sampler = by('EgoXWanSampler');
  const decode = by('EgoXDecodeEgoHalf');
  link(video, 'exo_images', decode, 'exo_images');
  link(prior, 'prior', decode, 'prior');
  link(prior, 'prior', decode, 'ground_truth');  // stands for it: what is shown, not what it is
  const capture = add('EgoXAttentionCapture', sampler.pos[0], 6000);
  const view = add('EgoXAttentionView', decode.pos[0], 6000);
  const slot = sampler.inputs.findIndex((input) => input.name === 'model');
  const before = app.graph.links.get(sampler.inputs[slot].link);
  app.graph.getNodeById(before.origin_id).connect(before.origin_slot, capture, 0);
  capture.connect(0, sampler, slot);
  link(capture, 'attention', view, 'attention');
  link(video, 'exo_images', view, 'exo_images');
  link(decode, 'ego', view, 'ego_images');
  for (const name of ['ego_x', 'ego_y']) view.widgets.find((widget) => widget.name === name).value = 60;
  return app.graph.nodes.length;
}"""
)

# Returns the state of one preview, and the standard deviation of the picture that it shows.
_STATE_SCRIPT = """(type) => {
  const preview = app.graph.nodes.find((node) => node.type === type).egoxPreview;
  const canvas = preview.parts.canvas, box = preview.element.getBoundingClientRect();
  const data = canvas.width && canvas.height
    ? canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data : [];
  let sum = 0, squares = 0, hash = 0;
  for (let i = 0; i < data.length; i += 4) {
    const value = data[i] + data[i + 1] + data[i + 2];
    sum += value; squares += value * value;
    hash = (hash * 31 + value + data[i] * 7) | 0;
  }
  const n = Math.max(data.length / 4, 1);
  const inside = (name) => {
    const part = preview.element.querySelector(`[data-testid="${name}"]`).getBoundingClientRect();
    return part.width > 0 && part.left >= box.left - 1 && part.right <= box.right + 1 && part.bottom <= box.bottom + 1;
  };
  return {
    streams: preview.clips.map((clip) => clip.name), view: preview.view, views: preview.views(),
    frame: preview.number, count: preview.count, message: preview.parts.message.textContent,
    note: preview.parts.note.textContent, wipe: preview.wipeAt, mark: preview.mark,
    deviation: Math.sqrt(Math.max(squares / n - (sum / n) ** 2, 0)), hash,
    shown: [box.width, box.height], cut: ['egox-preview-stage', 'egox-preview-time'].filter((name) => !inside(name)),
  };
}"""


def connect_everything(page: PageUnderTest) -> None:
    add_head(page)
    page.evaluate(_CONNECT_SCRIPT)
    page.settle()


def wait_for_preview(page: PageUnderTest, node: str) -> dict[str, Any]:
    """Wait until a node's preview shows the result of the last run."""
    page.wait_until(
        "(type) => { const p = app.graph.nodes.find((n) => n.type === type).egoxPreview; "
        "const { previews, chosen } = p.items; "
        "return p.clips.length && (!previews.length || p.told === previews[chosen]); }",
        node,
    )
    return read_preview(page, node)


def read_preview(page: PageUnderTest, node: str) -> dict[str, Any]:
    """Read the content of the preview on a type's only node."""
    page.settle(2)
    return page.evaluate(_STATE_SCRIPT, node)


def find_preview_part(page: PageUnderTest, node: str, name: str):
    """Find an element of a preview by its test id, for clicks and keys."""
    page.evaluate(
        "(type) => { for (const node of app.graph.nodes) if (node.egoxPreview) "
        "node.egoxPreview.element.dataset.node = node.type; }",
        node,
    )
    return page.browser_tab.locator(f'.egox-preview[data-node="{node}"] [data-testid="{name}"]')


def choose_view(page: PageUnderTest, node: str, view: str) -> None:
    """Click a tab of a preview to choose the view that it shows."""
    find_preview_part(page, node, "egox-preview-view").locator(f'[data-view="{view}"]').click()
