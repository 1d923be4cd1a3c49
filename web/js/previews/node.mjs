// Ties a preview to its node: a DOM widget that takes the node's results, in classic and in Vue nodes.
import { Preview } from "./player.mjs";
import { runBefore } from "./runs.mjs";
import { TEXTS } from "./texts/all.mjs";
import { languageOf, sayer } from "../sayer.mjs";

export const KEY = "egox_preview"; // of the node's result, as nodes/clip_preview.py writes it
const VIEW = "egox_preview_view"; // node property: the chosen view, so that a saved workflow opens as it was left
// px, the whole widget: pictures side by side need more room than one
const MIN_HEIGHT = { EgoXDepthAlign: 340, EgoXWanSampler: 240, EgoXAttentionView: 440 };
const OTHER_MIN_HEIGHT = 320;
const MIN_WIDTH = 340;

export function attachPreview(app, api, node, subject) {
  const say = sayer(TEXTS, languageOf(app));
  const preview = new Preview({
    say,
    url: (file) => file.data ?? api.apiURL(`/view?${new URLSearchParams(file)}`),
    zoom: () => app.canvas?.ds?.scale ?? 1,
    empty: `empty${subject}`,
    view: () => node.properties?.[VIEW],
    onView: (view) => (node.properties[VIEW] = view),
    onPick: (values) => setWidgets(app, node, values),
    inputName,
  });
  node.egoxPreview = preview;
  const minHeight = MIN_HEIGHT[node.constructor.comfyClass] ?? OTHER_MIN_HEIGHT;
  preview.element.style.minHeight = `${minHeight - 20}px`; // what Vue nodes go by; 20: the classic widget's margins
  const widget = node.addDOMWidget(KEY, "egoxPreview", preview.element, {
    serialize: false,
    hideOnZoom: false, // pictures are what one zooms out to look at
    getMinHeight: () => minHeight,
  });
  widget.label = say(`label${subject}`); // in the form of an app
  widget.serialize = false; // neither in the saved workflow nor in the prompt
  node.setSize([Math.max(node.size[0], MIN_WIDTH), Math.max(node.size[1], node.computeSize()[1])]);

  const { onExecuted, onRemoved } = node;
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments);
    showOutput(this, output);
  };
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments);
    preview.close();
  };
}

export function showOutput(node, output) {
  const previews = output?.[KEY];
  if (!previews?.length) return;
  const { graph } = node;
  const key = `${graph?.rootGraph?.id} ${graph?.id} ${node.id}`;
  const before = previews[0].kind === "compare" ? runBefore(key, previews) : null;
  node.egoxPreview?.showAll(previews, before);
}

// As the host shows it, in the page's language.
function inputName(kind, name) {
  const { nodeData } = LiteGraph.registered_node_types[kind] ?? {};
  return nodeData?.inputs?.[name]?.display_name ?? name;
}

export function findNode(app, id) {
  // "5:3" is node 3 inside the subgraph of node 5.
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById?.(Number(part)) ?? graph?.getNodeById?.(part);
    graph = node?.subgraph;
  }
  return node;
}

function setWidgets(app, node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = node.widgets?.find((w) => w.name === name);
    if (!widget) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
  }
  app.graph?.change?.();
  node.setDirtyCanvas?.(true, true);
}
