// A node's last runs. Kept by the tab, since a graph that is loaded makes its nodes anew; the
// pictures are files of the server, which keeps them until it is started again.

const STORE = "egox_last_runs";
const MOST = 8; // nodes, and runs of each

// The ego videos of a node's runs before this one, the last run first; this one is remembered. A
// run that came from the server's cache is the same run.
export function runsBefore(key, previews, storage = sessionStorage) {
  const kept = new Map(JSON.parse(storage.getItem(STORE) ?? "[]"));
  const run = previews.map(({ streams, values, measure }) => ({
    streams: streams.filter(({ name }) => name === "ego"),
    values,
    measure,
  }));
  const earlier = (kept.get(key) ?? []).filter((other) => files(other) !== files(run));
  kept.delete(key);
  kept.set(key, [run, ...earlier].slice(0, MOST));
  storage.setItem(STORE, JSON.stringify([...kept].slice(-MOST)));
  return earlier.slice(0, MOST - 1);
}

const files = (run) =>
  JSON.stringify(run.map(({ streams }) => streams.map((stream) => stream.files)));

const valueIn = (run, name) =>
  Object.values(run?.values ?? {}).find((node) => typeof node.values[name] === "number")?.values[
    name
  ];

// The name of a file of what is shown of a run, written as Save Video's in the shipped graphs.
export function clipName(view, run) {
  const told = Object.entries({ lambda: "lambda_g", lora: "strength", seed: "seed" });
  const known = told.filter(([, name]) => valueIn(run, name) !== undefined);
  return [view, ...known.map(([label, name]) => `${label}${valueIn(run, name)}`)].join("_");
}

// What one tells a run apart from others by, and how near it came to the truth or its path.
export function runLabel(run, others = []) {
  const told = Object.entries({ λ_g: "lambda_g", LoRA: "strength", seed: "seed" }).filter(
    ([, name]) => {
      const value = valueIn(run, name);
      return (
        value !== undefined &&
        (!others.length || others.some((other) => valueIn(other, name) !== value))
      );
    },
  );
  const { measure } = run;
  return [
    ...told.map(([label, name]) => `${label} ${valueIn(run, name)}`),
    ...(measure ? [measure] : []),
  ].join(" · ");
}

// What differs in the values of two runs' nodes, as nodes/host/graph.py tells them: [{ node, kind,
// name, from, to }].
export function changes(before, now) {
  const found = [];
  for (const [node, { kind, values }] of Object.entries(now ?? {})) {
    const earlier = before?.[node];
    if (earlier?.kind !== kind) continue;
    for (const [name, to] of Object.entries(values)) {
      const from = earlier.values[name];
      if (from !== undefined && JSON.stringify(from) !== JSON.stringify(to))
        found.push({ node, kind, name, from, to });
    }
  }
  return found;
}

// A clip of how far two others differ, many times enlarged so that it can be seen; drawn frame by
// frame when asked for.
export class DifferenceClip {
  constructor(now, before) {
    this.pair = [now, before];
    this.name = this.label = "difference";
    this.factor = 8;
    this.mean = null; // of all pixels and colours, of 255
    for (const key of ["count", "step", "width", "height", "source"]) this[key] = now[key];
    this.canvas = Object.assign(document.createElement("canvas"), {
      width: now.width,
      height: now.height,
    });
  }

  frame(number) {
    const context = this.plain(number);
    context.globalCompositeOperation = "lighter"; // onto itself: twice as bright
    for (let factor = 1; factor < this.factor; factor *= 2) context.drawImage(this.canvas, 0, 0);
    return [this.canvas, 0, 0, this.width, this.height];
  }

  plain(number) {
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    for (const [clip, operation] of [
      [this.pair[0], "copy"],
      [this.pair[1], "difference"],
    ]) {
      context.globalCompositeOperation = operation;
      const [image, ...part] = clip.frame(number);
      context.drawImage(image, ...part, 0, 0, this.width, this.height);
    }
    return context;
  }

  measure() {
    let sum = 0;
    for (let number = 0; number < this.count; number += 1) {
      const { data } = this.plain(number).getImageData(0, 0, this.width, this.height);
      for (let i = 0; i < data.length; i += 4) sum += data[i] + data[i + 1] + data[i + 2];
    }
    this.mean = sum / (3 * this.width * this.height * this.count);
    return this;
  }
}

// Whether two clips have a difference: as many frames, as large.
export const sameForm = (now, before) =>
  now.count === before.count &&
  now.step === before.step &&
  String(now.source) === String(before.source);

export const formOf = (clip) => ({
  frames: (clip.count - 1) * clip.step + 1,
  size: clip.source.join(" x "),
});
