// The editor's keys. Nothing of it while numbers are typed.

const TOOLS = { g: "move", r: "turn", l: "look", s: "snap", t: "aim" };

// parts: what the keys work on, { state, timeline, view, exo, layout }; wishes: as Layout has them.
export function handleKey(event, { state, timeline, view, exo, layout }, wishes) {
  const typing = event.target.matches?.("input:not([type=checkbox]), select, textarea");
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Tab") return keepInside(layout.root, event);
  if (typing && key === "Escape") return event.target.blur();
  if (typing) return;
  const done = () => event.preventDefault();
  if (control) {
    const action = {
      z: () => (event.shiftKey ? state.redo() : state.undo()),
      y: () => state.redo(),
      c: () => state.copy(),
      v: () => state.paste(),
    }[key];
    if (!action) return;
    done();
    action();
    timeline.show();
    return;
  }
  if (event.altKey) return;
  if (view.look.key(key, event.shiftKey)) return done();
  if (key === " " && event.target.tagName === "BUTTON") return; // space presses the button
  const actions = {
    " ": () => timeline.toggle(),
    k: () => state.addKey(),
    n: () => wishes.onNewPath(),
    Delete: () => state.deleteKey(),
    Backspace: () => state.deleteKey(),
    f: () => wishes.onFrameAll(),
    h: () => exo.begin("place"),
    "?": () => wishes.onHelp(),
    ",": () => timeline.jump(-1),
    ".": () => timeline.jump(1),
    Home: () => state.setFrame(0),
    End: () => state.setFrame(1e9),
    ArrowLeft: () => state.setFrame(state.frame - 1),
    ArrowRight: () => state.setFrame(state.frame + 1),
    Escape: () => {
      if (!exo.step) return wishes.onClose();
      exo.begin(null);
      if (view.tool === "aim") wishes.onTool("move");
    },
  };
  if (key in TOOLS) wishes.onTool(view.tool === TOOLS[key] ? "move" : TOOLS[key]);
  else if (actions[key]) actions[key]();
  else return;
  done();
}

// A dialog keeps the focus: after the last element comes the first.
function keepInside(root, event) {
  const all = [...root.querySelectorAll("button, select, input, [tabindex='0']")].filter(
    (e) => !e.disabled && e.offsetParent !== null,
  );
  const [first, last] = [all[0], all.at(-1)];
  if (event.shiftKey && (document.activeElement === first || document.activeElement === root))
    last?.focus();
  else if (!event.shiftKey && document.activeElement === last) first?.focus();
  else return;
  event.preventDefault();
}
