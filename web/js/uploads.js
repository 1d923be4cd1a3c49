// Files of the user's own onto the nodes that read them: registration only, the work is in uploads/ (the host imports
// every .js at page load).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { sayerOf } from "./page_texts.mjs";
import { nameLimit } from "./uploads/limit.mjs";
import { NODES } from "./uploads/place.mjs";
import { attachUpload } from "./uploads/widget.mjs";

app.registerExtension({
  name: "EgoX.Uploads",
  setup() {
    nameLimit(app, api, sayerOf("uploads"));
  },
  nodeCreated(node) {
    if (NODES.includes(node.constructor.comfyClass)) attachUpload(app, api, node, sayerOf("uploads"));
  },
});
