// The red marks of a run's faults go as soon as an input that leads to their node has changed, and
// the message with the first of them; the page itself keeps them until the next run.
import { findNode } from "./previews/node.mjs";
import { behind } from "./prompts.mjs";

const marked = new Map(); // id of a node in the prompt -> what led to it when it was found faulty
let takeMessage = null; // away, of the last run's faults

const leadingTo = (id, prompt) =>
  JSON.stringify([...behind(prompt, id)].map((each) => prompt[each]));

export function noteFaults(ids, prompt, takeAway) {
  takeMessage?.(); // of the run before
  takeMessage = takeAway;
  marked.clear();
  for (const id of ids) marked.set(String(id), leadingTo(String(id), prompt));
}

export async function forgetMended(app) {
  if (!marked.size) return;
  const { output } = await app.graphToPrompt();
  for (const [id, was] of marked) {
    if (leadingTo(id, output) === was) continue;
    marked.delete(id);
    takeMessage?.();
    takeMessage = null;
    delete app.lastNodeErrors?.[id];
    const node = findNode(app, id);
    if (node) node.has_errors = false;
    if (String(app.lastExecutionError?.node_id) === id) forgetRun();
  }
}

// The page offers no way to it but its own store.
function forgetRun() {
  const pinia = document.querySelector("[data-v-app]")?.__vue_app__?.config.globalProperties.$pinia;
  pinia?._s.get("executionError")?.clearExecutionStartErrors?.();
}
