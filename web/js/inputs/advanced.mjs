// Rare inputs out of sight on the classic canvas. There the host has a menu entry, but doesn't know
// which widgets are rare, and keeps the room of what it doesn't draw. Nodes 2.0 do all of it by
// themselves.

const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";
const ROW = "egox_advanced_inputs";
const NOWHERE = -1e5; // y of a hidden widget, so that no link can be dropped on its slot

export function hideAdvanced(app, node, say) {
  const rare = new Set(
    (node.widgets ?? []).filter((widget) => widget.options?.advanced).map(({ name }) => name),
  );
  // An older frontend lays out what isn't drawn as well: there all inputs stay in sight.
  if (!rare.size || !node.getLayoutWidgets || !node.toggleAdvanced) return;
  const always = () => app.extensionManager?.setting?.get(ALWAYS) === true;
  const linked = ({ name }) =>
    node.inputs?.some((input) => input.widget?.name === name && input.link != null);
  const isRare = (widget) => rare.has(widget.name) && !always() && !linked(widget);
  node.hasAdvancedWidgets = () => node.widgets.some(isRare);

  const row = node.addWidget("button", ROW, null, () => node.toggleAdvanced(), {
    serialize: false, // not in the prompt
    canvasOnly: true, // nodes 2.0 and the form have their own
  });
  row.serialize = false; // nor in the saved workflow
  Object.defineProperty(row, "label", {
    configurable: true,
    get: () => say(node.showAdvanced ? "hideAdvanced" : "showAdvanced"),
    set() {},
  });

  const outOfSight = (widget) =>
    widget === row ? !node.hasAdvancedWidgets() : !node.showAdvanced && isRare(widget);
  // Newer frontends ask for the row as well, which a linked widget keeps without being drawn.
  for (const asked of ["isWidgetVisible", "isWidgetRowVisible"]) {
    const own = node[asked];
    if (!own) continue;
    node[asked] = function (widget) {
      return !outOfSight(widget) && own.call(this, widget);
    };
  }
  const { getLayoutWidgets, toggleAdvanced } = node;
  node.getLayoutWidgets = function () {
    const shown = [];
    for (const widget of getLayoutWidgets.call(this)) {
      if (outOfSight(widget)) widget.y = NOWHERE;
      else if (widget !== row) shown.push(widget);
    }
    // The row stands below the inputs and above what our scripts add to the node (button, player).
    if (!outOfSight(row)) {
      const below = shown.findIndex((widget) => widget.name.startsWith("egox_"));
      shown.splice(below < 0 ? shown.length : below, 0, row);
    }
    return shown;
  };
  // The host's own only lets the node grow.
  node.toggleAdvanced = function () {
    const spare = this.size[1] - this.computeSize()[1];
    toggleAdvanced.apply(this, arguments);
    this.setSize([this.size[0], this.computeSize()[1] + Math.max(0, spare)]);
  };
  node.setSize([node.size[0], node.computeSize()[1]]);
}
