// The preview's elements and what hands and keys do to them.
import { make as makePlain, rewrite } from "../editor/view/elements.mjs";
import { addStyle } from "./style.mjs";
import { onTheme } from "../theme.mjs";

export const SIDE = "side";
export const WIPE = "wipe";
export const STRIP = "strip"; // every λ_g with every LoRA strength
export const GEOMETRY = "geometry"; // the weight of every exo patch for one ego patch
const DIFFERENCE = "difference";
const WIPE_STEP = 0.02;
// Drawn, since not every font has the sign.
const FULL = `<svg viewBox="0 0 16 16" width="14" fill="none" stroke="currentColor" stroke-width="2">
  <path d="M6 2H2v4M10 2h4v4M6 14H2v-4M10 14h4v-4"/></svg>`;
const FACTORS = [1, 2, 4, 8, 16, 32]; // of the difference

const make = (tag, name, more = {}) => makePlain(tag, name, { "data-testid": name, ...more });

export function buildElements(preview, { say }) {
  addStyle();
  const root = make("div", "egox-preview", { tabIndex: -1 });
  const bar = make("div", "egox-preview-bar");
  const view = make("div", "egox-preview-view", { role: "tablist", ariaLabel: say("view") });
  const left = make("select", "egox-preview-left", { title: say("left") });
  const right = make("select", "egox-preview-right", { title: say("right") });
  const item = make("select", "egox-preview-item", { title: say("item") });
  const factor = make("select", "egox-preview-factor", { title: say("factor") });
  factor.append(...FACTORS.map((value) => new Option(`× ${value}`, value)));
  const maker = make("button", "egox-preview-make", { type: "button" });
  const isAlone = { type: "button", textContent: say("alone"), hidden: !preview.host.runAlone };
  const alone = make("button", "egox-preview-alone", isAlone);
  const seen = make("button", "egox-preview-seen", {
    type: "button",
    textContent: say("seen"),
    title: say("seenWhat"),
  });
  bar.append(item, view, left, right, factor, maker, alone, seen);
  const about = make("div", "egox-preview-about", { hidden: true, role: "status" });

  const stage = make("div", "egox-preview-stage", {
    tabIndex: 0,
    role: "img",
    ariaLabel: say("stage"),
  });
  const canvas = make("canvas", "egox-preview-canvas");
  const wipe = make("div", "egox-preview-wipe", {
    tabIndex: 0,
    role: "slider",
    ariaLabel: say("wipeHandle"),
    ariaValueMin: "0",
    ariaValueMax: "100",
  });
  const message = make("div", "egox-preview-message");
  stage.append(canvas, wipe, message);

  const time = make("div", "egox-preview-time");
  const play = make("button", "egox-preview-play", { type: "button" });
  const trackBox = make("div", "egox-preview-track");
  const track = make("canvas", "egox-preview-curve");
  const frame = make("input", "egox-preview-frame", {
    type: "range",
    min: 0,
    step: 1,
    value: 0,
    ariaLabel: say("frame"),
  });
  trackBox.append(track, frame);
  const now = make("output", "egox-preview-now");
  const save = make("button", "egox-preview-save", {
    type: "button",
    textContent: say("save"),
    title: say("saveWhat"),
  });
  const full = make("button", "egox-preview-full", {
    type: "button",
    innerHTML: FULL,
    title: say("full"),
  });
  time.append(play, trackBox, now, save, full);
  const note = make("div", "egox-preview-note");
  const badge = make("div", "egox-preview-badge", { hidden: true, role: "status" });
  root.append(bar, badge, about, stage, time, note);

  item.onchange = () => preview.chooseItem(Number(item.value));
  alone.onclick = () => preview.host.runAlone();
  seen.onclick = () => preview.showSeen(!preview.seen.isShown);
  full.onclick = () =>
    document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
  left.onchange = right.onchange = () => preview.wipe.choosePair([left.value, right.value]);
  maker.onclick = () => preview.stripPlayer.make();
  factor.onchange = () => preview.enlarge(Number(factor.value));
  play.onclick = () => preview.time.toggle();
  save.onclick = async () => {
    save.disabled = true;
    await preview.saver.save();
    save.disabled = false;
  };
  frame.oninput = () => {
    const number = Number(frame.value); // stopping writes the old frame into the slider
    preview.time.stop();
    preview.time.seek(number);
  };
  listen(preview, root, stage, wipe);
  const resizing = new ResizeObserver(() => preview.draw());
  resizing.observe(stage);
  const theming = onTheme(() => preview.draw());

  return {
    root,
    stage,
    canvas,
    track,
    message,
    note,
    badge,
    stopWatching() {
      resizing.disconnect();
      theming.disconnect();
    },
    refreshBar() {
      const items = preview.items.previews.map((_, i) => String(i));
      maker.hidden = preview.view !== STRIP;
      maker.textContent = say(preview.stripPlayer.making ? "cancelStrip" : "makeStrip");
      save.disabled = preview.view === STRIP && !preview.strip;
      bar.hidden = preview.views().length < 2 && items.length < 2 && maker.hidden && alone.hidden;
      item.hidden = items.length < 2;
      fill(item, items, (i) => `${Number(i) + 1} / ${items.length}`, String(preview.items.chosen));
      const choices = new Map(preview.wipe.choices());
      const label = (name) => (preview.clip(name) ? preview.label(preview.clip(name)) : say(name));
      fillTabs(view, preview.views(), label, preview.view, (name) => preview.choose(name));
      const wiping = preview.clips.length > 0 && preview.view === WIPE;
      for (const [select, name] of [
        [left, preview.wipe.pair?.[0]],
        [right, preview.wipe.pair?.[1]],
      ]) {
        select.hidden = !wiping;
        if (wiping) fill(select, [...choices.keys()], (key) => choices.get(key), name);
      }
      wipe.hidden = !wiping;
      factor.hidden = !preview.difference || preview.view !== DIFFERENCE;
      factor.value = preview.difference?.factor ?? 1;
      seen.hidden = !preview.canMark;
      seen.ariaPressed = String(preview.seen.isShown);
      this.refreshAbout();
      track.hidden = !preview.told.curve;
    },
    refreshAbout() {
      rewrite(about, preview.about());
      about.hidden = !about.textContent;
    },
    refreshTime() {
      const { count, number, step, timer } = preview.time;
      const { curve } = preview.told;
      time.hidden = count < 2;
      rewrite(play, timer ? "❚❚" : "▶");
      play.title = play.ariaLabel = say(timer ? "pause" : "play");
      frame.max = count - 1;
      frame.value = number;
      const source = number * step;
      frame.title = say("of", { frame: source, count });
      const value = curve?.values[source];
      const shownValue =
        value == null ? "" : `\n${value.toFixed(value < 10 ? 1 : 0)} ${curve.unit}`;
      rewrite(now, `${source} / ${(count - 1) * step}${shownValue}`);
    },
    placeWipe(x, at) {
      wipe.style.left = `${x}px`;
      wipe.ariaValueNow = String(Math.round(100 * at));
    },
  };
}

function listen(preview, root, stage, wipe) {
  // The canvas below would pan, select and delete nodes on what is meant for the preview.
  for (const kind of [
    "pointerdown",
    "pointermove",
    "pointerup",
    "click",
    "dblclick",
    "contextmenu",
  ])
    root.addEventListener(kind, (event) => event.stopPropagation());

  const point = (event, then) => {
    // The classic canvas scales its widgets: a rectangle on the page is larger or smaller than the
    // element's own px.
    const box = stage.getBoundingClientRect();
    const scale = stage.clientWidth / box.width;
    preview.stage[then]((event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    (event.target === wipe ? wipe : stage).focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    point(event, "pointAt");
  });
  let last = null;
  stage.addEventListener("pointermove", (event) => {
    // A pointer that rests is said to move where the page below it does.
    if (last?.clientX === event.clientX && last?.clientY === event.clientY) return;
    last = event;
    if (stage.hasPointerCapture(event.pointerId) && preview.view === WIPE) point(event, "pointAt");
    else point(event, "pointOver");
  });

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    if (!onKey(preview, event, event.target === wipe)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}

// Whether the key meant something here.
function onKey(preview, { key, target, shiftKey }, onWipe) {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  const patches = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (shiftKey && key in patches && preview.view === GEOMETRY)
    preview.geometry.lookOn(...patches[key]);
  else if (onWipe && key in steps) preview.wipe.set(preview.wipe.at + WIPE_STEP * steps[key]);
  else if (key in steps) {
    preview.time.stop();
    preview.time.seek(preview.number + steps[key]);
  } else if (key === "Home") preview.time.seek(0);
  else if (key === "End") preview.time.seek(preview.count - 1);
  else if (key === " " && !["BUTTON", "SUMMARY"].includes(target.tagName)) preview.time.toggle();
  else if (key === "s" && preview.views().includes(SIDE)) preview.choose(SIDE);
  else if (key === "w" && preview.views().includes(WIPE)) preview.choose(WIPE);
  else if (key === "b" && preview.history.before) preview.choose("before");
  else if (key === "g" && preview.geometry) preview.choose(GEOMETRY);
  else if (key === "d" && preview.difference) preview.choose(DIFFERENCE);
  else if (key === "o" && preview.canMark) preview.showSeen(!preview.seen.isShown);
  else if (/^[1-9]$/.test(key) && preview.clips[key - 1])
    preview.choose(preview.clips[key - 1].name);
  else return false;
  return true;
}

// What was taken of the take, and by whom: folded, with the number of rows in which sources differ.
export function foldedFacts({ text, count, disputed }, { say }) {
  const head = say(disputed ? "factsDisputed" : "facts", { count, disputed });
  const folded = make("details", "egox-preview-facts");
  folded.append(make("summary", "", { textContent: head }), text);
  return folded;
}

function fill(select, names, label, value) {
  select.replaceChildren(...names.map((name) => new Option(label(name), name)));
  select.value = value;
}

// Made anew only where there are others: a press must not lose its tab.
function fillTabs(bar, names, label, value, choose) {
  const labels = JSON.stringify(names.map((name) => [name, label(name)]));
  if (bar.dataset.labels !== labels) {
    bar.dataset.labels = labels;
    bar.replaceChildren(
      ...names.map((name) => {
        const given = { type: "button", role: "tab", textContent: label(name), "data-view": name };
        return make("button", "egox-preview-tab", { ...given, onclick: () => choose(name) });
      }),
    );
  }
  for (const tab of bar.children) tab.ariaSelected = String(tab.dataset.view === value);
}
