"""Add the node Estimate Head Pose to a graph, with a detector that returns known points."""

from tests.browser.page import PageUnderTest

HEAD_NODE, DETECTOR_NODE = "EgoXEstimateHeadPose", "EgoXTestsSDPoseKeypointExtractor"

BUILD_HELPERS_SCRIPT = """
  const by = (type) => app.graph.nodes.find((node) => node.type === type);
  const link = (from, output, to, input) => from.connect(
    from.outputs.findIndex((slot) => slot.name === output), to, to.inputs.findIndex((slot) => slot.name === input));
  const add = (type, x, y) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [x, y];
    return node;
  };
"""
"""Script functions that find the only node of a type, link two nodes by socket names, and add a
node at a position."""

_ADD_SCRIPT = (
    "([head, detector]) => {"
    + BUILD_HELPERS_SCRIPT
    + """
  const video = by('EgoXLoadExoVideo'), depth = by('EgoXDepthAlign'), pose = by('EgoXEgoPoseInput');
  const loader = add('EgoXTestsCheckpointLoaderSimple', 0, 4200), points = add(detector, 400, 4200);
  const estimate = add(head, 800, 4200);
  loader.connect(0, points, points.inputs.findIndex((slot) => slot.name === 'model'));
  loader.connect(2, points, points.inputs.findIndex((slot) => slot.name === 'vae'));
  link(video, 'exo_images', points, 'image');
  points.connect(0, estimate, estimate.inputs.findIndex((slot) => slot.name === 'pose_keypoints'));
  for (const name of ['exo_images', 'frames']) link(video, name, estimate, name);
  link(depth, 'depth', estimate, 'depth');
  link(estimate, 'trajectory', pose, 'estimated');
}"""
)


def add_head(page: PageUnderTest) -> None:
    """Add Estimate Head Pose and a detector with known points to the page's graph."""
    page.evaluate(_ADD_SCRIPT, [HEAD_NODE, DETECTOR_NODE])
    page.settle()
