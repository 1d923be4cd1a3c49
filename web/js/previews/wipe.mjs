// The wipe's two pictures, and where the border between them is.

// The first pair that is there is shown: the result beside the truth, else beside what it was made
// from.
const PAIRS = [
  ["before", "ego"],
  ["guided", "plain"],
  ["ego", "truth"],
  ["prior", "ego"],
  ["exo", "ego"],
  ["prior", "coverage"],
];

export class Wipe {
  constructor(preview) {
    this.preview = preview;
    this.pair = null; // names of the two pictures
    this.pairAsked = null; // of those that are being loaded, the last
    this.isChosen = false; // by the user
    this.at = 0.5; // share of the box
    this.box = null; // that it runs over
  }

  setPair(names) {
    const isThere = (name) => names.includes(name);
    if (this.isChosen && this.pair.every(isThere)) return;
    this.pair = PAIRS.find((pair) => pair.every(isThere)) ?? [names[0], names[1] ?? names[0]];
  }

  // What may be on a side of the wipe, [name, its label].
  choices() {
    const { history, pictures } = this.preview;
    const names = new Set([
      ...pictures.map(({ name }) => name),
      ...(history.before ? history.runs.keys() : []),
    ]);
    return [...names].map((name) => {
      const clip = this.preview.clip(name);
      const labels = [
        clip && !history.older.includes(clip) && this.preview.label(clip),
        history.runs.size > 1 && history.runs.has(name) && history.label(name),
      ];
      return [name, labels.filter(Boolean).join(" · ")];
    });
  }

  async choosePair(pair) {
    const { preview } = this;
    this.pairAsked = pair;
    for (const name of pair.filter((each) => !preview.clip(each)))
      await preview.history.loadOlder(name);
    if (pair !== this.pairAsked) return; // the other side was chosen meanwhile
    if (pair.every((name) => preview.clip(name))) Object.assign(this, { pair, isChosen: true });
    preview.refresh();
  }

  // px of the canvas' own units
  moveTo(x) {
    this.set((x - this.box[0]) / this.box[2]);
  }

  set(at) {
    this.at = Math.min(Math.max(at, 0), 1);
    this.preview.draw();
  }
}
