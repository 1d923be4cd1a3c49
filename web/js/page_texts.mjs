// Texts of the page in its language: locales/<language>/ of this pack, which the host serves with
// every pack's.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { inWordsOf, sayer } from "./sayer.mjs";

const all = await api
  .fetchApi("/i18n")
  .then((answer) => answer.json())
  .catch(() => ({}));
const language = () =>
  String(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en").split("-")[0];
// A message of the server, with this page's words for our buttons and nodes.
export const inPageWords = (message) => inWordsOf(all[language()], all.en)(message);
// A label of the shipped graphs in any language -> its key: a graph may have been saved by a page
// in another one.
const keys = new Map(
  Object.values(all).flatMap(({ egox }) =>
    Object.entries(egox?.labels ?? {}).map(([key, text]) => [text, key]),
  ),
);

// Of nodes' inputs, by the node's type.
export const nodeTexts = () => all[language()]?.nodeDefs ?? {};

// say() of a room: "editor", "inputs", "labels", "previews", "uploads".
export const sayerOf = (room) => sayer(all[language()]?.egox?.[room], all.en?.egox?.[room]);

// A node's own names are the host's to translate, those that a graph gives to its rows nobody's.
export function translateLabels(node) {
  // Widgets first: in newer pages that of a subgraph takes its label to its slot, not the other
  // way.
  for (const row of [...(node.widgets ?? []), ...(node.inputs ?? [])]) {
    const key = keys.get(row.label);
    const text = key && sayerOf("labels")(key);
    if (text && text !== row.label) row.label = text;
  }
}
