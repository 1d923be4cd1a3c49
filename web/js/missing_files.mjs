// The model files that a run lacks: which ones, and the panel that lists them, with links, for the
// picture that can be had now and for the model.
import { app } from "../../scripts/app.js";
import { addCss, make } from "./editor/view/elements.mjs";
import { allNodes, autoMoge, MOGE } from "./graph_change.mjs";
import { sayerOf } from "./page_texts.mjs";
import { keepBelow, keepOffForm } from "./toasts.mjs";

// Of the files that the shipped graphs name: GB, folder, place on Hugging Face (docs/weights.md).
const WAN = "Comfy-Org/Wan_2.1_ComfyUI_repackaged";
const FILES = {
  sam3: [1.75, "checkpoints", "Comfy-Org/sam3.1"],
  sdpose: [1.9, "checkpoints", "Comfy-Org/SDPose"],
  moge_2_vits: [
    0.15,
    "geometry_estimation",
    "Ruicheng/moge-2-vits-normal/resolve/main/model.pt",
  ],
  moge: [0.66, "geometry_estimation", "Comfy-Org/MoGe"],
  depth_anything_3_base: [0.54, "geometry_estimation", "Comfy-Org/Depth-Anything-3"],
  "wan2.1_i2v_480p_14B_fp8": [16.4, "diffusion_models", WAN],
  "wan2.1_vace_14B": [34.7, "diffusion_models", WAN],
  "wan2.1_fun_control_1.3B": [3.1, "diffusion_models", WAN],
  umt5_xxl_fp8: [6.7, "text_encoders", WAN],
  "wan_2.1_vae": [0.25, "vae", WAN],
  clip_vision_h: [1.3, "clip_vision", WAN],
  pytorch_lora_weights: [3.4, "loras", "DAVIAN-Robotics/EgoX"],
  qwen3vl_4b: [5.2, "text_encoders", "Comfy-Org/Qwen3-VL"],
  lightx2v: [0.74, "loras", "Kijai/WanVideo_comfy"],
};
const MODEL_FILE = /\.(safetensors|sft|pt|pth|ckpt|gguf)$/;
const AUTO_FILE = "moge_2_vits_normal.pt"; // as nodes/moge_video.py asks for

// The host knows the file by its list, Run MoGe on Video by what it needs.
export const lacksFile = ({ type, extra_info: info }) =>
  info?.egox_file !== undefined ||
  (type === "value_not_in_list" && MODEL_FILE.test(String(info?.received_value)));

// Writes down which file a node that checks its own is refused for.
export function noteFile({ class_type: kind, errors }, { model_name: chosen }) {
  for (const { type, extra_info: info } of kind === MOGE ? errors : [])
    if (type === "custom_validation_failed")
      info.egox_file = (chosen ?? "auto") === "auto" ? AUTO_FILE : chosen;
}

// The files that faults name as not there, the largest first.
export function filesOf(faults) {
  const lacking = faults.flatMap(([, { errors }]) => errors.filter(lacksFile));
  const nameOf = ({ extra_info: info }) => info.egox_file ?? info.received_value;
  return [...new Set(lacking.map(nameOf))].map(describe).sort((a, b) => b.gb - a.gb);
}

let endOfVideo = () => {}; // takes away what was said of the video before

// Of a video that was just chosen: the file that its depth needs, if that isn't there.
export async function tellOfVideo(api, clip) {
  endOfVideo();
  if (!clip || clip.depth || !autoMoge(app)) return;
  const answer = await api.fetchApi(`/object_info/${MOGE}`);
  const [, choice] = (await answer.json())[MOGE].input.optional.model_name;
  if (!choice.egox_auto_file)
    endOfVideo = showMissing({ now: [describe(AUTO_FILE)], model: [] }).takeAway;
}

function describe(name) {
  const known = Object.entries(FILES).find(([stem]) => name.startsWith(stem));
  const [gb, folder, place] = known?.[1] ?? [0];
  // A graph names the file itself, the table its page alone.
  const models = [...allNodes(app)].flatMap(({ properties }) => properties?.models ?? []);
  const model = models.find((each) => each.name === name);
  const url = model?.url ?? (place && `https://huggingface.co/${place}`);
  return { name, gb, folder: folder ?? model?.directory, url };
}

const sizeText = (gb) =>
  gb < 1 ? `${Math.round(gb * 1000)} MB` : `${gb.toFixed(gb < 10 ? 1 : 0)} GB`;
const placeOf = ({ folder }) => (folder ? `models/${folder}` : "");
const lineOf = (file) =>
  [file.name, file.gb && sizeText(file.gb), placeOf(file), file.url].filter(Boolean).join("  ");

const STYLE = `
.egox-missing { position: fixed; z-index: 1100; top: 64px; right: calc(var(--egox-form, 0px) + 20px); width: 400px;
  max-height: calc(100vh - 160px); overflow-y: auto; box-sizing: border-box; padding: 10px 14px; font: 13px/1.4 sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #222); border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 8px; user-select: text; overflow-wrap: anywhere; }
.egox-ed-main > .egox-missing { position: absolute; inset: 50% auto auto 50%; transform: translate(-50%, -50%);
  max-width: 90%; max-height: 90%; z-index: 1; }
.egox-missing summary { cursor: pointer; font-weight: bold; }
.egox-missing ul { margin: 4px 0 8px; padding-left: 18px; }
.egox-missing p { margin: 4px 0; }
.egox-missing a { color: var(--p-primary-color, #4a9eff); }
.egox-missing button { font: inherit; color: inherit; cursor: pointer; margin: 4px 6px 0 0; padding: 2px 10px;
  background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; }`;

let shown = null;

// hasPrior: the ego prior is made all the same. Gives what takes the panel away, and what folds it.
export function showMissing({ now, model, hasPrior }) {
  shown?.remove();
  addCss("egox-missing-style", STYLE);
  keepOffForm();
  const say = sayerOf("previews");
  const panel = make("div", "egox-missing", { "data-testid": "egox-missing" });
  shown = panel;
  const parts = { missingNow: now, missingModel: model };
  const lists = Object.entries(parts).filter(([, files]) => files.length);
  for (const [key, files] of lists) panel.append(listOf(say, say(key), files));
  if (hasPrior) panel.append(make("p", "", {}, say("priorMade")));
  const text = lists
    .map(([key, files]) => [say(key), ...files.map(lineOf)].join("\n"))
    .join("\n\n");
  const copy = async ({ target }) => {
    await copyText(text);
    target.textContent = say("listCopied");
  };
  const takeAway = () => panel.remove();
  panel.append(
    make("button", "", { type: "button", onclick: copy }, say("copyList")),
    make(
      "button",
      "",
      { "data-testid": "egox-missing-close", type: "button", onclick: takeAway },
      say("closeList"),
    ),
  );
  panel.dataset.graph = app.rootGraph.id;
  (document.querySelector(".egox-ed-main") ?? document.body).append(panel);
  // The page's own messages come below it: none of the two lies over the other.
  new ResizeObserver(() => keepBelow(panel.getBoundingClientRect().bottom)).observe(panel);
  const fold = () => {
    for (const list of panel.querySelectorAll("details")) list.open = false;
  };
  return { takeAway, fold };
}

// What lies in the middle of the open pose editor; null where nothing is missing.
export const shownInEditor = () => (shown?.closest(".egox-ed-main") ? shown : null);

export function takeOutOfEditor() {
  if (shownInEditor()) document.body.append(shown);
}

// Its panel stays with the graph that was run, while another tab is looked at.
export function hideElsewhere() {
  if (shown) shown.hidden = shown.dataset.graph !== String(app.rootGraph.id);
}

function listOf(say, title, files) {
  const gb = files.reduce((sum, file) => sum + file.gb, 0);
  const size = gb ? sizeText(gb) : ""; // none of a file that the table doesn't know
  const total = size && files.length > 1 ? say("inAll", { count: files.length, size }) : size;
  const rows = files.map((file) => {
    const place = [file.gb ? sizeText(file.gb) : "", placeOf(file)].filter(Boolean).join(", ");
    const attributes = file.url ? { href: file.url, target: "_blank", rel: "noopener" } : {};
    const link = make(file.url ? "a" : "span", "", attributes, file.name);
    return make("li", "", {}, link, place && ` (${place})`);
  });
  const summary = make("summary", "", {}, [title, total].filter(Boolean).join(": "));
  return make("details", "", { open: true }, summary, make("ul", "", {}, ...rows));
}

// Pages that aren't served by https have no clipboard of their own.
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = make("textarea", "", { value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
