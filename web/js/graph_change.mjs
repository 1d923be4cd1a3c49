// What a script changes in a graph: widgets by name, told to the host as a hand's change would be.

export function findWidget(node, name) {
  return node?.widgets?.find((widget) => widget.name === name);
}

export function setWidget(app, node, name, value) {
  const widget = findWidget(node, name);
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  node.setDirtyCanvas?.(true, true);
}

// After a hand or a script has changed one of these widgets.
export function onChange(node, names, changed) {
  for (const widget of names.map((name) => findWidget(node, name)).filter(Boolean)) {
    const { callback } = widget;
    widget.callback = function () {
      const result = callback?.apply(this, arguments);
      changed();
      return result;
    };
  }
}

// All of it so far, as one step of the host's undo.
export function noteChange(app) {
  app.graph?.change?.();
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.captureCanvasState) tracker.captureCanvasState();
  else tracker?.checkState?.();
}

// All nodes, those in sub-graphs too.
export function* nodesOf(graph) {
  for (const node of graph?.nodes ?? []) {
    yield node;
    if (node.subgraph) yield* nodesOf(node.subgraph);
  }
}
