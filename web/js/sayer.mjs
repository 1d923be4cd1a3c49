// say(key, values): the text of a key, its {names} filled in; what the page's language lacks is
// said in English, what neither has is `otherwise`.
export function sayer(own, english) {
  return (key, values = {}, otherwise = key) =>
    (own?.[key] ?? english?.[key])?.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") ??
    otherwise;
}
