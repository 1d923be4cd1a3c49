// The strip: the ego video for every λ_g with every LoRA strength, made in one run of its own
// beside the graph's.
import { behind } from "../prompts.mjs";

export const LAMBDAS = [0, 1, 3, 10]; // columns
export const STRENGTHS = [0.5, 1]; // rows
const END_MS = 2000; // in which a run's end is heard, once the queue is empty
const FIRST_ID = 1000001; // of nodes that the page's graph doesn't have

// The page's prompt with the nodes that depend on the two values doubled behind a sweep, so that
// all others come from the server's cache, and its decoder's new id; null where the graph isn't one
// of which that is known.
export function stripPrompt(prompt, decoder) {
  const sampler = prompt[decoder]?.inputs.latent?.[0];
  if (typeof prompt[sampler]?.inputs.lambda_g !== "number") return null;
  const models = [];
  for (let id = prompt[sampler].inputs.model?.[0]; id in prompt; id = prompt[id].inputs.model?.[0])
    models.push(id);
  const lora = models.findLastIndex((id) => typeof prompt[id].inputs.strength === "number");
  if (lora < 0) return null;

  let next = FIRST_ID;
  const sweep = String(next++);
  const doubled = new Map(
    [decoder, sampler, ...models.slice(0, lora + 1)].map((id) => [id, String(next++)]),
  );
  const strip = {};
  for (const id of behind(prompt, decoder))
    if (![decoder, sampler].includes(id)) strip[id] = prompt[id];
  for (const [id, copy] of doubled)
    strip[copy] = { ...prompt[id], inputs: { ...prompt[id].inputs } };
  const copyOf = (id) => strip[doubled.get(id)].inputs;
  for (const id of doubled.keys())
    for (const [name, value] of Object.entries(copyOf(id)))
      if (doubled.has(value?.[0])) copyOf(id)[name] = [doubled.get(value[0]), value[1]];
  strip[sweep] = {
    class_type: "EgoXSweep",
    inputs: { lambda_g: LAMBDAS.join(", "), strength: STRENGTHS.join(", ") },
  };
  copyOf(sampler).lambda_g = [sweep, 0];
  copyOf(models[lora]).strength = [sweep, 1];
  for (const name of ["exo_images", "prior", "ground_truth"]) delete copyOf(decoder)[name];
  // The host runs what an output needs.
  strip[next] = { class_type: "PreviewAny", inputs: { source: [doubled.get(decoder), 1] } };
  return { prompt: strip, decoder: doubled.get(decoder), sampler: doubled.get(sampler) };
}

let secondsOfRun = null; // of the last one in which something was sampled

// How long so many runs will take, by the last one; null before the first.
export const minutesOf = (runs) =>
  secondsOfRun === null ? null : Math.max(1, Math.round((runs * secondsOfRun) / 60));

export function timeRuns(api) {
  let [begun, sampled] = [0, false];
  api.addEventListener("execution_start", () => ([begun, sampled] = [performance.now(), false]));
  api.addEventListener(
    "egox.live",
    ({ detail }) => (sampled = Number(detail.node) < FIRST_ID || detail.node.includes(":")),
  );
  api.addEventListener("execution_success", () => {
    if (sampled) secondsOfRun = (performance.now() - begun) / 1000;
  });
}

// Asks the server for a node's strip: its previews, one a pair, the strength of the first row
// first. told({ cell, step, total, preview }): what a pair looks like after a step. Rejects where
// the graph has none, or where the run is refused, fails, is cancelled (by the signal too) or
// deleted from the queue.
export async function makeStrip(app, api, decoder, told, signal) {
  const { output, workflow } = await app.graphToPrompt();
  const asked = stripPrompt(output, decoder);
  if (!asked) throw new Error("stripUnknown");
  const ended = new AbortController();
  const listen = (kind, heard) => api.addEventListener(kind, heard, { signal: ended.signal });
  try {
    return await new Promise((made, failed) => {
      // by number: { previews, end }; what is cached may be there before the server's answer is
      const runs = new Map();
      let number = null;
      let cell = -1;
      const note = (detail, told) => {
        const run = { ...runs.get(detail.prompt_id), ...told };
        runs.set(detail.prompt_id, run);
        if (detail.prompt_id === number) run.end?.(run);
      };
      const cancelled = () => failed(new Error("stripCancelled"));
      signal.addEventListener("abort", () => {
        // The first ends one that waits, the second one that runs.
        api.deleteItem("queue", number);
        api.interrupt(number);
        cancelled();
      });
      listen("egox.live", ({ detail: { node, step, total, preview } }) => {
        if (node !== asked.sampler) return;
        if (step === 1) cell += 1;
        told({ cell, step, total, preview });
      });
      // Of one that was deleted before it began, nothing is heard but that there are none left.
      listen("status", ({ detail }) => {
        if (number !== null && detail?.exec_info?.queue_remaining === 0)
          setTimeout(cancelled, END_MS);
      });
      const good = ({ previews }) =>
        previews ? made(previews) : failed(new Error("stripUnknown"));
      listen("executed", ({ detail }) => {
        if (detail.node === asked.decoder) note(detail, { previews: detail.output.egox_preview });
      });
      listen("execution_success", ({ detail }) => note(detail, { end: good }));
      for (const kind of ["execution_error", "execution_interrupted"])
        listen(kind, ({ detail }) =>
          note(detail, {
            end: () => failed(new Error(detail.exception_message ?? "stripCancelled")),
          }),
        );
      api.queuePrompt(0, { output: asked.prompt, workflow }).then((answer) => {
        number = answer.prompt_id;
        note({ prompt_id: number }, {});
      }, failed);
    });
  } finally {
    ended.abort();
  }
}
