// What was made of an exo video that is no longer the chosen one: greyed under that video's name,
// in our players and where the host shows files.
import { addCss } from "../editor/view/elements.mjs";
import { allNodes, filesOf, LOADER } from "../graph_change.mjs";
import { sayerOf } from "../page_texts.mjs";

const STYLE = "egox-old-style";

// The exo videos of results, by the id of their run or the selector of their file.
const clipsOf = new Map();
// a cached one is of its own run
const remember = (key, files) => clipsOf.has(key) || clipsOf.set(key, files);

// The page may show another workflow, or another video, when the results come.
export function noteQueued(run, prompt) {
  const loaders = Object.values(prompt ?? {}).filter((node) => node.class_type === LOADER);
  const files = loaders.map(({ inputs }) => inputs.file).filter((file) => typeof file === "string");
  if (run && loaders.length) clipsOf.set(run, files);
}

export const noteRun = (app, run) => run && remember(run, filesOf(app));

export function noteFiles(app, run, output) {
  const files = clipsOf.get(run) ?? filesOf(app);
  for (const file of Object.values(output ?? {}).flat()) {
    if (!file?.filename) continue;
    const [name, folder] = [file.filename, file.subfolder].map(encodeURIComponent);
    remember(`video[src*="filename=${name}&"][src*="subfolder=${folder}"]`, files);
  }
}

// Further videos may have joined them since.
export const isOfClip = (app, run) =>
  (clipsOf.get(run) ?? []).every((file) => filesOf(app).includes(file));

// What is to be said of a run, "" of one whose video is the chosen one.
export function saidOfOld(app, key) {
  if (isOfClip(app, key)) return "";
  const names = clipsOf.get(key).map((file) => file.split("/").slice(-2).join("/"));
  return sayerOf("previews")("old", { video: names.join(", ") });
}

export function markOld(app) {
  for (const node of allNodes(app)) node.egoxPreview?.refreshBadge();
  const rules = [...clipsOf.keys()].filter((key) => key.startsWith("video") && !isOfClip(app, key));
  addCss(STYLE, "");
  document.getElementById(STYLE).textContent = rules
    .map(
      (shown) => `${shown} { filter: grayscale(1) opacity(0.4); }
:has(> ${shown}[controls]) { position: relative; }
:has(> ${shown}[controls])::after { content: ${JSON.stringify(saidOfOld(app, shown))}; position: absolute; top: 50%;
  left: 50%; translate: -50% -50%; text-align: center; padding: 2px 8px; border-radius: 4px; background: #f2c230; color: #201a00;
  font: 600 12px/1.3 sans-serif; }`,
    )
    .join("\n");
}
