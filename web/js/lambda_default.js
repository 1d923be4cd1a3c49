// λ_g starts at another value in each mode; choosing a mode sets it, unless the user has set it to
// something else. Headless prompts say what they mean and are left as they are.
import { app } from "../../scripts/app.js";
import { findWidget, setWidget } from "./graph_change.mjs";

// As DEFAULT_LAMBDA in egox_core/gga/options.py; a mode that isn't here (auto, off) changes
// nothing.
const DEFAULTS = { released: 3, paper: 1, power: 1 };

app.registerExtension({
  name: "EgoX.LambdaDefault",
  nodeCreated(node) {
    const mode = findWidget(node, "gga_mode");
    const strength = findWidget(node, "lambda_g");
    if (!node.constructor.comfyClass?.startsWith("EgoX") || !mode || !strength) return;
    const { callback } = mode;
    // The last mode with a default: from released over off to paper the value is still the
    // untouched one.
    let last = mode.value in DEFAULTS ? mode.value : "released";
    mode.callback = function (value, ...others) {
      const result = callback?.call(this, value, ...others);
      if (!(value in DEFAULTS)) return result;
      if (strength.value === DEFAULTS[last]) setWidget(app, node, "lambda_g", DEFAULTS[value]);
      last = value;
      return result;
    };
    // A workflow that is being loaded sets the values without callbacks.
    const { onConfigure } = node;
    node.onConfigure = function () {
      onConfigure?.apply(this, arguments);
      if (mode.value in DEFAULTS) last = mode.value;
    };
  },
});
