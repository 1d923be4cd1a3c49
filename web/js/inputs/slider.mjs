// Sliders that a value may leave: what a graph was saved with shows and stays, and an exact number
// can be typed. Also those that a subgraph's node has of our nodes: it copies their options.
import { addCss } from "../editor/view/elements.mjs";

// Nodes 2.0, in our graphs: of a narrow row the field beside a slider takes what its digits need.
const FIELD = 'body.egox-graph [data-node-id] [data-slot="slider"] + *';
const CSS = `${FIELD} { width: 2.5rem; } ${FIELD} input { padding-inline: 2px; }`;
const DIGITS = 2; // after the point
const LEAVING = ["Enter", "Tab"]; // keys at which a field takes what was typed
const RANGE = "egoxRange"; // option of our sliders: [min, max] of the slider itself
const opened = new WeakSet(); // sliders

export function openSliders(node) {
  for (const { type, options } of node.widgets ?? []) {
    if (type !== "slider") continue;
    // The host takes its digits from the step, and would round what is typed to them.
    Object.assign(options, {
      [RANGE]: [options.min, options.max],
      precision: DIGITS,
      round: 10 ** -DIGITS,
    });
  }
  openConfigured(node);
}

// A subgraph's node has its sliders only once it is configured, and the host may make them anew at
// any time and say nothing: whatever stands there when the canvas asks what lies under the pointer
// is opened, too.
export function openConfigured(node) {
  openAll(node);
  const { onConfigure, getWidgetOnPos } = node;
  node.onConfigure = function () {
    onConfigure?.apply(this, arguments);
    openAll(this);
  };
  node.getWidgetOnPos = function () {
    openAll(this, (widget) => !opened.has(widget));
    return getWidgetOnPos.apply(this, arguments);
  };
}

// In older frontends a subgraph's slider has its value only when all of the graph is there.
export function openAll(node, wanted = () => true) {
  for (const widget of node.widgets ?? []) {
    if (!widget.options?.[RANGE] || !wanted(widget)) continue;
    if (!opened.has(widget)) openSlider(node, widget);
    reach(widget);
  }
}

// Nodes 2.0 and the form have a field beside the slider, which clips to the range when it is left:
// what was typed is taken all the same, as soon as the page's own handlers are done.
export function takeTyped(app) {
  addCss("egox-sliders", CSS);
  const taken = ({ target, type, key }) => {
    if (
      !target.matches?.('input[role="spinbutton"]') ||
      (type === "keydown" && !LEAVING.includes(key))
    )
      return;
    const { nodeId, widgetsGridNodeId } =
      target.closest("[data-node-id], [data-widgets-grid-node-id]")?.dataset ?? {};
    const node = (app.canvas?.graph ?? app.graph).getNodeById(nodeId ?? widgetsGridNodeId);
    const widget = node?.widgets?.find(({ name }) => name === target.ariaLabel);
    const typed = numberOf(target.value);
    // an emptied field leaves what was there
    const value = Number.isNaN(typed) ? widget?.value : typed;
    const clipped =
      value !== typed || value < Number(target.ariaValueMin) || value > Number(target.ariaValueMax);
    if (clipped && widget?.options?.[RANGE])
      setTimeout(() => take(node, widget, value, app.canvas), 0);
  };
  document.addEventListener("keydown", taken, true);
  document.addEventListener("focusout", taken, true);
}

// NaN for what is no number.
const numberOf = (text) =>
  String(text).trim() === "" ? NaN : Number(String(text).replace(",", "."));

// The host's slider (and its typing field in nodes 2.0) clips to the range, which therefore reaches
// to the value.
function reach({ options, value }) {
  const [min, max] = options[RANGE];
  options.min = Number.isFinite(value) ? Math.min(min, value) : min;
  options.max = Number.isFinite(value) ? Math.max(max, value) : max;
}

function take(node, widget, value, canvas) {
  if (!Number.isFinite(value)) return;
  widget.value = value;
  reach(widget);
  widget.callback?.(value, canvas, node);
  widget.value = value; // not rounded
  node.graph?.change?.();
  node.setDirtyCanvas?.(true, true);
}

// Classic canvas: dragging goes by steps, a double click asks for a number.
function openSlider(node, widget) {
  opened.add(widget);
  const { callback } = widget;
  widget.callback = function (value, canvas, of, place, ...others) {
    const { step2: step } = widget.options;
    // Only the canvas says at which place.
    const taken = place ? Number((Math.round(value / step) * step).toFixed(DIGITS)) : value;
    if (place) widget.value = taken;
    return callback?.call(widget, taken, canvas, of, place, ...others);
  };
  let before = { value: widget.value, at: 0 }; // as it was before the first click of two
  widget.onPointerDown = (pointer, _, canvas) => {
    if (performance.now() - before.at > 600)
      before = { value: widget.value, at: performance.now() };
    pointer.onDoubleClick = (event) => {
      widget.value = before.value;
      const typed = (text) => take(node, widget, numberOf(text), canvas);
      canvas.prompt(widget.label ?? widget.name, before.value, typed, event);
    };
  };
}
