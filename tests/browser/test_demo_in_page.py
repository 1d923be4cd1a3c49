"""egox_demo by hand: opened, run by clicking the page's own button, and the ego video seen in the
page."""

import pytest

from .small_graph import HEIGHT, make_small
from .test_at_a_glance import CLASSIC, overlaps

# A video element draws into a canvas of the page's own; the file is read by the page, not by us.
SEEN = """async (name) => {
  const find = () => [...document.querySelectorAll('video')].find((v) => (v.currentSrc || v.src ||
    v.querySelector('source')?.src || '').includes(name));
  const later = () => new Promise((done) => setTimeout(done, 100));
  for (let tries = 0; tries < 900 && !find(); tries++) await later();  // the page shows it some time after the run
  const video = find();
  if (!video) return null;
  if (video.readyState < 2) await new Promise((done) => video.addEventListener('loadeddata', done, { once: true }));
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext('2d');
  const spread = () => {
    context.drawImage(video, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0, squares = 0;
    for (let i = 0; i < data.length; i += 4) { sum += data[i]; squares += data[i] * data[i]; }
    const n = data.length / 4;
    return Math.sqrt(squares / n - (sum / n) ** 2);
  };
  // A busy software renderer has a frame's data some time before it has the frame.
  for (let tries = 0; tries < 900 && spread() < 1; tries++) await later();
  // The video is loaded before the page has laid it out.
  for (let tries = 0; tries < 900 && !video.getBoundingClientRect().width; tries++) await later();
  const box = video.getBoundingClientRect();
  return { width: video.videoWidth, height: video.videoHeight, seconds: video.duration,
           deviation: spread(), shown: box.width * box.height };
}"""


# The players on subgraphs: on the outer node, or the inner node's own where the page draws that one
# there.
_PLAYERS = """() => app.graph.nodes.filter((node) => node.isSubgraphNode?.()).map((node) => {
  const inner = node.subgraph.nodes.find((n) => n.inputs.some((s) => s.name === 'egox_preview' && s.link != null));
  const preview = node.egoxPreview ?? inner.egoxPreview, box = preview.element.getBoundingClientRect();
  return { title: node.title, clips: preview.clips.map((clip) => clip.name), shown: box.width * box.height };
})"""


# Nodes that reach below the group that they begin in.
_OUT_OF_GROUP = """() => {
  const { ds, canvas } = app.canvas, top = canvas.getBoundingClientRect().top;
  return app.graph.nodes.filter((node) => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const end = drawn ? (drawn.bottom - top) / ds.scale - ds.offset[1] : node.pos[1] + node.size[1];
    return app.graph.groups.some(({ pos: [x, y], size: [w, h] }) => node.pos[0] > x && node.pos[0] < x + w &&
      node.pos[1] > y && node.pos[1] < y + h && end > y + h);
  }).map((node) => node.title);
}"""


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic nodes", "newer nodes"])
def test_a_click_on_run_shows_the_ego_video(same_page, shipped, is_pinned_host, vue_nodes):
    """While it is sampled on the subgraph's player, then from the file."""
    page = same_page(vue_nodes=vue_nodes, size=(1600, 900))
    page.load(shipped("egox_demo"))
    make_small(page)
    # What the server has sampled before isn't live again.
    page.set_widget("EgoXWanSampler", "seed", 5 + vue_nodes)
    page.queue()
    if is_pinned_host or not vue_nodes:  # the newer nodes of older pages draw no player there
        shown = f"() => {{ const all = ({_PLAYERS})(); return all.every((p) => p.clips.length) && all; }}"
        prior, ego = page.page.wait_for_function(shown).json_value()
        assert (prior["title"], ego["title"]) == ("Scene and prior", "EgoX")
        assert prior["clips"] == ["prior", "coverage", "depth", "exo"] and ego["clips"] == ["ego"]
        assert min(prior["shown"], ego["shown"]) > 1000, "px of the page"
        page.wait_for_run()
        # The result is on Decode Ego Half.
        page.page.wait_for_function(f"() => !({_PLAYERS})()[1].clips.length")
    page.wait_for_run()
    page.show()
    seen = page.evaluate(SEEN, "ego_")
    assert (seen["width"], seen["height"]) == (HEIGHT, HEIGHT)
    assert seen["seconds"] > 0 and seen["shown"] > 100
    assert seen["deviation"] > 5, "one flat colour"
    page.page.wait_for_function(f"() => !({_OUT_OF_GROUP})().length")
    if not vue_nodes:  # what a run shows makes nodes higher
        page.page.wait_for_function(
            "() => app.graph.nodes.find((n) => n.type === 'SaveVideo').size[1] > 250"
        )
        page.page.wait_for_function(f"() => !({overlaps(CLASSIC)}).length")
