// What stands on the node: a button that opens the editor and a line that says what it holds. The
// value is the node's own `keyframes` text, so that a workflow holds everything and runs without a
// page.
import { DocumentError, parseDocument } from "./model/document.mjs";
import { FrameClock } from "./model/frame_clock.mjs";
import { Server } from "./server.mjs";
import { button, make } from "./view/elements.mjs";
import {
  defaultOf,
  findWidget,
  nodesOfKind,
  noteChange,
  onChange,
  setWidget,
} from "../graph_change.mjs";
import { shownInEditor, takeOutOfEditor } from "../missing_files.mjs";
import { addRow } from "../node_element.mjs";
import { findNode, PRIOR, runAlone } from "../previews/node.mjs";
import { followLens, lensRow, noteLens } from "./lens.mjs";
import { followVideo, graphOf, WRITTEN_IN } from "./own_video.mjs";
import { inPageWords, sayerOf } from "../page_texts.mjs";

export const KEY = "egox_pose"; // of the node's result, as nodes/show/editor.py makes it

export function attachEditor(app, api, node) {
  const say = sayerOf("editor");
  const note = make("div", "egox-ed-node-note", { "data-testid": "egox-node-note" });
  const open = button("egox-open", say("open"), say("open"), () => openEditor(app, api, node, say));
  const lens = makeLens(app, node, say);
  addRow(node, "egox_pose_editor", "egoxPoseEditor", say("nodeLabel"), open, note, lens);
  findWidget(node, "egox_pose_editor").beforeQueued = () => followLens(app, node);
  // video: { video, id } of the video in use, as far as the server knows it.
  const tell = () => {
    note.title = note.textContent = noteOf(node, say);
    lens.show();
  };
  node.egoxPose = { video: null, note: tell, data: null, editor: null };
  node.setSize([Math.max(node.size[0], 320), Math.max(node.size[1], node.computeSize()[1])]);
  node.egoxPose.note();

  const { onExecuted, onRemoved, onConfigure } = node;
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments);
    showResult(this, output);
  };
  node.onConfigure = function () {
    onConfigure?.apply(this, arguments);
    this.egoxPose.note();
  };
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments);
    this.egoxPose.editor?.close();
  };
  onChange(node, ["keyframes", "source", "file"], node.egoxPose.note);
}

export function showResult(node, output) {
  const data = output?.[KEY]?.[0];
  if (!data || !node.egoxPose || node.egoxPose.data === data) return;
  node.egoxPose.data = data;
  node.egoxPose.video ??= data.video;
  node.egoxPose.note();
  node.egoxPose.editor?.setData(data);
}

export async function openEditor(app, api, node, say) {
  if (node.egoxPose.editor) return node.egoxPose.editor;
  // three.js is fetched when the editor is first opened, not at every page load.
  const { PoseEditor } = await import("./editor.mjs");
  await followVideo(app, api, node);
  followLens(app, node);
  const holder = node.egoxPose;
  holder.editor ??= new PoseEditor(
    hostOf(app, api, node),
    new Server(api),
    say,
    makeLens(app, node, say),
  );
  holder.release = holdPage(app);
  return holder.editor;
}

const makeLens = (app, node, say) =>
  lensRow(app, node, say, () => node.egoxPose.editor?.takeLens());

// While the editor lies over the page, the page's graph is not drawn (it would take half of a small
// machine's time). Its Ctrl+Z listens before anything else and would undo the graph beneath; it
// asks whether an editor is open, and is told so.
function holdPage(app) {
  const { canvas } = app;
  const page = app.constructor;
  const before = page.maskeditor_is_opended;
  page.maskeditor_is_opended = () => true;
  if (canvas) canvas.pause_rendering = true;
  return () => {
    page.maskeditor_is_opended = before;
    if (canvas) canvas.pause_rendering = false;
  };
}

// What the editor may know of the node and the page.
function hostOf(app, api, node) {
  const holder = node.egoxPose;
  return {
    data: () => holder.data,
    text: () => findWidget(node, "keyframes")?.value ?? "",
    source: () => findWidget(node, "source")?.value ?? "keyframes",
    file: () => fileOf(node),
    everyNth: () => findWidget(node, "every_nth")?.value ?? 0,
    fileFrames: () => findWidget(node, "file_frames")?.value ?? "auto",
    entry: () => findWidget(node, "entry")?.value ?? "",
    isExample: () => isExample(node),
    isLinked: (name) => node.inputs?.find((input) => input.name === name)?.link != null,
    nodeId: () => holder.data?.node || String(node.id),
    camera: () => findWidget(node, "camera")?.value ?? "auto",
    video: () => holder.video,
    quarterTurns: () => holder.turns ?? (findWidget(node, "camera")?.value === "pinhole" ? 0 : 1),
    rememberTurns: (turns) => (holder.turns = turns),
    // In which scene the text was last written: kept with the node, so that it counts after a
    // reload, too.
    writtenIn: () => node.properties?.[WRITTEN_IN],
    useKeyframes: () => setWidget(app, node, "source", "keyframes"),
    canEstimate: () => node.getInputNode?.(node.findInputSlot("estimated"))?.mode === 0,
    useEstimate: () => {
      setWidget(app, node, "source", "estimated");
      noteChange(app);
    },
    graph: () => graphOf(app, node),
    write: (text, scene) => {
      setWidget(app, node, "keyframes", text);
      setWidget(app, node, "source", "keyframes");
      (node.properties ??= {})[WRITTEN_IN] = scene;
      noteLens(app, node);
      noteChange(app);
    },
    run: (told) => run(app, api, node, told),
    runPrior: nodesOfKind(app, PRIOR).length ? () => runAlone(app) : null,
    cancel: () => api.interrupt(),
    missing: shownInEditor,
    onClose: () => {
      takeOutOfEditor();
      holder.editor = null;
      holder.release?.();
      holder.note();
      node.setDirtyCanvas?.(true, true);
    },
  };
}

// Run this node and what leads to it; told(title of a node, per cent). Gives a reason where that
// failed.
function run(app, api, node, told) {
  return new Promise((resolve) => {
    const watched = {
      progress: ({ detail }) =>
        told(
          findNode(app, detail.node)?.title ?? "",
          Math.round((100 * detail.value) / detail.max),
        ),
      execution_success: () => end(null),
      execution_error: (e) => end(e.detail?.exception_message ?? "error"),
      execution_interrupted: () => end("interrupted"),
    };
    const end = (reason) => {
      for (const [kind, listener] of Object.entries(watched))
        api.removeEventListener(kind, listener);
      resolve(reason && inPageWords(reason));
    };
    for (const [kind, listener] of Object.entries(watched)) api.addEventListener(kind, listener);
    const queue = (asked) => app.queuePrompt(0, 1, asked ? [asked.node] : undefined);
    graphOf(app, node)
      .then(queue)
      .then(
        (queued) =>
          queued === false && end(reasonOf(app.lastNodeErrors) ?? "the graph could not be queued"),
        (error) => end(error.message),
      );
  });
}

// The first thing that the server had against the graph.
function reasonOf(nodeErrors) {
  const [first] = Object.values(nodeErrors ?? {}).flatMap(({ errors }) => errors);
  return first && (first.details || first.message);
}

// A file of the host's; the one beside the video is not known by name here.
function fileOf(node) {
  const { options, value } = findWidget(node, "file") ?? {};
  return options?.values?.indexOf?.(value) > 0 ? value : null;
}

const isExample = (node) => findWidget(node, "keyframes")?.value === defaultOf(node, "keyframes");

function noteOf(node, say) {
  const source = findWidget(node, "source")?.value;
  const { note } = node.egoxPose?.data ?? {};
  if (source !== "keyframes") {
    const isBeside = source === "file" && fileOf(node) === null;
    const kind = isBeside ? "source_beside" : `source_${source}`;
    return say("nodeOther", { source: say(kind) }) + (note ? `. ${note}` : "");
  }
  if (isExample(node)) return say("nodeExample");
  try {
    const count = parseDocument(findWidget(node, "keyframes")?.value ?? "", FrameClock.standard())
      .keys.length;
    const scene = node.egoxPose?.data?.scene;
    const keys = say(count === 1 ? "nodeKey" : "nodeKeys", { count });
    return scene
      ? say("nodeReady", { keys, points: scene.points.toLocaleString() })
      : `${keys}. ${say("nodeEmpty")}`;
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    return say("nodeBad", { reason: error.message });
  }
}
