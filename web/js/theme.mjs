// For what is drawn in the page's colours, and so doesn't follow them by itself.

// Gives what ends the watch: its disconnect().
export function onTheme(changed) {
  const watch = new MutationObserver(changed);
  for (const element of [document.documentElement, document.body])
    watch.observe(element, { attributeFilter: ["class", "style"] });
  return watch;
}
