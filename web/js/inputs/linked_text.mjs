// A text field that another node fills: on the classic canvas the host leaves its whole height
// empty, without a name. Here it is a row with its name.
const ROW = { minWidth: 0, minHeight: 20, maxHeight: 20 }; // px
const NAME_LEFT = 20; // px, where the names of sockets begin

export function nameLinkedTexts(node) {
  const isLinked = ({ name }) =>
    node.inputs.find((slot) => slot.widget?.name === name)?.link != null;
  for (const widget of node.widgets ?? []) {
    if (widget.type !== "customtext" || widget.egoxIsNamed) continue;
    widget.egoxIsNamed = true;
    const { computeLayoutSize } = widget;
    widget.computeLayoutSize = function () {
      return isLinked(widget) ? ROW : computeLayoutSize.apply(this, arguments);
    };
    // Newer pages hide a linked field, and don't call its own draw.
    const { onDrawForeground } = node;
    node.onDrawForeground = function (context) {
      onDrawForeground?.apply(this, arguments);
      if (this.flags?.collapsed || !isLinked(widget)) return;
      context.fillStyle = LiteGraph.NODE_TEXT_COLOR;
      context.textAlign = "left";
      context.fillText(widget.label ?? widget.name, NAME_LEFT, widget.y + 14);
    };
  }
}
