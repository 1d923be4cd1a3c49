// Elements of our own on a node: the host's DOM widgets, on the canvas and in the form of an app.
import { make } from "./editor/view/elements.mjs";
import { addStyle } from "./editor/view/style.mjs";

const ROW_HEIGHT = 64; // px

// ``label``: in the form; ``minHeight``: px, of the whole widget.
export function addElement(node, name, type, element, label, minHeight, more = {}) {
  const widget = node.addDOMWidget(name, type, element, {
    serialize: false, // in the prompt
    hideOnZoom: false, // pictures are what one zooms out to look at
    getMinHeight: () => minHeight,
    ...more,
  });
  widget.label = label;
  widget.serialize = false; // in the saved workflow
  // The page's side panel would leave its row's width and place here: it is as wide as its node.
  Object.defineProperty(widget, "width", { get() {}, set: () => node.setDirtyCanvas?.(true) });
  new IntersectionObserver(() => keepInForm(node, widget)).observe(element);
  return widget;
}

// When a graph is opened beneath an open form, the canvas takes the elements that the form has just
// been given.
function keepInForm(node, { name, element }) {
  if (node.graph?.getNodeById(node.id) !== node) return; // of the graph before
  for (const row of document.querySelectorAll("[data-widget-key]")) {
    const [of, named] = row.dataset.widgetKey.split(":").slice(-2);
    const place = row.lastElementChild;
    if (of !== String(node.id) || named !== name || place.textContent.trim()) continue;
    (place.querySelector("[node-type]") ?? place).append(element); // the page's own holder, which keeps off the edges
  }
}

// A row of one height: a button and what is said below it.
export function addRow(node, name, type, label, open, ...below) {
  addStyle();
  const element = make(
    "div",
    "egox-ed-node",
    { tabIndex: -1, "data-capture-wheel": "true" },
    open,
    ...below,
  );
  element.style.minHeight = `${ROW_HEIGHT - 12}px`;
  // In Vue nodes a press would else start to move the node, and its release never arrive.
  open.addEventListener("pointerdown", (event) => event.stopPropagation());
  addElement(node, name, type, element, label, ROW_HEIGHT, { getMaxHeight: () => ROW_HEIGHT });
}
