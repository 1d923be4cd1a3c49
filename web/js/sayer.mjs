// What the page says, in its language: a room's texts are { en, ja, ko, zh }, each a table from key to text, in which
// {names} are gaps to fill.

export const languageOf = (app) => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";

// say(key, values): what a language lacks is said in English; what no table has is `otherwise`.
export function sayer(texts, language) {
  const own = texts[String(language).split("-")[0]] ?? texts.en;
  return (key, values = {}, otherwise = key) =>
    (own[key] ?? texts.en[key])?.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") ?? otherwise;
}
