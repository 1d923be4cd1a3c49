// The pose editor on Ego Pose Input: registration only, the work is in editor/ (the host imports every
// .js at page load, and no .mjs).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { attachEditor, NODE } from "./editor/node_widget.mjs";

app.registerExtension({
  name: "EgoX.PoseEditor",
  nodeCreated(node) {
    if (node.constructor.comfyClass === NODE) attachEditor(app, api, node);
  },
});
