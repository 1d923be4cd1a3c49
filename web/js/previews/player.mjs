// One preview: clips on a stage (one, side by side, wipe), a timeline, a note. Knows nothing of nodes or the host.
import { buildElements, GEOMETRY, SIDE, STRIP, WIPE } from "./elements.mjs";
import * as drawing from "./draw.mjs";
import { contain, LABEL_HEIGHT, LEGEND_HEIGHT, sideBySide } from "./layout.mjs";
import { changes, clipName, DifferenceClip, formOf, runLabel, sameForm } from "./runs.mjs";
import { pictures } from "./saving.mjs";
import { cellsOf, loadClips, loadImage } from "./sheets.mjs";
import { eyeClips, WIGGLE, WIGGLE_MS } from "./eyes.mjs";
import { loadGeometry } from "./geometry_view.mjs";
import { SeenMarks } from "./seen.mjs";
import { LOADER } from "../graph_change.mjs";
import { LAMBDAS, STRENGTHS } from "./strip.mjs";
import { onTheme } from "../theme.mjs";

const LEGEND_MIN_WIDTH = 120; // px: on a smaller picture it would hide too much
const LEGEND_MIN_HEIGHT = 80;
const LABEL_GAP = 2; // px

export class Preview {
  // host: say as sayer() makes it; url(file) -> address; zoom(); empty: text key; view() and onView(name): what is
  // kept of the chosen view; onPick({widget: value}): a click on a picture that may be picked from; inputName(kind,
  // name): what people call an input of a node; makeStrip(told, signal): promises the strip's previews, null where there
  // is none, see strip.mjs; minutes(runs): how long so many will take, null where that isn't known; runAlone(): run what
  // leads to this node and no more, null where there is no such wish; strength(geometry): λ_g and mode as the page's graph has them now; save(about, pictures): see saving.mjs;
  // saidOfOld(run): what is to be said of a run of another video, else "".
  constructor(host) {
    this.host = host;
    this.items = []; // previews of one run: a node that got a list runs once for each of its items
    this.runsBefore = []; // those of the runs before, the last run first
    this.item = 0; // which of them is looked at
    this.clips = [];
    this.eyes = []; // clips of two in one picture
    this.runs = new Map(); // { streams, values, measure } by name: ego is this run, before the one before, run2, ...
    this.before = null; // the clip that the run before gave
    this.older = []; // clips of those before it, as far as they were looked at
    this.difference = null; // of this run from the one before, where both have the same form
    this.strip = null; // its clips, one a pair of values
    this.stripShipped = false; // not this graph's own
    this.stripSays = ""; // how the making of one goes
    this.making = null; // the AbortController of the strip's run
    this.stripAsked = false; // whether so many runs are wanted
    this.geometry = null; // a GeometryView
    this.seen = null; // SeenMarks of the ego video
    this.isSeenShown = false;
    this.kind = null;
    this.fps = null;
    this.run = null; // the host's id of the run that made the clips
    this.badge = null; // text key
    this.savingSays = ""; // how the saving goes
    this.curve = null; // over the timeline, { values, unit }
    this.mark = null; // the picked pixel, { x, y, frame }
    this.number = 0; // shown frame, counted in the sheets
    this.choice = null; // the user's view
    this.pair = null; // names of the wipe's two pictures
    this.pairAsked = null; // of those that are being loaded, the last
    this.pairChosen = false; // by the user
    this.wipeAt = 0.5;
    this.wiped = null; // the box that the wipe runs over
    this.boxes = []; // where the clips were drawn, { clip, box }
    this.timer = null; // the animation frame of the next step, while it plays
    this.wiggling = null; // the timer of the other eye
    this.turn = 0; // of what show() was asked for last
    this.parts = buildElements(this, host);
    this.element = this.parts.root;
    this.resize = new ResizeObserver(() => this.draw());
    this.theming = onTheme(() => this.draw());
    this.resize.observe(this.parts.stage);
    this.say(host.say(host.empty));
    this.refresh();
  }

  close() {
    this.stop();
    this.geometry?.rest();
    this.resize.disconnect();
    this.theming.disconnect();
  }

  get count() {
    return Math.max(1, ...[...this.clips, ...(this.strip ?? [])].map((clip) => clip.count));
  }

  get step() {
    return this.clips.reduce((step, clip) => Math.max(step, clip.step), 1);
  }

  get view() {
    const names = this.views();
    if (names.includes(this.choice)) return this.choice;
    return this.before ? WIPE : names[0];
  }

  // What there is to look at: this run's clips, the run before, the difference.
  get pictures() {
    return [...this.clips, ...this.eyes, this.before, this.difference].filter(Boolean);
  }

  // Names of the views that there are now.
  views() {
    const names = this.pictures.map((clip) => clip.name);
    if (this.geometry) names.push(GEOMETRY);
    const several = [this.clips.length > 1 && SIDE, this.pictures.length > 1 && WIPE].filter(Boolean);
    if (this.host.makeStrip && !this.clips.length) return this.strip ? [STRIP] : [];
    if (this.kind === "compare") return [...several, ...names, ...(this.host.makeStrip ? [STRIP] : [])];
    return ["prior", "depth"].includes(this.kind) ? [...names, ...several] : [...several, ...names];
  }

  // One preview for each item that the node ran with; the one that was looked at stays, while there are as many.
  showAll(previews, before) {
    if (previews.length !== this.items.length) this.item = 0;
    this.items = previews;
    this.runsBefore = before;
    return this.chooseItem(this.item);
  }

  chooseItem(item) {
    this.item = item;
    const runs = this.runsBefore.map((run) => run[item]).filter(Boolean);
    return this.show(
      this.items[item],
      runs.filter((run) => !isOther(run, this.items[item])),
    );
  }

  // Takes what nodes/show/player.py (or the live preview) sent. The last call wins; the old pictures stay until the
  // new ones can be drawn.
  async show(preview, runs = []) {
    const turn = ++this.turn;
    if (!this.clips.length) this.say(this.host.say("loading"));
    let clips, earlier, geometry, classes;
    try {
      [clips, earlier, geometry, classes] = await Promise.all([
        loadClips(preview.streams, this.host.url),
        this.loadRun("before", runs[0]),
        loadGeometry(preview.geometry, this),
        loadClips(preview.seen ? [preview.seen] : [], this.host.url),
      ]);
    } catch {
      if (turn === this.turn) this.fail();
      return;
    }
    if (turn !== this.turn) return;
    this.clips = clips;
    this.eyes = eyeClips(clips);
    this.kind = preview.kind;
    this.geometry?.rest();
    this.geometry = geometry;
    this.seen = classes.length ? new SeenMarks(classes[0], preview.seen) : null;
    this.runs = new Map([preview, ...runs].map((run, i) => [["ego", "before"][i] ?? `run${i}`, run]));
    this.older = [];
    this.setBefore(earlier);
    this.fps = preview.fps;
    this.run = preview.run;
    this.savingSays = "";
    this.curve = preview.curve;
    this.mark = preview.mark;
    this.choice ??= this.host.view();
    this.number = Math.min(this.mark ? Math.round(this.mark.frame / this.step) : this.number, this.count - 1);
    this.setPair();
    this.parts.note.textContent = this.parts.note.title = preview.text ?? "";
    this.badge = preview.badge;
    this.refreshBadge();
    this.refresh();
    if (preview.kind === "live" && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
  }

  // Also where the run's video is no longer the chosen one.
  refreshBadge() {
    const old = this.host.saidOfOld(this.run);
    this.element.classList.toggle("egox-preview-old", old !== "");
    this.parts.badge.textContent = old || (this.badge ? this.host.say(this.badge) : "");
    this.parts.badge.hidden = !this.parts.badge.textContent;
  }

  // The ego video of an earlier run; null where there was none, or where the server has let its files go.
  async loadRun(name, run) {
    const [clip] = await loadClips(run?.streams ?? [], this.host.url).catch(() => []);
    return clip ? Object.assign(clip, { name }) : null;
  }

  setBefore(before) {
    const ego = this.clip("ego");
    const factor = this.difference?.factor;
    this.before = ego && before;
    this.difference = this.before && sameForm(ego, before) ? new DifferenceClip(ego, before).measure() : null;
    if (factor && this.difference) this.difference.factor = factor;
  }

  // What was shown of a step says no more once the run has ended.
  putAway() {
    if (this.kind !== "live") return;
    this.turn += 1;
    this.fail(this.host.empty);
  }

  fail(says = "gone") {
    this.stop();
    this.clips = [];
    this.eyes = [];
    this.before = this.difference = this.geometry = this.seen = null;
    this.parts.note.textContent = "";
    this.say(this.host.say(says));
    this.refresh();
  }

  // The wipe's two pictures: the result beside the truth, else beside what it was made from.
  setPair() {
    const names = this.pictures.map((clip) => clip.name);
    const known = (name) => names.includes(name);
    if (this.pairChosen && this.pair.every(known)) return;
    const pairs = [
      ["before", "ego"],
      ["guided", "plain"],
      ["ego", "truth"],
      ["prior", "ego"],
      ["exo", "ego"],
      ["prior", "coverage"],
    ];
    this.pair = pairs.find((pair) => pair.every(known)) ?? [names[0], names[1] ?? names[0]];
  }

  say(message) {
    this.parts.message.textContent = message;
    this.parts.message.hidden = !message;
  }

  label(clip) {
    if (this.older.includes(clip)) return runLabel(this.runs.get(clip.name), [...this.runs.values()]);
    return this.host.say(clip.name, { factor: clip.factor }, clip.label);
  }

  clip(name) {
    return [...this.pictures, ...this.older].find((clip) => clip.name === name);
  }

  // What may be on a side of the wipe, [name, what it says].
  wipeChoices() {
    const names = new Set([...this.pictures.map(({ name }) => name), ...(this.before ? this.runs.keys() : [])]);
    return [...names].map((name) => {
      const [clip, run] = [this.clip(name), this.runs.size > 1 && this.runs.get(name)];
      const said = [
        clip && !this.older.includes(clip) && this.label(clip),
        run && runLabel(run, [...this.runs.values()]),
      ];
      return [name, said.filter(Boolean).join(" · ")];
    });
  }

  async choosePair(pair) {
    const { runs } = this;
    this.pairAsked = pair;
    for (const name of pair.filter((each) => !this.clip(each))) {
      const clip = await this.loadRun(name, runs.get(name));
      if (clip && runs === this.runs) this.older.push(clip);
    }
    if (pair !== this.pairAsked) return; // the other side was chosen meanwhile
    if (pair.every((name) => this.clip(name))) Object.assign(this, { pair, pairChosen: true });
    this.refresh();
  }

  enlarge(factor) {
    if (!this.difference) return;
    this.difference.factor = factor;
    this.refresh();
  }

  // Lays marks over the ego video that tell how each pixel is known, or takes them away.
  showSeen(isShown) {
    this.isSeenShown = isShown;
    this.refresh();
  }

  // Whether the view shows the ego video with room for the legend of its marks.
  get canMark() {
    const views = { ego: true, [SIDE]: true, [WIPE]: this.pair?.includes("ego") };
    return Boolean(this.seen && views[this.view]);
  }

  // What is to be said of the marks, then of the two runs where both are looked at, or of the strip, else "".
  about() {
    const legend = this.clip("ego")?.marks?.about(this.number * this.step, this.host.say);
    return [legend, this.aboutView()].filter(Boolean).join(" · ");
  }

  aboutView() {
    if (this.view === GEOMETRY) return this.geometry.about();
    if (this.view === STRIP) return this.stripSays || (this.stripShipped ? this.host.say("stripShipped") : "");
    const pair = this.view === WIPE ? this.pair : ["before", "ego"];
    const [from, to] = pair.map((name) => this.runs.get(name) ?? this.runs.get("ego"));
    const isOfRuns = this.view === WIPE ? from !== to : ["before", "difference"].includes(this.view);
    if (!this.before || !isOfRuns) return "";
    const said = changes(from.values, to.values).map(({ kind, name, from, to }) => {
      const [a, b] = [from, to].map((value) => (typeof value === "object" ? "…" : String(value)));
      return `${this.host.inputName(kind, name)} ${a} → ${b}`;
    });
    if (String([...pair].sort()) !== "before,ego") return said.join(" · ");
    if (!this.difference) {
      const [now, before] = [this.clip("ego"), this.before].map(formOf);
      const values = { frames: now.frames, size: now.size, framesBefore: before.frames, sizeBefore: before.size };
      return [...said, this.host.say("otherForm", values)].join(" · ");
    }
    const { mean } = this.difference;
    return [...said, mean ? this.host.say("mean", { mean: mean.toFixed(1) }) : this.host.say("same")].join(" · ");
  }

  choose(view) {
    this.choice = view;
    this.savingSays = "";
    this.stripAsked = false;
    this.host.onView(view);
    this.refresh();
  }

  // -- the strip

  // A picture of its cells, made of the sample.
  async showShippedStrip(address) {
    const image = await loadImage(address).catch(() => null);
    if (this.strip || !image) return;
    this.strip = cellsOf(image, LAMBDAS.length, STRENGTHS.length);
    this.stripShipped = true;
    this.refresh();
  }

  // Asks first, for it takes long; pressed while it goes on, it ends it.
  async makeStrip() {
    if (this.making) return this.making.abort();
    this.stripAsked = !this.stripAsked;
    const minutes = this.host.minutes(LAMBDAS.length * STRENGTHS.length) ?? "?";
    if (this.stripAsked) return this.sayOfStrip(this.host.say("stripAsk", { minutes }));
    const { strip, stripShipped } = this;
    this.making = new AbortController();
    this.sayOfStrip(this.host.say("stripWaits"));
    let says = "";
    try {
      await this.showStrip(await this.host.makeStrip((step) => this.showStep(step), this.making.signal));
    } catch (error) {
      says = this.host.say(error.message);
      Object.assign(this, { strip, stripShipped });
    } finally {
      this.making = null;
      this.sayOfStrip(says);
    }
  }

  // One cell after the other: those that are made stay, the last one is still being sampled.
  async showStep({ cell, step, total, preview }) {
    const { making } = this;
    const [clip] = await loadClips(preview.streams, this.host.url);
    if (!making || making !== this.making) return;
    this.strip = [...(cell ? this.strip : []).slice(0, cell), clip];
    this.stripShipped = false;
    if (!this.clips.length) this.fps = preview.fps;
    this.sayOfStrip(
      this.host.say("stripStep", { cell: cell + 1, count: LAMBDAS.length * STRENGTHS.length, step, total }),
    );
  }

  async showStrip(previews) {
    const egos = previews.flatMap(({ streams }) => streams.filter(({ name }) => name === "ego"));
    const clips = await loadClips(egos, this.host.url);
    if (!this.clips.length) this.fps = previews[0].fps;
    this.strip = clips;
    this.stripShipped = false;
    this.refresh();
  }

  sayOfStrip(text) {
    this.stripSays = text;
    this.refresh();
  }

  // -- saving

  async save() {
    const say = (key, values) => {
      this.savingSays = this.host.say(key, values);
      this.parts.refreshAbout();
    };
    say("saving");
    // A strip is of runs of its own.
    const run = this.view === STRIP ? null : (this.runs.get(this.view) ?? this.runs.get("ego"));
    const about = { name: clipName(this.view, run), fps: this.fps / this.step, run: run && this.run };
    try {
      const { file, workflow } = await this.host.save(about, await pictures(this));
      say(workflow ? "saved" : "savedBare", { file });
    } catch (error) {
      say("notSaved", { reason: error.message });
    }
  }

  // -- time

  seek(number) {
    this.number = Math.min(Math.max(number, 0), this.count - 1);
    this.refreshTime();
    this.parts.refreshAbout();
    this.draw();
  }

  play() {
    if (this.timer || this.count < 2) return;
    const started = performance.now();
    const first = this.number === this.count - 1 ? 0 : this.number;
    const rate = this.fps / this.step / 1000;
    const tick = () => {
      this.timer = requestAnimationFrame(tick);
      if (!this.element.isConnected) return;
      const number = Math.floor(first + (performance.now() - started) * rate) % this.count;
      if (number !== this.number) this.seek(number);
    };
    this.timer = requestAnimationFrame(tick);
    this.refreshTime();
  }

  stop() {
    if (this.timer) cancelAnimationFrame(this.timer);
    this.timer = null;
    if (this.parts) this.refreshTime();
  }

  toggle() {
    if (this.timer) this.stop();
    else this.play();
  }

  // -- drawing

  refresh() {
    // A page that was asked for what isn't there yet says why there is nothing to see.
    if (this.view === STRIP && !this.strip) this.say(this.host.say("noStrip"));
    else if (this.view === GEOMETRY) this.say(this.geometry.reason);
    else if (this.view) this.say("");
    const ego = this.clip("ego");
    if (ego) ego.marks = this.isSeenShown && this.canMark ? this.seen : null;
    if (this.view === GEOMETRY) this.geometry.follow();
    else this.geometry?.rest();
    this.parts.refreshBar();
    this.refreshTime();
    this.draw();
  }

  refreshTime() {
    this.parts.refreshTime();
    if (this.curve && this.clips.length) this.drawTrack();
  }

  draw() {
    const prepared = fit(this.parts.canvas, this.host.zoom());
    if (!prepared) return;
    const { context, width, height } = prepared;
    context.clearRect(0, 0, width, height);
    this.paint(context, [0, 0, width, height]);
    clearTimeout(this.wiggling);
    if (this.view === WIGGLE && this.element.isConnected) this.wiggling = setTimeout(() => this.draw(), WIGGLE_MS);
  }

  // A frame on a stage that isn't the page's.
  paintFrame(context, stage, number) {
    const { number: shown, boxes, wiped } = this;
    this.number = number;
    this.paint(context, stage);
    Object.assign(this, { number: shown, boxes, wiped });
  }

  paint(context, stage) {
    this.boxes = [];
    if (this.view === STRIP) this.drawStrip(context, stage);
    if (this.view === STRIP || !this.clips.length) return;
    if (this.view === WIPE) this.drawWiped(context, stage);
    else if (this.view === SIDE) this.drawSide(context, this.clips, stage);
    else if (this.view === GEOMETRY) this.boxes = this.geometry.draw(context, this.number, stage);
    else this.drawOne(context, this.clip(this.view), stage);
    const ego = this.boxes.find(({ clip }) => clip.pick);
    if (ego && this.mark && Math.round(this.mark.frame / this.step) === this.number)
      drawing.drawMark(context, this.mark, ego.clip, ego.box);
  }

  drawOne(context, clip, [x, y, width, height]) {
    const legend = clip.legend ? LEGEND_HEIGHT : 0;
    const box = contain(clip.width, clip.height, [x, y, width, height - legend]);
    drawing.drawPicture(context, clip, this.number, box);
    if (legend) drawing.drawLegend(context, clip.legend, [x, height - legend, width], this.ink());
    if (clip.pick) drawing.drawLabel(context, this.host.say("pick"), box[0] + 4, box[1] + 4);
    this.boxes.push({ clip, box });
  }

  drawStrip(context, stage) {
    const heads = LAMBDAS.map((value) => `λ_g ${value}`);
    const sides = STRENGTHS.map((value) => `LoRA ${value}`);
    if (this.strip) drawing.drawTable(context, this.strip, this.number, heads, sides, stage, this.ink());
  }

  drawSide(context, clips, stage) {
    this.boxes = sideBySide(clips, stage, LABEL_HEIGHT);
    for (const { clip, box } of this.boxes) {
      drawing.drawPicture(context, clip, this.number, box);
      const labels = clip.pick ? [`${this.label(clip)}: ${this.host.say("pick")}`] : [];
      const label = drawing.fitting(context, [...labels, this.label(clip)], box[2]);
      drawing.drawLabel(context, label, box[0], box[1] - LABEL_HEIGHT, "left", box[2]);
      const roomy = box[2] >= LEGEND_MIN_WIDTH && box[3] >= LEGEND_MIN_HEIGHT;
      if (clip.legend && roomy) drawing.drawLegendOver(context, clip.legend, box);
    }
  }

  drawWiped(context, [x, y, w, h]) {
    const pair = this.pair.map((name) => this.clip(name));
    const half = w / 2 - LABEL_GAP;
    const boxes = pair.map((clip) => contain(clip.width, clip.height, [x, y + LABEL_HEIGHT, w, h - LABEL_HEIGHT]));
    // The wipe runs over what the pictures cover, not over the empty sides of the stage.
    const left = Math.min(boxes[0][0], boxes[1][0]);
    const right = Math.max(...boxes.map((box) => box[0] + box[2]));
    this.wiped = [left, Math.min(boxes[0][1], boxes[1][1]), right - left, Math.max(boxes[0][3], boxes[1][3])];
    drawing.drawWipe(context, ...pair, this.number, boxes, this.wiped, this.wipeAt);
    drawing.drawLabel(context, this.label(pair[0]), x, y, "left", half);
    drawing.drawLabel(context, this.label(pair[1]), x + w, y, "right", half);
    this.parts.placeWipe(left + this.wiped[2] * this.wipeAt, this.wipeAt);
  }

  drawTrack() {
    const prepared = fit(this.parts.track, this.host.zoom());
    if (!prepared) return;
    const { context, width, height } = prepared;
    drawing.drawCurve(context, this.curve, width, height, this.ink(), this.number, this.count);
  }

  ink() {
    return getComputedStyle(this.element).color;
  }

  // -- pointer

  // The pointer over the stage, pressed or not; px of the canvas' own units.
  pointOver(x, y) {
    if (this.view !== GEOMETRY || !this.boxes.length) return;
    const [left, top, w, h] = this.boxes[1].box;
    if (x >= left && x < left + w && y >= top && y < top + h) this.geometry.lookAt((x - left) / w, (y - top) / h);
  }

  // Stage coordinates in, px of the canvas' own units.
  pointAt(x, y) {
    this.pointOver(x, y);
    if (this.view === WIPE && this.wiped) {
      this.setWipe((x - this.wiped[0]) / this.wiped[2]);
      return;
    }
    const hit = this.boxes.find(
      ({ clip, box: [left, top, w, h] }) => clip.pick && x >= left && x < left + w && y >= top && y < top + h,
    );
    if (hit) this.pick(hit.clip, (x - hit.box[0]) / hit.box[2], (y - hit.box[1]) / hit.box[3]);
  }

  pick(clip, u, v) {
    const [width, height] = clip.source;
    const frame = this.number * clip.step;
    this.mark = { x: Math.floor(u * width), y: Math.floor(v * height), frame };
    this.host.onPick({ [clip.pick.x]: this.mark.x, [clip.pick.y]: this.mark.y, [clip.pick.frame]: frame });
    this.draw();
  }

  setWipe(at) {
    this.wipeAt = Math.min(Math.max(at, 0), 1);
    this.draw();
  }
}

// Of another video: there is nothing to compare.
const isOther = (run, now) =>
  changes(run.values, now.values).some(({ kind, name }) => kind === LOADER && name === "file");

// Sizes a canvas for its place and zoom; null while it isn't shown.
function fit(canvas, zoom) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return null;
  const ratio = (window.devicePixelRatio || 1) * Math.min(Math.max(zoom, 1), 2);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}
