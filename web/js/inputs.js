// How the inputs of our nodes show: registration only, the work is in inputs/ (the host imports
// every .js at page load).
import { app } from "../../scripts/app.js";
import { findWidget, LOADER, nodesOfKind } from "./graph_change.mjs";
import { hideAdvanced } from "./inputs/advanced.mjs";
import { helpOnCanvas, helpOnRows } from "./inputs/help.mjs";
import { nameLinkedTexts } from "./inputs/linked_text.mjs";
import { colourNotes } from "./inputs/notes.mjs";
import { openAll, openConfigured, openSliders, takeTyped } from "./inputs/slider.mjs";
import { sayerOf, translateLabels } from "./page_texts.mjs";

app.registerExtension({
  name: "EgoX.Inputs",
  setup() {
    takeTyped(app);
    helpOnRows(app);
  },
  afterConfigureGraph() {
    const isOurs = nodesOfKind(app, LOADER).length > 0;
    colourNotes(isOurs);
    for (const node of app.graph.nodes) {
      openAll(node);
      if (isOurs) nameLinkedTexts(node);
      translateLabels(node);
      // Where a form has a note among its rows.
      if (isOurs && node.type === "MarkdownNote") findWidget(node, "text").label = node.title;
    }
  },
  nodeCreated(node) {
    if (node.isSubgraphNode?.()) {
      openConfigured(node);
      helpOnCanvas(node);
    }
    if (!node.constructor.comfyClass?.startsWith("EgoX")) return;
    hideAdvanced(app, node, sayerOf("inputs"));
    openSliders(node);
    nameLinkedTexts(node);
  },
});
