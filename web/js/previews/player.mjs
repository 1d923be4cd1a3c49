// One preview: clips on a stage (one, side by side, wipe), a timeline, a note. Knows nothing of
// nodes or the host.
import { buildElements, foldedFacts, GEOMETRY, SIDE, STRIP, WIPE } from "./elements.mjs";
import { eyeClips } from "./eyes.mjs";
import { loadGeometry } from "./geometry_view.mjs";
import { RunHistory } from "./history.mjs";
import { Items } from "./items.mjs";
import { Saver } from "./saving.mjs";
import { SeenLayer } from "./seen.mjs";
import { loadClips } from "./sheets.mjs";
import { Stage } from "./stage.mjs";
import { StripPlayer } from "./strip_player.mjs";
import { Timeline } from "./timeline.mjs";
import { Wipe } from "./wipe.mjs";

export class Preview {
  // host: say as sayer() makes it; url(file) -> address; zoom(); empty: text key; view() and
  // onView(name): what is kept of the chosen view; onPick({widget: value}): a click on a picture
  // that may be picked from; inputName(kind, name): what people call an input of a node;
  // makeStrip(told, signal): promises the strip's previews, null where there is none, see
  // strip.mjs; minutes(runs): how long so many will take, null where that isn't known; runAlone():
  // run what leads to this node and no more, null where there is no such wish; strength(geometry):
  // λ_g and mode as the page's graph has them now; save(about, pictures): see saving.mjs;
  // saidOfOld(run): what is to be said of a run of another video, else "".
  constructor(host) {
    this.host = host;
    // what nodes/show/player.py (or the live preview) sent: kind, fps, run, badge, curve, mark,
    // text, facts
    this.told = {};
    this.clips = [];
    this.eyes = []; // clips of two in one picture
    this.geometry = null; // a GeometryView
    this.items = new Items();
    this.history = new RunHistory(host);
    this.seen = new SeenLayer();
    this.wipe = new Wipe(this);
    this.stripPlayer = new StripPlayer(this);
    this.stage = new Stage(this);
    this.time = new Timeline(this);
    this.saver = new Saver(this);
    this.turn = 0; // of what show() was asked for last
    this.parts = buildElements(this, host);
    this.say(host.say(host.empty));
    this.refresh();
  }

  close() {
    this.time.stop();
    this.geometry?.rest();
    this.parts.stopWatching();
  }

  get element() {
    return this.parts.root;
  }

  get number() {
    return this.time.number;
  }

  get count() {
    return this.time.count;
  }

  get fps() {
    return this.clips.length ? this.told.fps : (this.stripPlayer.fps ?? this.told.fps);
  }

  get mark() {
    return this.stage.mark;
  }

  get boxes() {
    return this.stage.boxes;
  }

  get wipeAt() {
    return this.wipe.at;
  }

  get strip() {
    return this.stripPlayer.cells;
  }

  get difference() {
    return this.history.difference;
  }

  get view() {
    const names = this.views();
    const chosen = this.host.view();
    if (names.includes(chosen)) return chosen;
    return this.history.before ? WIPE : names[0];
  }

  // What there is to look at: this run's clips, the run before, the difference.
  get pictures() {
    return [...this.clips, ...this.eyes, this.history.before, this.difference].filter(Boolean);
  }

  // Names of the views that there are now.
  views() {
    const { kind } = this.told;
    const names = this.pictures.map((clip) => clip.name);
    if (this.geometry) names.push(GEOMETRY);
    const several = [this.clips.length > 1 && SIDE, this.pictures.length > 1 && WIPE].filter(
      Boolean,
    );
    if (this.host.makeStrip && !this.clips.length) return this.strip ? [STRIP] : [];
    if (kind === "compare") return [...several, ...names, ...(this.host.makeStrip ? [STRIP] : [])];
    return ["prior", "depth"].includes(kind) ? [...names, ...several] : [...several, ...names];
  }

  // One preview for each item that the node ran with.
  showAll(previews, before) {
    this.items.take(previews, before);
    return this.chooseItem(this.items.chosen);
  }

  chooseItem(number) {
    return this.show(...this.items.choose(number));
  }

  // The last call wins; the old pictures stay until the new ones can be drawn.
  async show(preview, runs = []) {
    const turn = ++this.turn;
    if (!this.clips.length) this.say(this.host.say("loading"));
    let clips, earlier, geometry, classes;
    try {
      [clips, earlier, geometry, classes] = await Promise.all([
        loadClips(preview.streams, this.host.url),
        this.history.load("before", runs[0]),
        loadGeometry(preview.geometry, this),
        loadClips(preview.seen ? [preview.seen] : [], this.host.url),
      ]);
    } catch {
      if (turn === this.turn) this.fail();
      return;
    }
    if (turn !== this.turn) return;
    this.geometry?.rest();
    Object.assign(this, { clips, geometry, told: preview, eyes: eyeClips(clips) });
    this.seen.take(classes[0], preview.seen);
    const ego = clips.find(({ name }) => name === "ego");
    this.history.take([preview, ...runs], ego, earlier);
    this.saver.status = "";
    const { mark } = preview;
    this.stage.mark = mark;
    this.time.number = Math.min(
      mark ? Math.round(mark.frame / this.time.step) : this.number,
      this.count - 1,
    );
    this.wipe.setPair(this.pictures.map(({ name }) => name));
    this.parts.note.textContent = this.parts.note.title = preview.text ?? "";
    if (preview.facts) this.parts.note.append(foldedFacts(preview.facts, this.host));
    this.refreshBadge();
    this.refresh();
    if (preview.kind === "live" && !matchMedia("(prefers-reduced-motion: reduce)").matches)
      this.time.play();
  }

  // Also where the run's video is no longer the chosen one.
  refreshBadge() {
    const { badge, run } = this.told;
    const old = this.host.saidOfOld(run);
    this.element.classList.toggle("egox-preview-old", old !== "");
    this.parts.badge.textContent = old || (badge ? this.host.say(badge) : "");
    this.parts.badge.hidden = !this.parts.badge.textContent;
  }

  // What was shown of a step says no more once the run has ended.
  putAway() {
    if (this.told.kind !== "live") return;
    this.turn += 1;
    this.fail(this.host.empty);
  }

  fail(says = "gone") {
    this.time.stop();
    this.geometry?.rest();
    Object.assign(this, { clips: [], eyes: [], geometry: null });
    this.history.clear();
    this.seen.take();
    this.parts.note.textContent = "";
    this.say(this.host.say(says));
    this.refresh();
  }

  say(message) {
    this.parts.message.textContent = message;
    this.parts.message.hidden = !message;
  }

  label(clip) {
    if (this.history.older.includes(clip)) return this.history.label(clip.name);
    return this.host.say(clip.name, { factor: clip.factor }, clip.label);
  }

  clip(name) {
    return [...this.pictures, ...this.history.older].find((clip) => clip.name === name);
  }

  enlarge(factor) {
    if (!this.difference) return;
    this.difference.factor = factor;
    this.refresh();
  }

  // Lays marks over the ego video that tell how each pixel is known, or takes them away.
  showSeen(isShown) {
    this.seen.isShown = isShown;
    this.refresh();
  }

  // Whether the view shows the ego video with room for the legend of its marks.
  get canMark() {
    const views = { ego: true, [SIDE]: true, [WIPE]: this.wipe.pair?.includes("ego") };
    return Boolean(this.seen.marks && views[this.view]);
  }

  // What is to be said of the marks, then of the two runs where both are looked at, or of the
  // strip, else "".
  about() {
    const legend = this.clip("ego")?.marks?.about(this.number * this.time.step, this.host.say);
    return [legend, this.aboutView(), this.saver.status].filter(Boolean).join(" · ");
  }

  aboutView() {
    if (this.view === GEOMETRY) return this.geometry.about();
    if (this.view === STRIP) return this.stripPlayer.about;
    const pairs = {
      [WIPE]: this.wipe.pair,
      before: ["before", "ego"],
      difference: ["before", "ego"],
    };
    const pair = pairs[this.view];
    return pair ? this.history.about(pair, this.clip("ego")) : "";
  }

  choose(view) {
    this.host.onView(view);
    this.saver.status = "";
    this.stripPlayer.isAsked = false;
    this.refresh();
  }

  showShippedStrip(address) {
    return this.stripPlayer.showShipped(address);
  }

  showStrip(previews) {
    return this.stripPlayer.show(previews);
  }

  refresh() {
    // A page that was asked for what isn't there yet says why there is nothing to see.
    if (this.view === STRIP && !this.strip) this.say(this.host.say("noStrip"));
    else if (this.view === GEOMETRY) this.say(this.geometry.reason);
    else if (this.view) this.say("");
    const ego = this.clip("ego");
    if (ego) ego.marks = this.seen.isShown && this.canMark ? this.seen.marks : null;
    if (this.view === GEOMETRY) this.geometry.follow();
    else this.geometry?.rest();
    this.parts.refreshBar();
    this.time.refresh();
    this.draw();
  }

  draw() {
    this.stage.draw();
  }
}
