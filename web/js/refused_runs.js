// A run that the server refuses: the form rings the node's rows and says no more than that some input is invalid, so
// what our nodes have to say is said here, with the field.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./previews/node.mjs";

const LIFE = 20000; // ms

app.registerExtension({
  name: "EgoX.RefusedRuns",
  setup() {
    const { fetchApi } = api;
    api.fetchApi = async function (route, options) {
      const answer = await fetchApi.apply(this, arguments);
      if (route === "/prompt" && options?.method === "POST" && !answer.ok) tell(answer.clone());
      return answer;
    };
  },
});

async function tell(answer) {
  const { node_errors: refused } = await answer.json().catch(() => ({}));
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
