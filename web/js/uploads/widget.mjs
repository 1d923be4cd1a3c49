// What stands on the node: a button for the user's own files, and a line that says what became of them. They may be
// dropped anywhere on the node as well.
import { button, make } from "../editor/view/elements.mjs";
import { addStyle } from "../editor/view/style.mjs";
import { UPLOAD, limitOf, megabytes, sizeOf, toast, tooLarge } from "./limit.mjs";
import { placeUpload } from "./place.mjs";

const HEIGHT = 64; // px
// As UPLOAD_SUFFIXES in egox_core/takes/uploads.py.
const SUFFIXES = [
  ".mp4",
  ".mov",
  ".mkv",
  ".webm",
  ".avi",
  ".m4v",
  ".npy",
  ".exr",
  ".png",
  ".npz",
  ".zip",
  ".json",
  ".txt",
];

export function attachUpload(app, api, node, say) {
  addStyle();
  const note = make("div", "egox-ed-node-note", { "data-testid": "egox-upload-note", title: say("hint") }, say("hint"));
  const chooser = make("input", "", { type: "file", multiple: true, accept: SUFFIXES.join(",") });
  const open = button("egox-upload", say("upload"), say("hint"), () => chooser.click());
  const element = make("div", "egox-ed-node", { tabIndex: -1, "data-capture-wheel": "true" }, open, note);
  element.style.minHeight = `${HEIGHT - 12}px`;
  // In Vue nodes a press would else start to move the node, and its release never arrive.
  open.addEventListener("pointerdown", (event) => event.stopPropagation());
  const widget = node.addDOMWidget("egox_upload", "egoxUpload", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  widget.label = say("nodeLabel"); // in the form of an app
  widget.serialize = false; // neither in the saved workflow nor in the prompt
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);

  const tell = (text, severity) => {
    note.textContent = note.title = text;
    note.classList.toggle("egox-ed-node-fault", severity === "error");
    if (severity) toast(app, severity, text);
  };
  const take = async (files) => {
    open.disabled = true;
    tell(say("sending", { size: megabytes(sizeOf(files)) }));
    try {
      const answer = await send(api, files, say);
      tell(outcome(answer, placeUpload(app, node, answer), say), "success");
    } catch (error) {
      tell(say("failed", { reason: error.message }), "error");
    }
    open.disabled = false;
  };
  chooser.addEventListener("change", () => {
    const files = [...chooser.files];
    chooser.value = ""; // the same file again is a change, too
    if (files.length) take(files);
  });

  const { onDragOver, onDragDrop } = node;
  node.onDragOver = function (event) {
    const carriesFiles = [...(event?.dataTransfer?.items ?? [])].some(({ kind }) => kind === "file");
    return carriesFiles || (onDragOver?.apply(this, arguments) ?? false);
  };
  node.onDragDrop = async function (event) {
    const files = [...(event?.dataTransfer?.files ?? [])].filter(({ name }) => isOurs(name));
    // One video goes the host's way, and one picture may be a workflow.
    if (!files.length || (files.length === 1 && /^(video|image)\//.test(files[0].type)))
      return (await onDragDrop?.apply(this, arguments)) ?? false;
    await take(files);
    return true;
  };
}

const isOurs = (name) => SUFFIXES.some((suffix) => name.toLowerCase().endsWith(suffix));

async function send(api, files, say) {
  const limit = await limitOf(api);
  if (sizeOf(files) > limit) throw new Error(tooLarge(say, sizeOf(files), limit));
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name);
  const answer = await api.fetchApi(UPLOAD, { method: "POST", body });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.reason ?? `${answer.status} ${answer.statusText}`);
  return told;
}

// In words: what it was, whether its name was taken, and where it went.
function outcome(answer, { given, several }, say) {
  const { folder, name, video, depth, camera, poses, unused } = answer;
  const parts = [
    video && say("video", { count: answer.frames }),
    depth && say("depth", { count: answer.depth_frames }),
    camera && say("camera"),
    poses && say("poses"),
  ].filter(Boolean);
  const sentences = [
    answer.reused ? say("reused", { folder }) : folder === name ? "" : say("renamed", { folder, name }),
    given.length ? say("given", { nodes: given.join(", ") }) : "",
    several.length ? say("several") : "",
    unused.length ? say("unused", { names: unused.join(", ") }) : "",
  ];
  return [`${folder}: ${parts.join(", ")}.`, ...sentences.filter(Boolean)].join(" ");
}
