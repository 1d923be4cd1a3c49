// Previews on the nodes: registration only, the work is in the modules (the host imports every .js at page load).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { attachPreview, findNode, showOutput } from "./previews/node.mjs";

const NODES = {
  // node -> what the empty preview says (a key of previews/texts/en.mjs)
  EgoXDepthAlign: "emptyDepth",
  EgoXRenderEgoPrior: "emptyPrior",
  EgoXWanSampler: "emptyLive",
  EgoXDecodeEgoHalf: "emptyCompare",
  EgoXAttentionView: "emptyAttention",
};

app.registerExtension({
  name: "EgoX.Previews",
  setup() {
    api.addEventListener("egox.live", ({ detail }) => findNode(app, detail.node)?.egoxPreview?.show(detail.preview));
  },
  nodeCreated(node) {
    const empty = NODES[node.constructor.comfyClass];
    if (empty) attachPreview(app, api, node, empty);
  },
  loadedGraphNode(node) {
    // Switching between open workflows makes the nodes anew; the page still has their results.
    if (node.egoxPreview) setTimeout(() => showOutput(node, app.nodeOutputs?.[String(node.id)]), 0);
  },
});
