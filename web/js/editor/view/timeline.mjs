// The clip as a line: the frame that is looked at, the keyframes as handles that can be dragged,
// play, and what to do with keyframes.
import { button, checkbox, dragging, make, rewrite, select } from "./elements.mjs";
import { MODES } from "../model/track.mjs";

export class Timeline {
  // onNewPath(): the user wants a path from nothing
  constructor(state, say, onNewPath) {
    this.state = state;
    this.say = say;
    this.playing = null; // the animation frame of the next step
    this.drawn = null; // what the ruler was drawn for
    this.guessed = []; // frames whose pose is a guess, of a path from elsewhere
    this.handles = make("div", "egox-ed-keys");
    this.marks = make("div", "egox-ed-keys"); // of what the wearer looks at
    this.ruler = make("canvas", "egox-ed-ruler");
    this.cursor = make("div", "egox-ed-cursor");
    const slider = {
      role: "slider",
      "aria-label": say("frame"),
      "data-testid": "egox-track",
      "aria-valuemin": "0",
    };
    this.track = make(
      "div",
      "egox-ed-track",
      { tabIndex: 0, ...slider },
      this.ruler,
      this.handles,
      this.marks,
      this.cursor,
    );
    this.now = make("output", "egox-ed-now", { "data-testid": "egox-frame" });
    this.play = button("egox-play", "▶", say("play"), () => this.toggle());
    const modes = MODES.map((mode) => [mode, say(mode)]);
    this.mode = select("egox-mode", say("modeHelp"), modes, (mode) => this.setMode(mode));
    this.add = button("egox-key-add", say("addKey"), say("addKeyHelp"), () => state.addKey());
    this.remove = button("egox-key-delete", say("deleteKey"), say("deleteKeyHelp"), () =>
      state.deleteKey(),
    );
    this.copy = button("egox-key-copy", say("copy"), say("copyHelp"), () => state.copy());
    this.paste = button("egox-key-paste", say("paste"), say("pasteHelp"), () => state.paste());
    this.clear = button("egox-clear", say("clear"), say("clearHelp"), () => state.clear());
    this.anew = button("egox-new-path", say("newPath"), say("newPathHelp"), () => onNewPath());
    const previous = button("egox-key-previous", "◂◆", say("previousKey"), () => this.jump(-1));
    const next = button("egox-key-next", "◆▸", say("nextKey"), () => this.jump(1));
    const every = checkbox("egox-mode-all", say("modeAll"), say("modeAllHelp"), () => this.show());
    this.every = every.box;
    this.every.checked = true;
    const { play, now, anew, clear, add, remove, copy, paste, mode } = this;
    const parts = [
      now,
      make("span", "egox-ed-gap"),
      anew,
      clear,
      add,
      remove,
      copy,
      paste,
      mode,
      every.element,
    ];
    const row = make("div", "egox-ed-row", {}, previous, play, next, ...parts);
    this.element = make(
      "section",
      "egox-ed-timeline",
      { "aria-label": say("timeline") },
      row,
      this.track,
    );
    dragging(this.track, { start: (event) => this.seek(event), move: (event) => this.seek(event) });
    this.track.addEventListener("keydown", (event) => this.key(event));
    this.notes = make("div", "egox-ed-hint", { hidden: true, "data-testid": "egox-track-notes" });
    this.element.append(this.notes);
    state.on(() => this.show());
    this.resizing = new ResizeObserver(() => this.show());
    this.resizing.observe(this.track);
    this.show();
  }

  frameAt(event) {
    const box = this.track.getBoundingClientRect();
    return (
      ((event.clientX - box.left - PAD) / Math.max(1, box.width - 2 * PAD)) *
      (this.state.clip.count - 1)
    );
  }

  seek(event) {
    this.state.setFrame(this.frameAt(event));
  }

  place(frame) {
    const last = Math.max(1, this.state.clip.count - 1);
    return `calc(${PAD}px + (100% - ${2 * PAD}px) * ${frame / last})`;
  }

  show() {
    const { state } = this;
    const { keys, looks } = state.content;
    const last = state.clip.count - 1;
    const at = state.keyAt();
    const seconds = (state.clip.times[state.frame] - state.clip.times[0]).toFixed(2);
    // How long the clip is isn't known before a run.
    const now = state.clip.isAssumed ? "" : this.say("frameOf", { frame: state.frame, last, seconds });
    rewrite(this.now, now);
    this.track.setAttribute("aria-valuemax", last);
    this.track.setAttribute("aria-valuenow", state.frame);
    this.cursor.style.left = this.place(state.frame);
    const outside = this.showHandles("keys", this.handles) + this.showHandles("looks", this.marks);
    const notes = outside ? [this.say("outside", { count: outside })] : [];
    if (this.guessed.length)
      notes.push(this.say("guessed", { count: this.guessed.length, frames: last + 1 }));
    this.notes.hidden = !notes.length;
    rewrite(this.notes, notes.join(" "));
    this.remove.disabled = state.keyAt(state.frame, "looks") < 0 && (at < 0 || keys.length < 2);
    this.add.disabled = at >= 0;
    this.clear.disabled = !keys.length && !looks.length;
    this.paste.disabled = !state.copied;
    const modes = new Set(keys.map((key) => key.mode));
    this.mode.value = this.every.checked
      ? modes.size === 1
        ? [...modes][0]
        : ""
      : (keys[this.segment()]?.mode ?? "");
    this.draw();
  }

  // A handle for each keyframe or look; how many of them lie outside of the clip.
  showHandles(kind, handles) {
    const { state } = this;
    const { [kind]: keys, clock } = state.content;
    while (handles.children.length > keys.length) handles.lastChild.remove();
    while (handles.children.length < keys.length)
      handles.append(this.makeHandle(handles.children.length, kind));
    keys.forEach((key, i) => {
      const handle = handles.children[i];
      const frame = state.frameOfKey(i, kind);
      handle.hidden = !state.clip.contains(key.moment, clock);
      handle.style.left = this.place(frame);
      handle.classList.toggle("egox-ed-now-key", i === state.keyAt(state.frame, kind));
      handle.dataset.mode = key.mode ?? "look";
      const said = { frame: Math.round(frame), mode: key.mode && this.say(key.mode) };
      handle.title = this.say(key.mode ? "keyTitle" : "lookTitle", said);
      handle.setAttribute("aria-label", handle.title);
    });
    return keys.filter((key) => !state.clip.contains(key.moment, clock)).length;
  }

  showGuessed(frames) {
    this.guessed = frames;
    this.show();
  }

  // The keyframe from which the path runs on at the current frame.
  segment() {
    const { keys } = this.state.content;
    const moment = this.state.momentAt(this.state.frame);
    let i = 0;
    while (i + 1 < keys.length && keys[i + 1].moment <= moment + 1e-9) i++;
    return i;
  }

  setMode(mode) {
    this.state.setMode(mode, this.every.checked ? null : this.segment());
  }

  draw() {
    const { ruler } = this;
    const { width, height } = this.track.getBoundingClientRect();
    const dpr = window.devicePixelRatio || 1;
    const { color } = getComputedStyle(this.element);
    const known = [width, height, dpr, color, this.state.clip.count, this.guessed].join();
    if (width < 2 || known === this.drawn) return; // while a pose is dragged nothing of it changes
    this.drawn = known;
    [ruler.width, ruler.height] = [width * dpr, height * dpr];
    const context = ruler.getContext("2d");
    context.scale(dpr, dpr);
    const last = Math.max(1, this.state.clip.count - 1);
    const each = (width - 2 * PAD) / last;
    const step =
      [1, 2, 4, 5, 8, 10, 20, 50, 100, 200, 500, 1000, 5000].find((s) => s * each >= 38) ?? last;
    context.fillStyle = GUESS;
    for (const frame of this.guessed)
      context.fillRect(PAD + (frame - 0.5) * each, height - 14, each + 0.5, 14);
    context.strokeStyle = context.fillStyle = color;
    context.font = "10px sans-serif";
    context.textAlign = "center";
    for (let frame = 0; frame <= last; frame++) {
      const labelled = frame % step === 0;
      if (!labelled && each < 3) continue;
      const x = Math.round(PAD + frame * each) + 0.5;
      context.globalAlpha = labelled ? 0.7 : 0.25;
      context.beginPath();
      context.moveTo(x, height - (labelled ? 10 : 5));
      context.lineTo(x, height);
      context.stroke();
      if (labelled) context.fillText(String(frame), x, 11);
    }
  }

  makeHandle(i, kind) {
    const id = `egox-${kind.slice(0, -1)}-${i}`; // egox-key-0, egox-look-0
    const handle = make("button", "egox-ed-key", { type: "button", "data-testid": id });
    const moveTo = (frame) => {
      this.state.moveKey(i, frame, kind);
      this.state.setFrame(this.state.frameOfKey(i, kind));
    };
    dragging(handle, {
      start: (event) => {
        event.stopPropagation();
        this.state.setFrame(this.state.frameOfKey(i, kind));
        this.state.begin();
      },
      move: (event) => moveTo(Math.round(this.frameAt(event))),
      end: () => this.state.end(),
    });
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      moveTo(Math.round(this.state.frameOfKey(i, kind)) + by);
    });
    return handle;
  }

  key(event) {
    const to = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[
      event.key
    ];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    this.state.setFrame(this.state.frame + to);
  }

  jump(direction) {
    const { state } = this;
    const frames = state.content.keys.map((_, i) => Math.round(state.frameOfKey(i)));
    const ahead = frames.filter((frame) => (frame - state.frame) * direction > 0);
    if (ahead.length) state.setFrame(direction > 0 ? Math.min(...ahead) : Math.max(...ahead));
  }

  toggle() {
    if (this.playing) return this.stop();
    const { state } = this;
    const begun = performance.now();
    const from = state.frame >= state.clip.count - 1 ? 0 : state.frame;
    const rate =
      state.clip.count > 1 ? (state.clip.count - 1) / Math.max(state.clip.seconds, 1e-3) : 30;
    this.play.textContent = "❚❚";
    const step = () => {
      const frame = from + ((performance.now() - begun) / 1000) * rate;
      state.setFrame(Math.floor(frame));
      if (frame >= state.clip.count - 1) return this.stop();
      this.playing = requestAnimationFrame(step);
    };
    this.playing = requestAnimationFrame(step);
  }

  stop() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    this.play.textContent = "▶";
  }

  close() {
    this.stop();
    this.resizing.disconnect();
  }
}

const PAD = 14; // px at both ends of the track: handles at the ends are seen whole
const GUESS = "rgba(230, 160, 40, 0.55)";
