// The editor's elements, put together; what they do stands with the parts and in the wishes.
import { button, checkbox, make, showPressed } from "./elements.mjs";

const TOOLS = ["move", "turn", "look", "snap", "aim"];
const HINTS = {
  move: "hintOrbit",
  turn: "hintOrbit",
  look: "hintLook",
  snap: "hintSnap",
  aim: "hintAim",
};
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

export class Layout {
  // parts: those that bring elements of their own, { timeline, fields, files, side, exo }.
  // wishes: { onTool(tool), onFrameAll(), onMoving(), onUndo(), onRedo(), onLoad(), onHelp(),
  // onPrior() or null, onClose(), onKey(event) }
  constructor(say, parts, wishes) {
    this.say = say;
    this.canvas = make("canvas", "", {
      tabIndex: 0,
      "data-testid": "egox-view",
      "aria-label": say("view"),
    });
    this.hint = make("div", "egox-ed-hint", { "data-testid": "egox-hint" });
    this.tools = Object.fromEntries(
      TOOLS.map((tool) => [
        tool,
        button(`egox-tool-${tool}`, say(tool), say(`${tool}Help`), () => wishes.onTool(tool)),
      ]),
    );
    this.banner = make("div", "egox-ed-banner", {
      hidden: true,
      role: "status",
      "data-testid": "egox-banner",
    });
    this.empty = make("div", "egox-ed-empty", { hidden: true, "data-testid": "egox-empty" });
    this.undo = button("egox-undo", "↶", say("undo"), () => wishes.onUndo());
    this.redo = button("egox-redo", "↷", say("redo"), () => wishes.onRedo());
    this.status = make("span", "egox-ed-status", { role: "status", "data-testid": "egox-status" });
    this.root = make(
      "div",
      "egox-ed",
      {
        tabIndex: -1,
        role: "dialog",
        "aria-modal": "true",
        "aria-label": say("title"),
        "data-testid": "egox-editor",
      },
      this.makeHead(parts.files, wishes),
      this.makeMain(wishes),
      make("aside", "egox-ed-side", {}, parts.side.element, parts.exo.element),
      make("footer", "egox-ed-foot", {}, parts.timeline.element, parts.fields.element),
    );
    this.back = make("div", "egox-ed-back", { "data-testid": "egox-editor-back" }, this.root);
    // The page's own shortcuts (and its canvas) must not see what is meant for the editor.
    for (const kind of KEPT) this.back.addEventListener(kind, (event) => event.stopPropagation());
    this.back.addEventListener("contextmenu", (event) => event.preventDefault());
    this.root.addEventListener("keydown", (event) => wishes.onKey(event));
  }

  makeHead(files, wishes) {
    const { say, undo, redo, status } = this;
    const title = make("h2", "", {}, say("title"));
    const load = button("egox-load", say("load"), say("emptyRun"), () => wishes.onLoad());
    const help = button("egox-help", "?", say("help"), () => wishes.onHelp());
    const done = button("egox-close", say("done"), say("close"), () => wishes.onClose());
    const prior = button("egox-render", say("renderPrior"), say("renderPriorHelp"), wishes.onPrior);
    prior.hidden = !wishes.onPrior;
    const parts = [
      title,
      undo,
      redo,
      files.element,
      status,
      make("span", "egox-ed-gap"),
      load,
      help,
      prior,
      done,
    ];
    return make("header", "egox-ed-head", {}, ...parts);
  }

  makeMain(wishes) {
    const { say } = this;
    const moving = checkbox("egox-moving", say("movingPoints"), say("movingPointsHelp"), () =>
      wishes.onMoving(),
    );
    this.movingPoints = moving.box;
    this.movingPoints.checked = true;
    const bar = make(
      "div",
      "egox-ed-tools",
      { role: "toolbar" },
      ...Object.values(this.tools),
      button("egox-frame-all", say("focus"), say("focusHelp"), () => wishes.onFrameAll()),
      moving.element,
    );
    const top = make("div", "egox-ed-top", {}, bar, this.banner);
    const content = [this.canvas, top, this.hint, this.empty];
    return make("section", "egox-ed-main", { "aria-label": say("view") }, ...content);
  }

  // Whether the page's theme gives the editor a light ground.
  get light() {
    const ground = getComputedStyle(this.root)
      .backgroundColor.match(/[\d.]+/g)
      ?.map(Number) ?? [0, 0, 0];
    return ground[0] + ground[1] + ground[2] > 380;
  }

  // Shown, or hidden if it is shown already.
  switchText(text) {
    this.tell(this.status.textContent === text ? "" : text);
  }

  // offers: buttons behind the text.
  tell(text, ...offers) {
    this.status.replaceChildren(text, ...offers);
    this.status.title = text;
  }

  showTool(tool) {
    for (const [name, element] of Object.entries(this.tools)) showPressed(element, name === tool);
    this.hint.textContent = this.say(HINTS[tool]);
  }

  // What there is to undo and to redo.
  showSteps(undoable, redoable) {
    this.undo.disabled = !undoable.length;
    this.redo.disabled = !redoable.length;
  }

  // lines: texts and elements; none hides the banner.
  showBanner(lines) {
    this.banner.hidden = !lines.length;
    this.banner.replaceChildren(
      ...lines.map((line) => (typeof line === "string" ? make("span", "", {}, line) : line)),
    );
  }
}
