// A run that the server refuses, as a whole, in part or in its course: the form rings the node's
// rows and says no more than that some input is invalid, or how many errors there are, so what our
// nodes have to say is said here, with the field, and which weights are missing.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { filesOf, hideElsewhere, lacksFile, noteFile, showMissing } from "./missing_files.mjs";
import { forgetMended, noteFaults } from "./mended.mjs";
import { findNode } from "./previews/node.mjs";
import { inPageWords, sayerOf } from "./page_texts.mjs";
import { behind } from "./prompts.mjs";
import { toast } from "./toasts.mjs";

const ORDER = ["EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXEgoPoseInput"]; // what to mend first
const PRIOR = "EgoXRenderEgoPrior";
const ROW = '[data-testid="app-mode-widget-item"]';
const NUMBER = ':has([role="slider"], [role="spinbutton"], [role="switch"])';
const RINGED = ":is(.ring-node-stroke-error, .ring-destructive)"; // the second: on newer pages
const rings = document.createElement("style");
let endedRun = null; // the last that made what it could
const REFUSAL = "EgoXInputError"; // also of a host's node, as of a sampler whose model is ours

app.registerExtension({
  name: "EgoX.RefusedRuns",
  afterConfigureGraph: hideElsewhere,
  setup() {
    document.head.append(rings);
    api.addEventListener("execution_success", ({ detail }) => (endedRun = detail.prompt_id));
    api.addEventListener("execution_error", async ({ detail }) => {
      ringNumbersOf([detail.node_id]);
      const takeAway = tellFault(detail);
      noteFaults([detail.node_id], (await app.graphToPrompt()).output, takeAway);
    });
    api.addEventListener("graphChanged", () => forgetMended(app));
    // of a field, which the page hears of later
    window.addEventListener("change", () => forgetMended(app));
    const { fetchApi } = api;
    api.fetchApi = async function (route, options) {
      const answer = await fetchApi.apply(this, arguments);
      if (route !== "/prompt" || options?.method !== "POST") return answer;
      const said = await answer
        .clone()
        .json()
        .catch(() => null);
      const faults = Object.entries(said?.node_errors ?? {});
      if (!faults.length) {
        noteFaults([], {}, null);
        return answer;
      }
      const { prompt } = JSON.parse(options.body);
      for (const [id, fault] of faults) {
        const inputs = prompt?.[id]?.inputs ?? {};
        fault.errors = atTheirInputs(fault.errors, inputs);
        noteFile(fault, inputs);
      }
      const takeAway = tell(answer.ok, faults, prompt ?? {}, said.prompt_id);
      noteFaults(Object.keys(said.node_errors), prompt ?? {}, takeAway);
      return new Response(JSON.stringify(said), answer);
    };
  },
});

// The form rings every row of a subgraph in which something is missing: numbers keep their ring
// where a node of these ids has a fault of its own.
function ringNumbersOf(ids) {
  const others = ids
    .map((id) => `:not([data-widget-key*=":${String(id).split(":")[0]}:"])`)
    .join("");
  rings.textContent = `${ROW}${others} ${RINGED}${NUMBER} { box-shadow: none; }`;
}

// The host gives a node's reason once for each input that the node looks at: it is kept at the one
// that it begins with, or names by itself or by its file, or at the socket that it says to connect,
// else at the first.
function atTheirInputs(errors, inputs) {
  const reasons = new Set();
  return errors.filter((error) => {
    const { details, extra_info: info } = error;
    if (error.type !== "custom_validation_failed" || !details.startsWith(`${info.input_name} - `))
      return true;
    const reason = details.slice(info.input_name.length + 3);
    if (reasons.has(reason)) return false;
    reasons.add(reason);
    const [what] = reason.replace(/^λ/, "lambda").split(":");
    const names = ([name, value]) =>
      name === what.toLowerCase().replaceAll(" ", "_") ||
      reason.includes(`got ${name},`) ||
      (/\.\w+$/.test(value) && reason.includes(value.split(/[\\/]/).pop()));
    const [, socket] = reason.match(/Fix: connect '(\w+)'/) ?? [];
    const named = Object.entries(inputs).find(names)?.[0] ?? info.input_name;
    info.input_name = socket && !(socket in inputs) ? socket : named;
    error.details = `${info.input_name} - ${reason}`;
    return true;
  });
}

function tellFault({
  node_id: id,
  node_type: kind,
  exception_type: type,
  exception_message: message,
}) {
  const isRefusal = type?.endsWith(REFUSAL);
  if (!isRefusal && !kind?.startsWith("EgoX")) return;
  const said = isRefusal ? message.trim() : `${type}: ${message.trim()}`;
  return toast(app, "error", `${findNode(app, id)?.title ?? kind}: ${inPageWords(said)}`);
}

// What a press of Run lacks: a message of what is to mend, and a panel of the files that aren't
// there. isPart: something is made all the same, by the run of this id.
function tell(isPart, faults, prompt, run) {
  // The host's own dependent_outputs also hold the faults of outputs that it happened to look at
  // before.
  const priors = Object.keys(prompt).filter((id) => prompt[id].class_type === PRIOR);
  const neededByPrior = new Set(priors.flatMap((id) => [...behind(prompt, id)]));
  const own = ownFaults(faults);
  ringNumbersOf(faults.filter(([, { errors }]) => !errors.every(lacksFile)).map(([id]) => id));
  const now = filesOf(faults.filter(([id]) => neededByPrior.has(id)));
  const named = new Set(now.map(({ name }) => name));
  const model = filesOf(faults).filter(({ name }) => !named.has(name));
  const ends = [];
  if (own.length) ends.push(toast(app, "error", own.join("\n"), Infinity));
  if (now.length || model.length) {
    const hasPrior = isPart && !faults.some(([id]) => neededByPrior.has(id));
    const panel = showMissing({ now, model, hasPrior });
    const ended = new AbortController();
    // The lists would lie over what the run has made; a short one may end before this is known.
    const fold = () => endedRun === run && panel.fold();
    fold();
    api.addEventListener("execution_success", fold, { signal: ended.signal });
    ends.push(() => ended.abort(), panel.takeAway);
  }
  return ends.length ? () => ends.forEach((end) => end()) : null;
}

function ownFaults(faults) {
  const rank = ([, { class_type: kind }]) => ORDER.indexOf(kind) + 1 || ORDER.length + 1;
  // The host repeats a reason for each input that the node looks at, and nodes that need the same
  // file for each of them; the first is the one it is about.
  const reasons = new Map();
  for (const [id, { class_type: kind, errors }] of faults.sort((a, b) => rank(a) - rank(b))) {
    if (!kind.startsWith("EgoX")) continue;
    const node = findNode(app, id);
    for (const { type, message, details, extra_info: info } of errors) {
      if (lacksFile({ type, extra_info: info })) continue;
      const field = info?.input_name;
      const reason = details?.startsWith(`${field} - `)
        ? details.slice(field.length + 3)
        : `${message}: ${details}`;
      const label = node?.inputs?.find(({ name }) => name === field)?.label ?? field;
      const title = node?.title ?? kind;
      if (!reasons.has(reason))
        reasons.set(reason, { title, place: [title, label].filter(Boolean).join(": ") });
    }
  }
  return [...reasons].map(([reason, { title, place }]) => {
    return `${place}: ${inPageWords(inShort(reason, title))}`;
  });
}

// Of what isn't there: that, and the first way to it; the page's own list of errors has all, the
// node's help the rest.
function inShort(reason, title) {
  const [, got, fix] = reason.match(/: got (.*?); expected .*?\. Fix: (.*)$/s) ?? [];
  if (!/^no |not there/.test(got)) return reason;
  const [first, ...others] = fix.split("; or ");
  const lines = [`${got}.`, `${first[0].toUpperCase()}${first.slice(1)}.`];
  if (others.length) lines.push(sayerOf("previews")("moreWays", { node: title }));
  return lines.join(" ");
}
