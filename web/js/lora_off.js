// A run whose EgoX LoRA is switched off makes noise: asked before anything is queued, since a node
// could tell it only after 16 GB have been loaded. In a prompt nothing is left of such a node.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addCss, button, make } from "./editor/view/elements.mjs";
import { addStyle } from "./editor/view/style.mjs";
import { sayerOf } from "./page_texts.mjs";
import { behind } from "./prompts.mjs";

const LORA = "EgoXLoadLora";
const SAMPLERS = ["EgoXWanSampler", "EgoXModelPatch", "EgoXSampleLong"];
const OFF = [2, 4]; // modes of a node: muted, bypassed
// They make the steps fewer, and leave EgoX's to be added.
const DISTILLED = /lightx2v|distil|lightning|causvid|accvid|turbo|fusionx/i;

const meant = new WeakSet(); // nodes whose run without them has been asked for

app.registerExtension({
  name: "EgoX.LoraOff",
  setup() {
    const { queuePrompt } = app;
    app.queuePrompt = async function (number, count, more) {
      const targets = Array.isArray(more) ? more : more?.queueNodeIds;
      const off = await loraOff(targets);
      if (!off.length || off.every(([node]) => meant.has(node)))
        return queuePrompt.apply(this, arguments);
      const answer = await ask(off[0][0].title);
      if (!answer) return false;
      if (answer === "on") switchOn(off);
      else off.forEach(([node]) => meant.add(node));
      return queuePrompt.apply(this, arguments);
    };
  },
});

// The LoRAs that are switched off and that a sampler of this run would have: of each its node, then
// the sub-graphs' nodes that it is in.
export async function loraOff(targets) {
  const off = [...lorasOf(app.rootGraph, [])].filter((nodes) => nodes.some(isOff));
  if (!off.length) return [];
  const { output } = await app.graphToPrompt();
  const ids = targets?.length
    ? new Set(targets.flatMap((id) => [...behind(output, String(id))]))
    : new Set(Object.keys(output));
  const lacking = [];
  for (const id of ids)
    if (SAMPLERS.includes(output[id]?.class_type) && (await lacksLora(output, id)))
      lacking.push(id);
  const found = [];
  for (const nodes of lacking.length ? off : [])
    if (await reaches(nodes, lacking)) found.push(nodes);
  return found;
}

function* lorasOf(graph, hosts) {
  for (const node of graph?.nodes ?? []) {
    if (node.constructor.comfyClass === LORA) yield [node, ...hosts];
    if (node.subgraph) yield* lorasOf(node.subgraph, [node, ...hosts]);
  }
}

const isOff = (node) => OFF.includes(node.mode);
const isLora = ({ class_type: kind }) => /lora/i.test(kind);
const filesOf = ({ inputs }) => Object.values(inputs).filter((value) => typeof value === "string");

const modelPath = (prompt, id) => {
  const link = prompt[id]?.inputs.model;
  return Array.isArray(link)
    ? [...behind(prompt, String(link[0]))].map((each) => prompt[each])
    : [];
};

async function lacksLora(prompt, id) {
  const path = modelPath(prompt, id);
  if (path.some((node) => isLora(node) && !filesOf(node).some((name) => DISTILLED.test(name))))
    return false;
  for (const name of path.flatMap(filesOf))
    if (name.endsWith(".safetensors") && (await holdsLora(name))) return false;
  return true;
}

// Of a file into which a LoRA is merged, by our tool or by the host's Save Model of such a graph.
async function holdsLora(name) {
  const about = await api
    .fetchApi(`/view_metadata/diffusion_models?filename=${encodeURIComponent(name)}`)
    .then((answer) => (answer.ok ? answer.json() : {}))
    .catch(() => ({}));
  return "egox.merged" in about || /"class_type": *"[^"]*lora/i.test(about.prompt ?? "");
}

// The host's own export knows the way of every link: whether one of the samplers would have it.
async function reaches(nodes, samplers) {
  const modes = nodes.map((node) => node.mode);
  switchOn([nodes]);
  try {
    const { output } = await app.graphToPrompt();
    const id = [...nodes]
      .reverse()
      .map((node) => node.id)
      .join(":");
    return samplers.some((sampler) => {
      const link = output[sampler]?.inputs.model;
      return Array.isArray(link) && behind(output, String(link[0])).has(id);
    });
  } finally {
    nodes.forEach((node, place) => (node.mode = modes[place]));
  }
}

function switchOn(off) {
  for (const node of off.flat()) if (isOff(node)) node.mode = 0;
  app.canvas?.setDirty(true, true);
}

// Promises "on", "without", or "" where the run isn't wanted.
function ask(title) {
  addStyle();
  addCss("egox-lora-off", CSS);
  const say = sayerOf("previews");
  return new Promise((done) => {
    const close = (answer) => () => dialog.close(answer);
    const dialog = make(
      "dialog",
      "egox-lora-off",
      {
        "data-testid": "egox-lora-off",
        onclose: () => (dialog.remove(), done(dialog.returnValue)),
      },
      make("p", "", {}, say("loraOff", { node: title })),
      button("egox-lora-on", say("loraOn"), say("loraOnHelp"), close("on"), "egox-ed-on"),
      button("egox-lora-without", say("loraWithout"), say("loraWithoutHelp"), close("without")),
      button("egox-lora-cancel", say("loraCancel"), say("loraCancelHelp"), close("")),
    );
    // The page takes Escape for itself, and keys that are meant for the dialog for its graph.
    const onKey = (event) => {
      event.stopImmediatePropagation();
      if (event.key === "Escape") dialog.close("");
    };
    window.addEventListener("keydown", onKey, true);
    dialog.addEventListener("close", () => window.removeEventListener("keydown", onKey, true));
    document.body.append(dialog);
    dialog.showModal();
  });
}

const CSS = `
.egox-lora-off { max-width: 430px; padding: 14px 16px; border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 8px; background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd);
  font: 14px/1.4 sans-serif; margin: auto; }
.egox-lora-off::backdrop { background: #0008; }
.egox-lora-off p { margin: 0 0 12px; }
.egox-lora-off .egox-ed-button { margin-right: 6px; }`;
