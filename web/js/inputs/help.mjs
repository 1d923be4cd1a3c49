// Help on what a subgraph's node shows of the nodes in it, from those: the host has none there.
import { nodeTexts } from "../page_texts.mjs";

const ROW = "[data-widget-key], [data-testid=node-widget]"; // of a form, of a node of nodes 2.0

function helpOf({ subgraph }, name) {
  const { linkIds } = subgraph?.inputNode.slots.find((slot) => slot.name === name) ?? {};
  const { target_id: id, target_slot: slot } = subgraph?.getLink(linkIds?.[0]) ?? {};
  const inner = subgraph?.getNodeById(id);
  const own = inner?.inputs[slot]?.widget?.name;
  return (
    nodeTexts()[inner?.type]?.inputs?.[own]?.tooltip ??
    inner?.constructor.nodeData?.inputs?.[own]?.tooltip
  );
}

// In nodes 2.0, in the form and in the side panel, as the browser shows it.
export function helpOnRows(app) {
  document.addEventListener("pointerover", ({ target }) => {
    const row = target.closest?.(ROW);
    if (!row || row.title) return;
    const [id, key] = row.dataset.widgetKey?.split(":").slice(-2) ?? [];
    const { nodeId, widgetsGridNodeId } =
      row.closest("[data-node-id], [data-widgets-grid-node-id]")?.dataset ?? {};
    const node = (app.canvas?.graph ?? app.graph).getNodeById(id ?? nodeId ?? widgetsGridNodeId);
    const label = row.querySelector("[data-testid=widget-layout-field-label]")?.textContent.trim();
    const widget = node?.widgets?.find(({ name, label: own }) =>
      key ? name === key : [name, own].includes(label),
    );
    row.title = (widget && helpOf(node, widget.name)) ?? "";
  });
}

// On the classic canvas, as the host shows that of a widget.
export function helpOnCanvas(node) {
  const { getWidgetOnPos } = node;
  node.getWidgetOnPos = function () {
    const widget = getWidgetOnPos.apply(this, arguments);
    if (widget && !widget.tooltip) Reflect.set(widget, "tooltip", helpOf(this, widget.name));
    return widget;
  };
}
