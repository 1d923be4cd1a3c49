// Ties a preview to its node: a DOM widget that takes the node's results, in classic and in Vue
// nodes.
import { Preview } from "./player.mjs";
import { isOfClip, noteRun, saidOfOld } from "./old.mjs";
import { runsBefore } from "./runs.mjs";
import { send } from "./saving.mjs";
import { makeStrip, minutesOf } from "./strip.mjs";
import { findWidget, setWidget } from "../graph_change.mjs";
import { addElement } from "../node_element.mjs";
import { sayerOf } from "../page_texts.mjs";

export const KEY = "egox_preview"; // of the node's result, as nodes/show/player.py writes it
// node property: the chosen view, so that a saved workflow opens as it was left
const VIEW = "egox_preview_view";
// px, the whole widget: pictures side by side need more room than one
const MIN_HEIGHT = { Depth: 340, Live: 240, Attention: 440 };
export const PRIOR = "EgoXRenderEgoPrior";
const DECODER = "EgoXDecodeEgoHalf"; // a node at the top level of its graph
const SMALL_LORA = "egox_demo_lora.safetensors"; // whose strip ships
const SHIPPED_STRIP = new URL("./strip.webp", import.meta.url);
const OTHER_MIN_HEIGHT = 320;
const OUTER_MIN_HEIGHT = 180; // on a subgraph's node, which has other rows as well
const MIN_WIDTH = 340;
const OUTER_MIN_WIDTH = 270;
const MARGIN = 12; // px, below a player that was scrolled to

// ``slot``: of a subgraph's node, where the player stands for the promoted one of an inner node.
export function attachPreview(app, api, node, subject, slot) {
  const say = sayerOf("previews");
  const preview = new Preview({
    say,
    url: (file) => file.data ?? api.apiURL(`/view?${new URLSearchParams(file)}`),
    zoom: () => app.canvas?.ds?.scale ?? 1,
    empty: `empty${subject}`,
    view: () => node.properties?.[VIEW],
    onView: (view) => (node.properties[VIEW] = view),
    onPick: (values) => {
      for (const [name, value] of Object.entries(values)) setWidget(app, node, name, value);
      app.graph?.change?.();
    },
    inputName,
    makeStrip:
      node.constructor.comfyClass === DECODER
        ? (told, signal) => ownStrip(app, api, node, told, signal)
        : null,
    minutes: minutesOf,
    runAlone: subject === "Prior" ? () => runAlone(app, node) : null,
    strength: (geometry) => strengthOf(app, geometry),
    save: (about, taken) => send(api, about, taken),
    saidOfOld: (run) => saidOfOld(app, run),
  });
  const again = node.egoxPreview;
  again?.close();
  node.egoxPreview = preview;
  const minHeight = slot ? OUTER_MIN_HEIGHT : (MIN_HEIGHT[subject] ?? OTHER_MIN_HEIGHT);
  preview.element.classList.toggle("egox-preview-own", !slot);
  preview.element.classList.toggle("egox-preview-result", node.constructor.comfyClass === DECODER);
  preview.element.style.minHeight = `${minHeight - 20}px`; // what Vue nodes go by; 20: the classic widget's margins
  const { widgetId } = slot ?? {};
  // Beside the promoted one, newer frontends would give ours another name, and the form would find
  // neither.
  if (slot) Object.assign(slot, { _widget: undefined, widgetId: undefined });
  const label = slot?.label ?? say(`label${subject}`);
  const widget = addElement(node, KEY, "egoxPreview", preview.element, label, minHeight);
  if (slot) takePlace(node, slot, widget, widgetId);
  const minWidth = slot ? OUTER_MIN_WIDTH : MIN_WIDTH;
  node.setSize([Math.max(node.size[0], minWidth), Math.max(node.size[1], node.computeSize()[1])]);

  if (again) return;
  const { onExecuted, onRemoved } = node;
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments);
    const shown = showNew(app, this, output);
    if (node.constructor.comfyClass === DECODER) shown?.then(() => intoSight(preview.element));
  };
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments);
    node.egoxPreview.close();
  };
}

function takePlace(node, slot, widget, widgetId) {
  Object.assign(slot, { _widget: widget, widgetId });
  const extra = node._extraWidgets?.indexOf(widget) ?? -1;
  if (extra >= 0) node._extraWidgets.splice(extra, 1); // else it would be listed twice
}

let priorAsked = false; // by a press whose run ends with it

const runOf = (output) => output?.[KEY]?.[0]?.run;

export function showNew(app, node, output) {
  noteRun(app, runOf(output));
  const shown = showOutput(node, output);
  const { kind } = output?.[KEY]?.[0] ?? {};
  const element = node.egoxPreview?.element;
  // Of a subgraph's player the inner node has one, too, which the form doesn't show.
  if (priorAsked && kind === "prior" && element?.offsetParent) {
    priorAsked = false;
    shown?.then(() => intoSight(element));
  }
  return shown;
}

// What the page still has: a template that is opened over its used tab is given the results of the
// clip before.
export function showOfClip(app, node, output) {
  if (isOfClip(app, runOf(output))) showOutput(node, output);
}

function showOutput(node, output) {
  const previews = output?.[KEY];
  if (!previews?.length) return;
  const earlier = previews[0].kind === "compare" ? runsBefore(keyOf(node), previews) : [];
  return node.egoxPreview?.showAll(previews, earlier);
}

// In the form, whose rows are higher than its window: what a run is for comes into sight.
export function intoSight(element) {
  const list = listAround(element);
  if (!list) return;
  const [inner, outer] = [element.getBoundingClientRect(), list.getBoundingClientRect()];
  if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom + MARGIN;
  else if (inner.top < outer.top) list.scrollTop += inner.top - outer.top - MARGIN;
}

export function listAround(element) {
  let list = element.parentElement;
  while (list && !/auto|scroll/.test(getComputedStyle(list).overflowY)) list = list.parentElement;
  return list;
}

const keyOf = ({ graph, id }) => `${graph?.rootGraph?.id} ${graph?.id} ${id}`;

// As the host shows it, in the page's language.
function inputName(kind, name) {
  const { nodeData } = LiteGraph.registered_node_types[kind] ?? {};
  return nodeData?.inputs?.[name]?.display_name ?? name;
}

// λ_g and mode that a run would have now; where the graph doesn't say, as the paper's g = 1 + cos.
function strengthOf(app, { guide, auto_mode: autoMode, soft }) {
  const [lambda, mode] = ["lambda_g", "gga_mode"].map((name) => valueOf(app, guide, name));
  if (typeof lambda !== "number") return { mode: "power", lambda: 1, soft: false };
  return { mode: mode === "auto" ? autoMode : mode, lambda, soft };
}

// The value of a node's input as the page has it; of one that a subgraph's own input gives, the
// value there. Undefined where a node gives it.
function valueOf(app, id, name) {
  const node = findNode(app, id);
  const link = node?.inputs?.find((input) => input.name === name)?.link;
  if (link == null) return findWidget(node, name)?.value;
  const { origin_id: origin, origin_slot: slot } = node.graph.getLink(link) ?? {};
  if (origin !== node.graph.inputNode?.id) return undefined;
  return valueOf(app, id.split(":").slice(0, -1).join(":"), node.graph.inputs[slot].name);
}

// Strips that were made, for nodes that are made anew; of the tab.
const strips = new Map();

async function ownStrip(app, api, node, told, signal) {
  const previews = await makeStrip(app, api, String(node.id), told, signal);
  strips.set(keyOf(node), previews);
  return previews;
}

// Runs the prior (the node's own, where it has one) and what leads to it: of a missing file that
// only the model needs nothing is heard.
export async function runAlone(app, node) {
  priorAsked = true;
  const { output } = await app.graphToPrompt();
  const priors = Object.keys(output).filter((id) => output[id].class_type === PRIOR);
  const own = priors.filter((id) => id.split(":").includes(String(node?.id)));
  // A refused prompt is thrown as well as told: the page and refused_runs.js have shown it by then.
  await app.queuePrompt(0, 1, own.length ? own : priors).catch((error) => {
    if (!error?.response) throw error;
  });
}

// What a node of a loaded graph has to show before it is run.
export function showKept(app, node) {
  const strip = strips.get(keyOf(node));
  if (strip) node.egoxPreview.showStrip(strip).catch(() => strips.delete(keyOf(node)));
  else if (node.constructor.comfyClass === DECODER && usesSmallModel(app.rootGraph))
    node.egoxPreview.showShippedStrip(SHIPPED_STRIP);
}

const usesSmallModel = (graph) =>
  graph.nodes.some(
    ({ widgets, subgraph }) =>
      widgets?.some(({ name, value }) => name === "lora_name" && value === SMALL_LORA) ||
      (subgraph && usesSmallModel(subgraph)),
  );

export function findNode(app, id) {
  // "5:3" is node 3 inside the subgraph of node 5.
  let graph = app.rootGraph;
  let node = null;
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById?.(Number(part)) ?? graph?.getNodeById?.(part);
    graph = node?.subgraph;
  }
  return node;
}
