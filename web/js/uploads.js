// Files of the user's own onto the nodes that read them: registration only, the work is in uploads/
// (the host imports every .js at page load).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { LOADER, nodesOfKind, onChange } from "./graph_change.mjs";
import { sayerOf } from "./page_texts.mjs";
import { LIFE, toast } from "./toasts.mjs";
import { nameLimit } from "./uploads/limit.mjs";
import { DEPTH, NODES } from "./uploads/place.mjs";
import { endTexts, noteTexts } from "./uploads/texts.mjs";
import { attachUpload } from "./uploads/widget.mjs";

app.registerExtension({
  name: "EgoX.Uploads",
  setup() {
    nameLimit(app, api, sayerOf("uploads"));
  },
  afterConfigureGraph() {
    noteTexts(app);
  },
  nodeCreated(node) {
    if (node.constructor.comfyClass === LOADER) onChange(node, ["file"], tellEnded);
    const showTrims = () => nodesOfKind(app, LOADER).forEach((loader) => loader.egoxTrim?.());
    if (node.constructor.comfyClass === DEPTH) onChange(node, ["depth_file"], showTrims);
    if (NODES.includes(node.constructor.comfyClass))
      attachUpload(app, api, node, sayerOf("uploads"));
  },
});

function tellEnded() {
  const names = endTexts(app);
  if (names.length)
    toast(app, "info", sayerOf("uploads")("textsEnded", { names: names.join(", ") }), LIFE);
}
