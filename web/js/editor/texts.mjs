// The editor's words in the page's language; what a language lacks is said in English.
import en from "./texts_en.mjs";
import ja from "./texts_ja.mjs";
import ko from "./texts_ko.mjs";
import zh from "./texts_zh.mjs";

export const TEXTS = { en, ko, zh, ja };

export function sayer(language) {
  const texts = TEXTS[String(language).split("-")[0]] ?? en;
  return (key, values = {}) => (texts[key] ?? en[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
