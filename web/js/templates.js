// The cards of our graphs in the template chooser. A pack gives the host names alone, which a card
// shows twice: as its title and as its description. Here the description says what the graph does
// and needs, and the one that needs nothing comes first.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { sayerOf } from "./page_texts.mjs";

const ORDER = ["egox_demo", "egox_preview", "egox_one_video", "egox_basic", "egox_fast"];

app.registerExtension({
  name: "EgoX.Templates",
  setup() {
    const say = sayerOf("templates");
    const style = document.createElement("style");
    const texts = ORDER.map((name) => textOf(name, say(name)));
    style.textContent = [SHOWN_TEXT, ...texts].join("\n");
    document.head.append(style);
    const { getWorkflowTemplates } = api;
    api.getWorkflowTemplates = async function () {
      const all = await getWorkflowTemplates.apply(this, arguments);
      for (const names of Object.values(all))
        if (names.includes(ORDER[0])) names.sort((a, b) => place(a) - place(b));
      return all;
    };
  },
});

const place = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);

// By a style: the page writes the card's own text anew whenever it likes, and newer ones leave the
// second name out. One rule shows the texts of all cards, since the page asks it of each of its
// parts whenever one of them changes.
const CARD = '[data-testid^="template-workflow-egox_"]';
const SHOWN_TEXT = `
  ${CARD} h3 ~ p { display: none; }
  ${CARD} div:has(> h3)::after {
    content: var(--egox-card); font-size: 0.75rem; line-height: 1.35; opacity: 0.7;
  }`;

const textOf = (name, text) =>
  `[data-testid="template-workflow-${name}"] { --egox-card: ${JSON.stringify(text)}; }`;
