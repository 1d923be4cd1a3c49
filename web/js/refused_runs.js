// A run that the server refuses, as a whole or in part: the form rings the node's rows and says no more than that some
// input is invalid, so what our nodes have to say is said here, with the field, and which weights are missing.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./previews/node.mjs";
import { sayerOf } from "./page_texts.mjs";

const LIFE = 20000; // ms
// GB of the files that the shipped graphs name (docs/weights.md).
const SIZES = {
  sam3: 1.75,
  sdpose: 1.9,
  moge: 0.66,
  depth_anything_3_base: 0.54,
  "wan2.1_i2v_480p_14B_fp8": 16.4,
  umt5_xxl_fp8: 6.7,
  "wan_2.1_vae": 0.25,
  clip_vision_h: 1.3,
  pytorch_lora_weights: 3.4,
  qwen3vl_4b: 5.2,
  lightx2v: 0.74,
};

app.registerExtension({
  name: "EgoX.RefusedRuns",
  setup() {
    const { fetchApi } = api;
    api.fetchApi = async function (route, options) {
      const answer = await fetchApi.apply(this, arguments);
      if (route === "/prompt" && options?.method === "POST") tell(answer.clone());
      return answer;
    };
  },
});

async function tell(answer) {
  const { node_errors: refused } = await answer.json().catch(() => ({}));
  tellMissing(refused);
  if (answer.ok) return;
  for (const [id, { class_type: kind, errors }] of Object.entries(refused ?? {})) {
    if (!kind.startsWith("EgoX")) continue;
    const node = findNode(app, id);
    // The host repeats a reason for each input that the node looks at; the first is the one it is about.
    const reasons = new Map();
    for (const { message, details, extra_info: info } of errors) {
      const field = info?.input_name;
      const reason = details?.startsWith(`${field} - `) ? details.slice(field.length + 3) : `${message}: ${details}`;
      if (!reasons.has(reason)) reasons.set(reason, field);
    }
    for (const [reason, field] of reasons) {
      const label = node?.inputs?.find(({ name }) => name === field)?.label ?? field;
      const summary = [node?.title ?? kind, label].filter(Boolean).join(": ");
      app.extensionManager?.toast?.add({ severity: "error", summary, detail: reason, life: LIFE });
    }
  }
}

function tellMissing(refused) {
  const errors = Object.values(refused ?? {}).flatMap((node) => node.errors);
  const lacking = errors
    .filter(({ type }) => type === "value_not_in_list")
    .map(({ extra_info: i }) => i?.received_value);
  const missing = [...new Set(lacking)].filter((name) => String(name).endsWith(".safetensors"));
  if (!missing.length) return;
  const sizeOf = (name) => Object.entries(SIZES).find(([stem]) => name.startsWith(stem))?.[1];
  const names = missing.map((name) => (sizeOf(name) ? `${name} (${sizeOf(name)} GB)` : name)).join(", ");
  const detail = sayerOf("previews")("missing", { names });
  app.extensionManager?.toast?.add({ severity: "info", summary: "EgoX", detail, life: LIFE });
}
