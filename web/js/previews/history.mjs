// The runs that a preview compares: this one, the one before, and older ones that were looked at.
import { changes, DifferenceClip, formOf, runLabel, sameForm } from "./runs.mjs";
import { loadClips } from "./sheets.mjs";
import { LOADER } from "../graph_change.mjs";

export class RunHistory {
  constructor(host) {
    this.host = host;
    // { streams, values, measure } by name: ego is this run, before the one before, run2, ...
    this.runs = new Map();
    this.before = null; // the clip that the run before gave
    this.older = []; // clips of those before it, as far as they were looked at
    this.difference = null; // of this run from the one before, where both have the same form
  }

  // previews: of this run, then of the runs before it; ego and before: clips of the first two, null
  // where there is none.
  take(previews, ego, before) {
    this.runs = new Map(previews.map((run, i) => [["ego", "before"][i] ?? `run${i}`, run]));
    this.older = [];
    const factor = this.difference?.factor;
    this.before = ego && before;
    this.difference =
      this.before && sameForm(ego, before) ? new DifferenceClip(ego, before).measure() : null;
    if (factor && this.difference) this.difference.factor = factor;
  }

  clear() {
    this.before = this.difference = null;
  }

  // The ego video of an earlier run; null where there was none, or where the server has let its
  // files go.
  async load(name, run) {
    const [clip] = await loadClips(run?.streams ?? [], this.host.url).catch(() => []);
    return clip ? Object.assign(clip, { name }) : null;
  }

  // Loads a clip of an older run; does nothing where a new run has come meanwhile.
  async loadOlder(name) {
    const { runs } = this;
    const clip = await this.load(name, runs.get(name));
    if (clip && runs === this.runs) this.older.push(clip);
  }

  label(name, others = [...this.runs.values()]) {
    return runLabel(this.runs.get(name), others);
  }

  // What differs in the values of two runs, and how far their ego clips differ; "" where they are
  // one run.
  about([nameFrom, nameTo], ego) {
    const [from, to] = [nameFrom, nameTo].map(
      (name) => this.runs.get(name) ?? this.runs.get("ego"),
    );
    if (!this.before || from === to) return "";
    const texts = changes(from.values, to.values).map(({ kind, name, from, to }) => {
      const [a, b] = [from, to].map((value) => (typeof value === "object" ? "…" : String(value)));
      return `${this.host.inputName(kind, name)} ${a} → ${b}`;
    });
    if (String([nameFrom, nameTo].sort()) === "before,ego") texts.push(this.aboutDifference(ego));
    return texts.join(" · ");
  }

  aboutDifference(ego) {
    if (!this.difference) {
      const [now, before] = [ego, this.before].map(formOf);
      const values = {
        frames: now.frames,
        size: now.size,
        framesBefore: before.frames,
        sizeBefore: before.size,
      };
      return this.host.say("otherForm", values);
    }
    const { mean } = this.difference;
    return mean ? this.host.say("mean", { mean: mean.toFixed(1) }) : this.host.say("same");
  }
}

// Of another video: there is nothing to compare.
export const isOther = (run, now) =>
  changes(run.values, now.values).some(({ kind, name }) => kind === LOADER && name === "file");
