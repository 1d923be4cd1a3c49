// Texts of the page in its language: locales/<language>/ of this pack, which the host serves with every pack's.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { sayer } from "./sayer.mjs";

const all = await api
  .fetchApi("/i18n")
  .then((answer) => answer.json())
  .catch(() => ({}));
const language = () => String(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en").split("-")[0];

// Of nodes' inputs, by the node's type.
export const nodeTexts = () => all[language()]?.nodeDefs ?? {};

// say() of a room: "editor", "inputs", "previews", "uploads".
export const sayerOf = (room) => sayer(all[language()]?.egox?.[room], all.en?.egox?.[room]);
