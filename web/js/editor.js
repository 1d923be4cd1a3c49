// The pose editor on Ego Pose Input: registration only, the work is in editor/ (the host imports
// every .js at page load, and no .mjs).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { attachEditor, showResult } from "./editor/node_widget.mjs";
import { followVideo, NODE, watchVideo } from "./editor/own_video.mjs";
import { nodesOfKind } from "./graph_change.mjs";
import { sayerOf } from "./page_texts.mjs";
import { LIFE, toast } from "./toasts.mjs";

const isPose = (node) => node.constructor.comfyClass === NODE;
const told = ({ title }, video) =>
  toast(app, "info", `${title}: ${sayerOf("editor")("kept", { video })}`, LIFE);

app.registerExtension({
  name: "EgoX.PoseEditor",
  nodeCreated(node) {
    if (isPose(node)) attachEditor(app, api, node);
    watchVideo(app, api, node, told);
  },
  // As in previews.js: of a workflow that is switched back to, the page still has the results.
  loadedGraphNode(node) {
    if (isPose(node)) setTimeout(() => showResult(node, app.nodeOutputs?.[node.id]), 0);
  },
  afterConfigureGraph() {
    for (const node of nodesOfKind(app, NODE)) followVideo(app, api, node);
  },
});
