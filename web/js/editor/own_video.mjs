// A path belongs to the video that it was made on: with another video the node goes on with what
// that one has, and the path is kept with the node until its own video comes back.
import { Server } from "./server.mjs";
import {
  defaultOf,
  findWidget,
  LOADER,
  nodesOfKind,
  noteChange,
  onChange,
  setWidget,
} from "../graph_change.mjs";

export const NODE = "EgoXEgoPoseInput";
export const WRITTEN_IN = "egox_scene"; // of the node's properties: the scene that the editor wrote its path in
const KEPT = "egox_paths"; // of the node's properties: { id of a video: { video: its name, path: { widget: value } } }
const PATH = ["source", "file", "entry", "keyframes", "x", "y", "z", "yaw", "pitch", "roll"];
const MOST = 20;

const valuesOf = (node) =>
  Object.fromEntries(PATH.map((name) => [name, findWidget(node, name)?.value]));

// What a node has for a video of which nothing is kept.
function beginningOf(node) {
  const isEstimated = node.inputs?.some(({ name, link }) => name === "estimated" && link != null);
  const defaults = PATH.map((name) => [name, defaultOf(node, name)]);
  return { ...Object.fromEntries(defaults), source: isEstimated ? "estimated" : "file" };
}

function madeOn(text) {
  try {
    return JSON.parse(text)?.made_on ?? null;
  } catch {
    return null; // the node says that it can't be read
  }
}

// Ask which video the node's graph has now, and have the path follow it. Gives the name of the
// video whose path was put away, if somebody drew one.
export async function followVideo(app, api, node) {
  const holder = node.egoxPose;
  const asked = (holder.asked = (holder.asked ?? 0) + 1);
  // As the first question found it that is still without an answer: what is set meanwhile is no
  // video's of before.
  const seen = (holder.seen ??= valuesOf(node));
  const graph = await graphOf(app, node).catch(() => null);
  const answer = graph && (await new Server(api).json("origin", graph).catch(() => null));
  if (asked !== holder.asked) return null;
  holder.seen = null;
  if (!answer) return null;
  const before = madeOn(seen.keyframes) ?? holder.video;
  holder.video = answer.video;
  const isOther = answer.video && before && before.id !== answer.video.id;
  const put = isOther ? exchange(app, node, seen, before) : null;
  holder.note();
  return put;
}

function exchange(app, node, seen, before) {
  const beginning = beginningOf(node);
  const isOwn = PATH.some((name) => seen[name] !== beginning[name]);
  // A shipped graph brings a path that was made on its sample; nobody here drew it.
  const isShipped = madeOn(seen.keyframes) && node.properties?.[WRITTEN_IN] === undefined;
  const isDrawn = seen.keyframes !== beginning.keyframes && !isShipped;
  const { [before.id]: _, [node.egoxPose.video.id]: back, ...kept } = node.properties?.[KEPT] ?? {};
  if (isOwn) kept[before.id] = { video: before.video, path: seen };
  (node.properties ??= {})[KEPT] = Object.fromEntries(Object.entries(kept).slice(-MOST));
  const next = back?.path ?? beginning;
  // What was set since, such as poses uploaded with the video, stays.
  const changed = new Set(PATH.filter((name) => findWidget(node, name)?.value !== seen[name]));
  if (changed.has("file") && findWidget(node, "file").value !== beginning.file)
    changed.add("source");
  for (const name of PATH) if (!changed.has(name)) setWidget(app, node, name, next[name]);
  noteChange(app);
  const [was, is] = [before, node.egoxPose.video].map(({ video }) => video.split("/").pop());
  return !isDrawn ? null : was === is ? before.video : was; // takes call their files alike
}

// The graph as a run would send it now, and the node's id in it; null where the page can't say.
export async function graphOf(app, node) {
  const { output } = await app.graphToPrompt();
  const id = node.egoxPose.data?.node || String(node.id);
  const inGraph =
    id in output ? id : Object.keys(output).find((key) => key.endsWith(`:${node.id}`));
  return inGraph ? { node: inGraph, graph: output } : null;
}

// told(node, name of the video): its path was put away.
export function watchVideo(app, api, node, told) {
  if (node.constructor.comfyClass !== LOADER) return;
  onChange(node, ["file"], () => {
    for (const pose of nodesOfKind(app, NODE))
      followVideo(app, api, pose).then((video) => video && told(pose, video));
  });
}
