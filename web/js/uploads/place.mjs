// Which inputs an upload's files belong into: the node that took them, and the only one of each
// other kind there is.
import {
  allNodes,
  findWidget,
  holdersOf,
  LOADER,
  nodesOf,
  nodesOfKind,
  noteChange,
  setWidget,
} from "../graph_change.mjs";

export const DEPTH = "EgoXDepthAlign";

// What each kind reads of an answer of the upload's route. A new video ends what was chosen for the
// one before.
const VALUES = {
  [LOADER]: ({ video }) => (video ? { file: video } : {}),
  [DEPTH]: ({ video, depth, camera }) => ({
    ...(depth || video ? { depth_file: depth ?? "" } : {}),
    ...(camera || video ? { camera_file: camera ?? "" } : {}),
  }),
  EgoXEgoPoseInput: ({ video, poses }, node) => {
    if (poses) return { source: "file", file: poses };
    // the one beside the video
    return video ? { file: findWidget(node, "file")?.options?.values?.[0] } : {};
  },
};

export const NODES = Object.keys(VALUES);

const SAMPLE = /^sample\//;

// The video in use, where files that came without an exo video surely belong to a different one:
// they came with the wearer's own video, or what is in use is a sample. A path alone may be meant
// for any video.
export function otherTakesVideo({ video, depth, camera, truth }, files) {
  if (video || !(depth || camera || truth)) return null;
  return files.find((file) => file && (truth || SAMPLE.test(file))) ?? null;
}

// The titles of nodes that were given something, and of kinds that would have got something if
// there were one alone.
export function placeUpload(app, taker, answer) {
  const [given, several] = [[], []];
  for (const kind of NODES) {
    const ofKind = nodesOfKind(app, kind);
    const running = ofKind.filter((node) => (node.mode ?? 0) === 0);
    const node =
      taker.constructor.comfyClass === kind ? taker : running.length === 1 ? running[0] : null;
    const values = Object.entries(VALUES[kind](answer, node ?? running[0] ?? taker));
    if (!values.length || !ofKind.length) continue;
    if (!node) {
      several.push(kind);
      continue;
    }
    for (const [name, value] of values)
      for (const [holder, own] of holdersOf(app, node, name)) choose(app, holder, own, value);
    if (values.some(([, value]) => Object.values(answer).includes(value))) given.push(node.title);
  }
  const out = leaveOut(allNodes(app), answer);
  noteChange(app);
  return { given, several, out };
}

const OF_MODEL = /_geometry$|^depth_image$/; // its sockets that depth models fill

// Whether the graph's one Depth Align has neither a file nor a model, so that it needs the depth
// beside the exo video.
export function needsDepth(app) {
  const [node, ...others] = nodesOfKind(app, DEPTH);
  if (!node || node.mode || others.length) return false;
  const [holder, name] = holdersOf(app, node, "depth_file")[0];
  const hasModel = ({ name, link }, place) =>
    OF_MODEL.test(name) && link != null && !node.getInputNode(place)?.mode;
  return !findWidget(holder, name)?.value && !node.inputs.some(hasModel);
}

const MUTED = 2;
const LEFT_OUT = "egox_left_out"; // node property: muted here, not by hand
// its socket of what moves, which Build Scene finds by the depth where there is none
const MASK = "dynamic_mask";

// One's own depth takes the place of depth models, and where weights aren't there, of the mask's
// model too, and leaves the head to poses or a hand; a video without it brings them back. Gives the
// titles of those that are left out.
function leaveOut(all, { video, depth }) {
  if (!depth && !video) return [];
  const linkedTo = (node, name) =>
    node.getInputNode?.(node.inputs.findIndex((input) => input.name === name));
  const change = (node) => {
    if (!node || (depth ? node.mode : !node.properties[LEFT_OUT])) return null;
    node.mode = depth ? MUTED : 0;
    node.properties[LEFT_OUT] = Boolean(depth);
    return node;
  };
  const changed = all.flatMap((node) => {
    const kind = node.constructor.comfyClass;
    if (kind === DEPTH) {
      const isOut = ({ name }) =>
        OF_MODEL.test(name) || (name === MASK && (!depth || lacksWeights(linkedTo(node, name))));
      return node.inputs.filter(isOut).map(({ name }) => change(linkedTo(node, name)));
    }
    const estimate = kind === "EgoXEgoPoseInput" ? linkedTo(node, "estimated") : null;
    if (depth && !lacksWeights(estimate)) return [];
    const [before, after] = depth
      ? ["estimated", "keyframes"]
      : [findWidget(node, "source")?.value, "estimated"];
    const isOut = change(estimate);
    if (isOut && findWidget(node, "source").value === before)
      findWidget(node, "source").value = after;
    return [isOut];
  });
  return depth ? changed.filter(Boolean).map(({ title }) => title) : [];
}

// A node or what leads to it, or what is in it.
const lacksWeights = (node) =>
  node != null &&
  ([node, ...nodesOf(node.subgraph)].some(({ widgets }) =>
    widgets?.some(
      ({ value, options }) =>
        /\.safetensors$/.test(value) && options?.values?.includes?.(value) === false,
    ),
  ) ||
    node.inputs?.some((_, place) => lacksWeights(node.getInputNode?.(place))));

// A file that was not yet there when the page made its list is a choice, too.
function choose(app, node, name, value) {
  if (value === undefined) return;
  const { values } = findWidget(node, name)?.options ?? {};
  if (Array.isArray(values) && !values.includes(value)) values.push(value);
  setWidget(app, node, name, value);
}
