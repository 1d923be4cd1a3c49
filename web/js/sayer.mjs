// say(key, values): the text of a key, its {names} filled in; what the page's language lacks is
// said in English, what neither has is `otherwise`.
export function sayer(own, english) {
  return (key, values = {}, otherwise = key) =>
    (own?.[key] ?? english?.[key])?.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") ??
    otherwise;
}

// A message of the server with the page's own words for our buttons, which stand in quotes there,
// and for our nodes: it is English, and what it tells one to press is not.
export function inWordsOf(own, english) {
  const buttons = new Map();
  for (const [room, texts] of Object.entries(english?.egox ?? {}))
    for (const [key, text] of Object.entries(texts)) buttons.set(text, own?.egox?.[room]?.[key]);
  const nodes = new Map(
    Object.entries(english?.nodeDefs ?? {}).map(([type, { display_name: name }]) => [
      name,
      own?.nodeDefs?.[type]?.display_name,
    ]),
  );
  // the longest first, since one name may begin another
  const names = [...nodes.keys()].sort((a, b) => b.length - a.length);
  // other packs' names, too, which may have any sign
  const literals = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const anyNode = new RegExp(`\\b(?:${literals.join("|")})\\b`, "g");
  return (message) =>
    message
      .replace(/'([^'\n]+)'/g, (quoted, text) => `'${buttons.get(text) ?? text}'`)
      .replace(names.length ? anyNode : /$^/g, (name) => nodes.get(name) ?? name);
}
