// What a script changes in a graph: widgets by name, told to the host as a hand's change would be.

export function findWidget(node, name) {
  return node?.widgets?.find((widget) => widget.name === name);
}

// What a widget holds until somebody changes it.
export function defaultOf(node, name) {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  return (required?.[name] ?? optional?.[name])?.[1]?.default;
}

export function setWidget(app, node, name, value) {
  const widget = findWidget(node, name);
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  node.setDirtyCanvas?.(true, true);
}

// [node, name] of all widgets that hold a node's input: of one that stands on the sub-graph's own
// node, that one first.
export function holdersOf(app, node, name) {
  const link = node.graph?.getLink?.(
    node.inputs?.find((input) => input.widget?.name === name)?.link,
  );
  const entry = node.graph?.inputNode;
  const outer = link && link.origin_id === entry?.id ? entry.slots[link.origin_slot] : null;
  const hosts = outer ? allNodes(app).filter((host) => host.subgraph === node.graph) : [];
  return [...hosts.map((host) => [host, outer.name]), [node, name]];
}

export function setValue(app, node, name, value) {
  for (const [holder, own] of holdersOf(app, node, name)) setWidget(app, holder, own, value);
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
  app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.captureCanvasState();
}

// All nodes, those in sub-graphs too.
export function* nodesOf(graph) {
  for (const node of graph?.nodes ?? []) {
    yield node;
    if (node.subgraph) yield* nodesOf(node.subgraph);
  }
}

export const LOADER = "EgoXLoadExoVideo";
export const allNodes = (app) => [...nodesOf(app.rootGraph)];
export const nodesOfKind = (app, kind) =>
  allNodes(app).filter(({ constructor }) => constructor.comfyClass === kind);

// The exo videos of the page's graph.
export const filesOf = (app) =>
  nodesOfKind(app, LOADER).map((node) => findWidget(node, "file")?.value);

export const MOGE = "EgoXMoGeVideo";

// The node that estimates the depth of a video that has none of its own, with the file that is
// there.
export function autoMoge(app) {
  const isAsked = ({ name, link }) => name === "moge_geometry" && link != null;
  const linked = nodesOfKind(app, "EgoXDepthAlign").map((node) =>
    node.getInputNode(node.inputs.findIndex(isAsked)),
  );
  return linked.find(
    (node) =>
      node?.constructor.comfyClass === MOGE &&
      node.mode === 0 &&
      findWidget(node, "model_name")?.value === "auto",
  );
}
