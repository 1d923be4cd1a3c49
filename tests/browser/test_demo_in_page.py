"""egox_demo by hand: opened, run by clicking the page's own button, and the ego video seen in the
page."""

import pytest

from .small_graph import HEIGHT, make_small

# A video element draws into a canvas of the page's own; the file is read by the page, not by us.
SEEN = """async (name) => {
  const find = () => [...document.querySelectorAll('video')].find((v) => (v.currentSrc || v.src ||
    v.querySelector('source')?.src || '').includes(name));
  const later = () => new Promise((done) => setTimeout(done, 100));
  for (let tries = 0; tries < 100 && !find(); tries++) await later();  // the page shows it some time after the run
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
  for (let tries = 0; tries < 100 && spread() < 1; tries++) await later();
  // The video is loaded before the page has laid it out.
  for (let tries = 0; tries < 100 && !video.getBoundingClientRect().width; tries++) await later();
  const box = video.getBoundingClientRect();
  return { width: video.videoWidth, height: video.videoHeight, seconds: video.duration,
           deviation: spread(), shown: box.width * box.height };
}"""


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic nodes", "newer nodes"])
def test_the_ego_video_appears_after_a_click_on_run(same_page, shipped, vue_nodes):
    page = same_page(vue_nodes=vue_nodes)
    page.load(shipped("egox_demo"))
    make_small(page)
    page.queue()
    page.wait_for_run()
    page.show()
    for name in ("ego",):
        page.page.wait_for_function(
            "(name) => [...document.querySelectorAll('video')].some((v) => (v.currentSrc || "
            "v.src || v.querySelector('source')?.src || '').includes(name))",
            arg=f"{name}_",
            timeout=30_000,
        )
        seen = page.evaluate(SEEN, f"{name}_")
        assert (seen["width"], seen["height"]) == (HEIGHT, HEIGHT), name
        assert seen["seconds"] > 0 and seen["shown"] > 100, name
        assert seen["deviation"] > 5, f"{name} is one flat colour"
