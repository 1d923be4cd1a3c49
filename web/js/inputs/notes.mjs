// Notes of our graphs: the page's own colours of text, code and links don't stand out from the
// brown of a note. Notes of other graphs stay as they are.
import { addCss } from "../editor/view/elements.mjs";

const IN_NOTES = "body.egox-graph :is(.comfy-markdown-content, .comfy-markdown .tiptap)";
const CSS = `
${IN_NOTES} { color: var(--fg-color, var(--foreground)); }
${IN_NOTES} :is(a, td, code) { color: inherit; }
${IN_NOTES} :is(a, code) { font-weight: 600; }
${IN_NOTES} code { background: #0003; }`;

export function colourNotes(isOurs) {
  addCss("egox-notes", CSS);
  document.body.classList.toggle("egox-graph", isOurs);
}
