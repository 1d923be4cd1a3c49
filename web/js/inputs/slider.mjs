// Sliders that a value may leave: what a graph was saved with shows and stays, and an exact number can be typed.

const DIGITS = 2; // after the point
const LEAVING = ["Enter", "Tab"]; // keys at which a field takes what was typed
const takers = new WeakMap(); // of a slider: takes a typed number, whatever its range

export function openSliders(node) {
  for (const widget of node.widgets ?? []) if (widget.type === "slider") openSlider(node, widget);
}

// Nodes 2.0 and the form have a field beside the slider, which clips to the range when it is left: what was typed is
// taken all the same, as soon as the page's own handlers are done.
export function takeTyped(app) {
  const typed = ({ target, type, key }) => {
    if (!target.matches?.('input[role="spinbutton"]') || (type === "keydown" && !LEAVING.includes(key))) return;
    const { nodeId, widgetsGridNodeId } = target.closest("[data-node-id], [data-widgets-grid-node-id]")?.dataset ?? {};
    const node = (app.canvas?.graph ?? app.graph).getNodeById(nodeId ?? widgetsGridNodeId);
    const widget = node?.widgets?.find(({ name }) => name === target.ariaLabel);
    const value = numberOf(target.value);
    const clipped = value < Number(target.ariaValueMin) || value > Number(target.ariaValueMax);
    if (clipped && takers.has(widget)) setTimeout(() => takers.get(widget)(value, app.canvas), 0);
  };
  document.addEventListener("keydown", typed, true);
  document.addEventListener("focusout", typed, true);
}

// NaN for what is no number.
const numberOf = (text) => (String(text).trim() === "" ? NaN : Number(String(text).replace(",", ".")));

function openSlider(node, widget) {
  const { min, max, step2: step } = widget.options;
  // The host takes its digits from the step, and would round what is typed to them.
  Object.assign(widget.options, { precision: DIGITS, round: 10 ** -DIGITS });
  // The host's slider (and its typing field in nodes 2.0) clips to the range, which therefore reaches to the value.
  const reach = () => {
    widget.options.min = Math.min(min, widget.value);
    widget.options.max = Math.max(max, widget.value);
  };
  const { onConfigure } = node;
  node.onConfigure = function () {
    onConfigure?.apply(this, arguments);
    reach();
  };

  // Classic canvas: dragging goes by steps, a double click asks for a number.
  for (const move of ["onClick", "onDrag"]) {
    const moved = widget[move];
    if (!moved) continue;
    widget[move] = function () {
      const result = moved.apply(this, arguments);
      this.value = Number((Math.round(this.value / step) * step).toFixed(DIGITS));
      return result;
    };
  }
  let before = { value: widget.value, at: 0 }; // as it was before the first click of two
  widget.onPointerDown = (pointer, _, canvas) => {
    if (performance.now() - before.at > 600) before = { value: widget.value, at: performance.now() };
    pointer.onDoubleClick = (event) => {
      widget.value = before.value;
      canvas.prompt(widget.label ?? widget.name, before.value, (typed) => take(typed, canvas), event);
    };
  };

  takers.set(widget, take);
  function take(typed, canvas) {
    const value = numberOf(typed);
    if (!Number.isFinite(value)) return;
    widget.value = value;
    reach();
    widget.callback?.(value, canvas, node);
    widget.value = value; // not rounded
    node.graph?.change?.();
    node.setDirtyCanvas?.(true, true);
  }
}
