// Previews on the nodes: registration only, the work is in the modules (the host imports every .js at page load).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { attachPreview, findNode, showKept, showOutput } from "./previews/node.mjs";

const NODES = {
  // node -> what its preview is of: "empty" and "label" before it make keys of previews/texts/en.mjs
  EgoXDepthAlign: "Depth",
  EgoXEstimateHeadPose: "Head",
  EgoXRenderEgoPrior: "Prior",
  EgoXWanSampler: "Live",
  EgoXDecodeEgoHalf: "Compare",
  EgoXAttentionView: "Attention",
};

app.registerExtension({
  name: "EgoX.Previews",
  setup() {
    api.addEventListener("egox.live", ({ detail }) => findNode(app, detail.node)?.egoxPreview?.show(detail.preview));
  },
  nodeCreated(node) {
    const subject = NODES[node.constructor.comfyClass];
    if (subject) attachPreview(app, api, node, subject);
  },
  loadedGraphNode(node) {
    // Switching between open workflows makes the nodes anew; the page still has their results.
    if (!node.egoxPreview) return;
    showKept(app, node);
    setTimeout(() => showOutput(node, app.nodeOutputs?.[String(node.id)]), 0);
  },
});
