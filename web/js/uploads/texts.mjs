// Texts of a shipped graph that tell of the sample: they go when another video takes its place,
// unless a hand wrote them.
import {
  allNodes,
  findWidget,
  holdersOf,
  LOADER,
  nodesOfKind,
  setWidget,
} from "../graph_change.mjs";

const TEXTS = { EgoXPrompt: ["exo_view", "ego_view"], EgoXSaveRobotEpisode: ["task"] };
const SAMPLE = /^sample\//;

let opened = null; // of a graph that came with the sample: [holder, name, text] each

function textsOf(app) {
  const named = allNodes(app).flatMap((node) =>
    (TEXTS[node.constructor.comfyClass] ?? []).map((name) => holdersOf(app, node, name)[0]),
  );
  return named.map(([holder, name]) => [holder, name, findWidget(holder, name)?.value]);
}

const chosen = (app) => nodesOfKind(app, LOADER).map((node) => findWidget(node, "file")?.value);

export function noteTexts(app) {
  opened = chosen(app).some((file) => SAMPLE.test(file)) ? textsOf(app) : null;
}

// The labels of those that were removed; none while a sample is chosen.
export function endTexts(app) {
  if (app.configuringGraph || !opened || chosen(app).some((file) => SAMPLE.test(file))) return [];
  const ended = opened.filter(
    ([holder, name, text]) => text && findWidget(holder, name)?.value === text,
  );
  opened = null;
  for (const [holder, name] of ended) setWidget(app, holder, name, "");
  return ended.map(([holder, name]) => {
    const { label } = holder.inputs?.find((input) => input.name === name) ?? {};
    return label ?? findWidget(holder, name).label ?? name;
  });
}
