// The editor's elements, put together; what they do stands with the parts.
import { ExoView } from "./exo_view.mjs";
import { Fields } from "./fields.mjs";
import { Files } from "./files.mjs";
import { SideView } from "./side_view.mjs";
import { Timeline } from "./timeline.mjs";
import { button, make } from "./elements.mjs";
import { handleKey } from "./shortcuts.mjs";

const TOOLS = ["move", "turn", "look", "snap", "aim"];
const KEPT = [
  "keydown",
  "keyup",
  "pointerdown",
  "pointerup",
  "wheel",
  "contextmenu",
  "copy",
  "paste",
  "dragover",
  "drop",
];

export function buildLayout(editor) {
  const { say, state, server } = editor;
  const canvas = make("canvas", "", { tabIndex: 0, "data-testid": "egox-view", "aria-label": say("view") });
  const hint = make("div", "egox-ed-hint", { "data-testid": "egox-hint" });
  const tools = Object.fromEntries(
    TOOLS.map((tool) => [
      tool,
      button(`egox-tool-${tool}`, say(tool), say(`${tool}Help`), () => editor.chooseTool(tool)),
    ]),
  );
  const movingPoints = make("input", "", {
    type: "checkbox",
    checked: true,
    "data-testid": "egox-moving",
    onchange: () => editor.scene.showMoving(),
  });
  const banner = make("div", "egox-ed-banner", { hidden: true, role: "status", "data-testid": "egox-banner" });
  const empty = make("div", "egox-ed-empty", { hidden: true, "data-testid": "egox-empty" });
  const bar = make(
    "div",
    "egox-ed-tools",
    { role: "toolbar" },
    ...Object.values(tools),
    button("egox-frame-all", say("focus"), say("focusHelp"), () => editor.frameAll()),
    make("label", "egox-ed-check", { title: say("movingPointsHelp") }, movingPoints, say("movingPoints")),
  );
  const main = make("section", "egox-ed-main", { "aria-label": say("view") }, canvas, bar, hint, banner, empty);

  const undoButton = button("egox-undo", "↶", say("undo"), () => state.undo());
  const redoButton = button("egox-redo", "↷", say("redo"), () => state.redo());
  const status = make("span", "egox-ed-status", { role: "status", "data-testid": "egox-status" });
  const files = new Files(
    server,
    say,
    () => editor.context(),
    (content) => editor.takeDocument(content),
    (text) => editor.tell(text),
  );
  const head = make(
    "header",
    "egox-ed-head",
    {},
    make("h2", "", {}, say("title")),
    undoButton,
    redoButton,
    files.element,
    status,
    make("span", "egox-ed-gap"),
    button("egox-load", say("load"), say("emptyRun"), () => editor.scene.load()),
    button("egox-help", "?", say("help"), () => editor.tell(say("keys"))),
    button("egox-close", say("done"), say("close"), () => editor.close()),
  );

  const timeline = new Timeline(state, say);
  const fields = new Fields(state, say);
  const gone = () => editor.scene.isGone();
  const side = new SideView(server, say, gone);
  const exo = new ExoView(server, say, {
    onPlace: (point) => editor.placeAt(point),
    onAim: (point) => editor.aimAt(point),
    onGone: gone,
  });
  const root = make(
    "div",
    "egox-ed",
    { tabIndex: -1, role: "dialog", "aria-modal": "true", "aria-label": say("title"), "data-testid": "egox-editor" },
    head,
    main,
    make("aside", "egox-ed-side", {}, side.element, exo.element),
    make("footer", "egox-ed-foot", {}, timeline.element, fields.element),
  );
  const back = make("div", "egox-ed-back", { "data-testid": "egox-editor-back" }, root);
  // The page's own shortcuts (and its canvas) must not see what is meant for the editor.
  for (const kind of KEPT) back.addEventListener(kind, (event) => event.stopPropagation());
  back.addEventListener("contextmenu", (event) => event.preventDefault());
  root.addEventListener("keydown", (event) => handleKey(editor, event));
  return {
    canvas,
    hint,
    tools,
    movingPoints,
    banner,
    empty,
    undoButton,
    redoButton,
    status,
    files,
    timeline,
    fields,
    side,
    exo,
    root,
    back,
  };
}
