// Files of the user's own onto the nodes that read them: registration only, the work is in uploads/ (the host imports
// every .js at page load).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { languageOf, sayer } from "./sayer.mjs";
import { nameLimit } from "./uploads/limit.mjs";
import { NODES } from "./uploads/place.mjs";
import { TEXTS } from "./uploads/texts/all.mjs";
import { attachUpload } from "./uploads/widget.mjs";

app.registerExtension({
  name: "EgoX.Uploads",
  setup() {
    nameLimit(app, api, sayer(TEXTS, languageOf(app)));
  },
  nodeCreated(node) {
    if (NODES.includes(node.constructor.comfyClass)) attachUpload(app, api, node, sayer(TEXTS, languageOf(app)));
  },
});
