"""The nodes between those of others: frames from the host's nodes, the scene and the head in its
3-D view, the prior's empty part in another colour."""

import shutil

import numpy as np
from PIL import Image

from tests.browser.editor_page import NODE, editor_graph
from tests.browser.small_graph import FRAMES, HEIGHT, WIDTH

# Of each new node: type and widgets; then links of types and slots by name, through the page's own.
_COMPOSE = """([added, links]) => {
  for (const [type, widgets] of Object.entries(added)) {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    for (const [name, value] of Object.entries(widgets)) node.widgets.find((w) => w.name === name).value = value;
  }
  const of = (type) => app.graph.nodes.find((n) => n.type === type);
  return links.filter(([from, output, to, input]) => {
    const target = of(to);
    const slot = target.inputs.findIndex((i) => i.name === input);
    return !of(from).connect(of(from).outputs.findIndex((o) => o.name === output), target, slot);
  });
}"""
VIEW = "PreviewPointCloud"


def test_frames_of_others_the_host_s_3d_view_and_its_compositing(
    same_page, unpacked, browser_server, repo_root
):
    base = browser_server.base
    shutil.copy(repo_root / "sample" / "synthetic_room" / "exo.mp4", base.input / "other.mp4")
    page = same_page(size=(1400, 900), webgl=True)
    page.load(editor_graph(unpacked("egox_demo")))
    added = {
        "LoadVideo": {"file": "other.mp4"},
        "GetVideoComponents": {},
        "ImageFromBatch": {"length": FRAMES},
        "InvertMask": {},
        "EmptyImage": {"color": 0xFF00FF},
        "ImageCompositeMasked": {"resize_source": True},
        VIEW: {},
        "SaveImage": {"filename_prefix": "composed/prior"},
    }
    loader, scene, prior = "EgoXLoadExoVideo", "EgoXBuildScene", "EgoXRenderEgoPrior"
    marked = "ImageCompositeMasked"
    links = [
        ("LoadVideo", "VIDEO", "GetVideoComponents", "video"),
        ("GetVideoComponents", "images", "ImageFromBatch", "image"),
        ("GetVideoComponents", "images", loader, "images"),
        ("GetVideoComponents", "fps", loader, "images_fps"),
        ("ImageFromBatch", "IMAGE", scene, "exo_images"),  # twice as large as the depth
        (scene, "ply", VIEW, "model_3d"),
        (NODE, "camera_info", VIEW, "camera_info"),
        (prior, "coverage", "InvertMask", "mask"),
        ("InvertMask", "MASK", marked, "mask"),
        (prior, "prior", marked, "destination"),
        ("EmptyImage", "IMAGE", marked, "source"),
        (marked, "IMAGE", "SaveImage", "images"),
    ]
    assert page.evaluate(_COMPOSE, [added, links]) == [], "links that the page refuses"
    for kind, name, value in (
        (loader, "frame_count", FRAMES),
        (loader, "height", HEIGHT),
        (loader, "width", WIDTH),
        (loader, "file", "gone.mp4"),
        ("EgoXDepthAlign", "depth_file", "sample/synthetic_room/depth.npz"),
        (NODE, "source", "keyframes"),
    ):
        page.set_widget(kind, name, value)
    page.queue()
    page.wait_for_run()
    cloud = page.wait_for_node(VIEW)["result"]
    assert (base.temp / cloud[0]).stat().st_size > 50_000 and cloud[1]["position"], cloud
    saved = page.wait_for_node("SaveImage")["images"]
    assert len(saved) == FRAMES
    picture = np.asarray(Image.open(base.output / "composed" / saved[0]["filename"]))
    holes = (picture == (255, 0, 255)).all(-1)
    assert 0.02 < holes.mean() < 0.98 and picture[~holes].std() > 10
