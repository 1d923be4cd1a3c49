// The name under which Save Video writes a pair of eyes follows the layout that is chosen: players
// go by the name, and only a VR180 file may have that of one.
import { app } from "../../scripts/app.js";
import { nameOfEyes } from "./eye_names.mjs";
import { findWidget, onChange, setWidget } from "./graph_change.mjs";

const VIDEO = 1; // output

app.registerExtension({
  name: "EgoX.EyeNames",
  nodeCreated(node) {
    if (node.constructor.comfyClass !== "EgoXSecondEye") return;
    onChange(node, ["layout"], () => {
      const layout = findWidget(node, "layout").value;
      for (const id of node.outputs?.[VIDEO]?.links ?? []) {
        const saver = node.graph?.getNodeById(node.graph.getLink?.(id)?.target_id);
        const name = findWidget(saver, "filename_prefix")?.value;
        if (name) setWidget(app, saver, "filename_prefix", nameOfEyes(name, layout));
      }
    });
  },
});
