// A text field that another node fills: on the classic canvas the host leaves its whole height
// empty, without a name. Here it is a row with its name.
const ROW = { minWidth: 0, minHeight: 20, maxHeight: 20 }; // px
const NAME_LEFT = 20; // px, where the names of sockets begin

export function nameLinkedTexts(node) {
  for (const widget of node.widgets ?? []) {
    if (widget.type !== "customtext" || Object.hasOwn(widget, "draw")) continue;
    const isLinked = () =>
      node.inputs.find((slot) => slot.widget?.name === widget.name)?.link != null;
    const { computeLayoutSize, draw } = widget;
    widget.computeLayoutSize = function () {
      return isLinked() ? ROW : computeLayoutSize.apply(this, arguments);
    };
    widget.draw = function (context, _node, _width, y) {
      draw.apply(this, arguments);
      if (!isLinked()) return;
      context.fillStyle = LiteGraph.NODE_TEXT_COLOR;
      context.textAlign = "left";
      context.fillText(this.label ?? this.name, NAME_LEFT, y + 14);
    };
  }
}
