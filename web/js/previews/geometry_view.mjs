// The view of the geometry: over the exo picture the weight of every patch, for the ego patch under
// the pointer. It follows λ_g as the page has it, without a run.
import * as drawing from "./draw.mjs";
import { LEGEND_HEIGHT, sideBySide } from "./layout.mjs";
import { Geometry } from "./weights.mjs";

const FOLLOW_MS = 50; // how soon a change of λ_g is drawn

// told: as nodes/show/geometry.py tells it, or null. Rejects where its file is gone.
export async function loadGeometry(told, preview) {
  if (!told) return null;
  if (!told.file) return new GeometryView(null, preview, told.reason);
  const answer = await fetch(preview.host.url(told.file));
  if (!answer.ok) throw new Error(answer.statusText);
  return new GeometryView(new Geometry(told, await answer.arrayBuffer()), preview);
}

export class GeometryView {
  constructor(geometry, preview, reason = "") {
    this.geometry = geometry;
    this.preview = preview;
    this.reason = reason; // why there is none
    // the place in the ego picture, shares of its sides
    this.looked = preview.geometry?.looked ?? [0.5, 0.5];
    // λ_g and mode, of which it is drawn
    this.strength = geometry && preview.host.strength(geometry);
    this.timer = null;
  }

  // While it is open, what the graph says of λ_g is looked at again and again: it has many ways to
  // change.
  follow() {
    this.rest();
    if (!this.geometry) return;
    this.timer = setInterval(() => {
      const strength = this.preview.host.strength(this.geometry);
      if (JSON.stringify(strength) === JSON.stringify(this.strength)) return;
      this.strength = strength;
      this.redraw();
    }, FOLLOW_MS);
  }

  rest() {
    clearInterval(this.timer);
  }

  redraw() {
    this.preview.parts.refreshAbout();
    this.preview.draw();
  }

  lookAt(u, v) {
    if (!this.geometry) return;
    this.looked = [u, v].map((share) => Math.min(Math.max(share, 0), 1));
    this.redraw();
  }

  // So many patches on.
  lookOn(columns, rows) {
    if (!this.geometry) return;
    const [, h, , w] = this.geometry.grid;
    const [, row, column] = this.patch(this.preview.number);
    this.lookAt((column + columns + 0.5) / w, (row + rows + 0.5) / h);
  }

  // The ego patch that is looked at in a shown frame: [latent frame, row, column].
  patch(number) {
    const [, rows, , columns] = this.geometry.grid;
    const [u, v] = this.looked;
    const within = (share, count) => Math.min(Math.floor(share * count), count - 1);
    return [
      this.geometry.latent(number * this.preview.time.step),
      within(v, rows),
      within(u, columns),
    ];
  }

  weights(number) {
    return this.geometry.weights(...this.patch(number), this.strength);
  }

  about() {
    if (!this.geometry) return "";
    const { say } = this.preview.host;
    const { mode, lambda } = this.strength;
    const known = [...this.weights(this.preview.number)].filter((weight) => weight >= 0);
    const [low, high] = [Math.min(...known), Math.max(...known)].map((weight) =>
      String(Number(weight.toPrecision(2))),
    );
    const said = known.length ? say("weights", { low, high }) : say("noWeights");
    return [`λ_g ${lambda} (${mode})`, said].join(" · ");
  }

  // The boxes of both pictures, the ego one last; none where there is nothing to draw.
  draw(context, number, [x, y, w, h]) {
    if (!this.geometry) return [];
    const { preview, geometry } = this;
    const boxes = sideBySide(
      [preview.clip("exo"), preview.clip("ego") ?? preview.clip("prior")],
      [x, y, w, h - LEGEND_HEIGHT],
    );
    for (const { clip, box } of boxes) drawing.drawPicture(context, clip, number, box);
    const [exo, ego] = boxes.map(({ box }) => box);
    const [, rows, exoColumns, egoColumns] = geometry.grid;
    const [, row, column] = this.patch(number);
    drawing.drawWeights(
      context,
      this.weights(number),
      [rows, exoColumns],
      geometry.legend.colours,
      exo,
    );
    drawing.drawPatch(context, [rows, egoColumns], [row, column], ego);
    drawing.drawLegend(
      context,
      geometry.legend,
      [exo[0], exo[1] + exo[3], exo[2]],
      preview.stage.ink(),
    );
    drawing.drawLabel(context, preview.host.say("weightOf"), exo[0] + 4, exo[1] + 4);
    drawing.drawLabel(context, preview.host.say("point"), ego[0] + 4, ego[1] + 4);
    return boxes;
  }
}
