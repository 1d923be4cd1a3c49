// What stands on the node: a button for the user's own files, and a line that says what became of
// them. They may be dropped anywhere on the node as well, folders too.
import { button, make } from "../editor/view/elements.mjs";
import { filesOf, LOADER, onChange } from "../graph_change.mjs";
import { addRow } from "../node_element.mjs";
import { postForm } from "../post_form.mjs";
import { toast } from "../toasts.mjs";
import { entriesOf, filesIn } from "./folders.mjs";
import { UPLOAD, megabytes, sizeOf, takenBy, tooLarge } from "./limit.mjs";
import { needsDepth, otherTakesVideo, placeUpload } from "./place.mjs";
import { framesSaid } from "./seconds.mjs";
import { trimBar } from "./trim.mjs";
import { carriesWorkflow, keptDrop, loneFile } from "./workflows.mjs";

const FILES = ["file", "depth_file", "camera_file"]; // the nodes' inputs
let takeAway = () => {}; // the message of the last upload

export function attachUpload(app, api, node, say) {
  const note = make(
    "div",
    "egox-ed-node-note",
    { "data-testid": "egox-upload-note", title: say("hint") },
    say("hint"),
  );
  const chooser = make("input", "", { type: "file", multiple: true });
  let suffixes = []; // until the server has told
  takenBy(api).then((taken) => {
    suffixes = taken.suffixes;
    chooser.accept = suffixes.join(",");
  });
  const isOurs = ({ name }) => suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
  const open = button("egox-upload", say("upload"), say("hint"), () => chooser.click());
  const question = make("div", "egox-ed-question", { hidden: true });
  const trim = node.constructor.comfyClass === LOADER ? [trimBar(app, api, node, say)] : [];
  addRow(node, "egox_upload", "egoxUpload", say("nodeLabel"), open, question, note, ...trim);
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);

  const tell = (text, severity, more) => {
    showQuestion();
    note.textContent = note.title = text;
    note.classList.toggle("egox-ed-node-fault", severity === "error");
    if (!severity) return;
    takeAway();
    takeAway = toast(app, severity, [text, more].filter(Boolean).join(" "));
  };
  // In place of the upload's button; none: that again.
  const showQuestion = (...answers) => {
    question.replaceChildren(...answers);
    question.hidden = !answers.length;
    open.hidden = answers.length > 0;
  };
  // Whether the second video of an upload, whose camera turns, is the wearer's own view.
  const askOf = ({ turning, video }) => {
    const name = lastOf(turning);
    const useIt = () =>
      postForm(api, `${UPLOAD}/truth`, JSON.stringify({ ego: turning, exo: video })).then(
        () => tell(say("isTruth", { name }), "success"),
        (error) => tell(say("unused", { names: name }) + ` ${error.message}`, "error"),
      );
    const leaveOut = () => tell(say("unused", { names: name }));
    showQuestion(
      button("egox-truth", say("useAsTruth"), say("useAsTruthHelp"), useIt),
      button("egox-no-truth", say("leaveOut"), say("leaveOut"), leaveOut),
    );
  };
  // Of a file that came another way the line knows nothing.
  onChange(node, FILES, () => tell(say("hint")));
  // ``chosen``: promises [{ path, file }].
  const take = async (chosen) => {
    open.disabled = true;
    try {
      const files = await chosen;
      const size = sizeOf(files.map(({ file }) => file));
      tell(say("sending", { size: megabytes(size) }));
      const answer = await send(api, files, size, say);
      const other = otherTakesVideo(answer, filesOf(app));
      if (other) {
        const head = answer.truth && say("headVideo", { name: lastOf(answer.truth) });
        const missing = say("noExo", { parts: partsOf(answer, say).join(", "), video: other });
        throw new Error([head, missing].filter((text) => text).join(" "));
      }
      const placed = placeUpload(app, node, answer);
      const before = filesOf(app)[0];
      const differ = otherNames(answer.depth, answer.video ?? before);
      const asked = answer.turning && say("turns", { name: lastOf(answer.turning) });
      const kept =
        !answer.video &&
        (answer.depth || answer.camera) &&
        before &&
        say("videoKept", { video: before });
      const said = [asked, outcome(answer, placed, say), kept, differ && say("otherName", differ)];
      // below the video, too
      const bare = answer.video && !answer.depth && needsDepth(app) && say("noDepth");
      tell(
        said.filter(Boolean).join(" "),
        differ || asked || kept || bare ? "warn" : "success",
        bare,
      );
      if (asked && answer.turning !== answer.video) askOf(answer);
    } catch (error) {
      tell(say("failed", { reason: error.message }), "error");
    }
    open.disabled = false;
  };
  const plain = (files) => files.map((file) => ({ path: file.name, file }));
  chooser.addEventListener("change", () => {
    const files = plain([...chooser.files]);
    chooser.value = ""; // the same file again is a change, too
    if (files.length) take(files);
  });

  const { onDragOver, onDragDrop } = node;
  node.onDragOver = function (event) {
    const carriesFiles = [...(event?.dataTransfer?.items ?? [])].some(
      ({ kind }) => kind === "file",
    );
    return carriesFiles || (onDragOver?.apply(this, arguments) ?? false);
  };
  node.onDragDrop = async function (event) {
    if (!event?.dataTransfer) return false;
    const entries = entriesOf(event.dataTransfer);
    // else it is a row of the form, where the host goes no further
    const onPage = event.currentTarget === document;
    const kept = keptDrop(event);
    const lone = entries ? null : await loneFile(kept);
    const files = [...kept.dataTransfer.files].filter(isOurs);
    const openLone = () => app.handleFile(lone, "file_drop").then(() => true);
    if (lone && (await carriesWorkflow(lone))) return openLone();
    // One video goes the host's way, and of one picture the host may make something.
    if (
      !entries &&
      (!files.length || (files.length === 1 && /^(video|image)\//.test(files[0].type)))
    )
      return (await onDragDrop?.call(this, kept)) || (lone && onPage ? openLone() : false);
    await take(entries ? inFolders(api, entries, isOurs, say) : plain(files));
    return true;
  };
}

async function inFolders(api, entries, isOurs, say) {
  const { files } = await takenBy(api);
  return filesIn(entries, isOurs, files).catch((error) => {
    throw error instanceof RangeError ? new Error(say("tooMany", { count: files })) : error;
  });
}

async function send(api, files, size, say) {
  const { limit } = await takenBy(api);
  if (size > limit) throw new Error(tooLarge(say, size, limit));
  const body = new FormData();
  for (const { path, file } of files) body.append("file", file, path);
  return postForm(api, UPLOAD, body);
}

const lastOf = (path) => path.split("/").pop();

// The two files' names where neither is in the other, but for words that say what the file is.
function otherNames(...paths) {
  const [depth, video] = paths.map((path) => path?.split("/").pop());
  const [a, b] = [depth, video].map((name) =>
    name
      ?.toLowerCase()
      .replace(/\.\w+$/, "")
      .replace(/depths?|maps?|metric|exo|video|[^\p{L}\d]/gu, ""),
  );
  return a && b && !a.includes(b) && !b.includes(a) ? { depth, video } : null;
}

function partsOf(
  { video, depth, camera, poses, truth, hands, frames, depth_frames: depthFrames },
  say,
) {
  return [
    video && say("video", { frames: framesSaid(say, frames) }),
    depth && say("depth", { frames: framesSaid(say, depthFrames) }),
    camera && say("camera"),
    poses && say("poses"),
    video && truth && say("truth"),
    hands && say("hands"),
  ].filter((part) => part);
}

// In words: what it was, whether its name was taken, and where it went.
function outcome(answer, { given, several, out }, say) {
  const { folder, name, unused } = answer;
  const sentences = [
    answer.reused || folder === name ? "" : say("renamed", { name }),
    given.length ? say("given", { nodes: given.join(", ") }) : "",
    several.length ? say("several") : "",
    out.length ? say("leftOut", { nodes: out.join(", ") }) : "",
    unused.length ? say("unused", { names: unused.join(", ") }) : "",
  ];
  return [`${folder}: ${partsOf(answer, say).join(", ")}.`, ...sentences.filter(Boolean)].join(" ");
}
