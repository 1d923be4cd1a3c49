// The stage: which view is drawn where, and what the pointer meets there.
import { GEOMETRY, SIDE, STRIP, WIPE } from "./elements.mjs";
import * as drawing from "./draw.mjs";
import { contain, LABEL_HEIGHT, LEGEND_HEIGHT, sideBySide } from "./layout.mjs";
import { WIGGLE, WIGGLE_MS } from "./eyes.mjs";
import { LAMBDAS, STRENGTHS } from "./strip.mjs";

const LEGEND_MIN_WIDTH = 120; // px: on a smaller picture it would hide too much
const LEGEND_MIN_HEIGHT = 80;
const LABEL_GAP = 2; // px

export class Stage {
  constructor(preview) {
    this.preview = preview;
    this.boxes = []; // where the clips were drawn, { clip, box }
    this.mark = null; // the picked pixel, { x, y, frame }
    this.wiggling = null; // the timer of the other eye
  }

  draw() {
    const { preview } = this;
    const prepared = fit(preview.parts.canvas, preview.host.zoom());
    if (!prepared) return;
    const { context, width, height } = prepared;
    context.clearRect(0, 0, width, height);
    this.paint(context, [0, 0, width, height], preview.number);
    clearTimeout(this.wiggling);
    if (preview.view === WIGGLE && preview.element.isConnected)
      this.wiggling = setTimeout(() => this.draw(), WIGGLE_MS);
  }

  // A frame on a stage that isn't the page's.
  paintFrame(context, stage, number) {
    const { boxes } = this;
    const { wipe } = this.preview;
    const { box } = wipe;
    this.paint(context, stage, number);
    Object.assign(this, { boxes });
    Object.assign(wipe, { box });
  }

  paint(context, stage, number) {
    const { preview } = this;
    this.boxes = [];
    if (preview.view === STRIP) this.drawStrip(context, stage, number);
    if (preview.view === STRIP || !preview.clips.length) return;
    if (preview.view === WIPE) this.drawWiped(context, stage, number);
    else if (preview.view === SIDE) this.drawSide(context, preview.clips, stage, number);
    else if (preview.view === GEOMETRY) this.boxes = preview.geometry.draw(context, number, stage);
    else this.drawOne(context, preview.clip(preview.view), stage, number);
    const ego = this.boxes.find(({ clip }) => clip.pick);
    if (ego && this.mark && Math.round(this.mark.frame / preview.time.step) === number)
      drawing.drawMark(context, this.mark, ego.clip, ego.box);
  }

  drawOne(context, clip, [x, y, width, height], number) {
    const legend = clip.legend ? LEGEND_HEIGHT : 0;
    const box = contain(clip.width, clip.height, [x, y, width, height - legend]);
    drawing.drawPicture(context, clip, number, box);
    if (legend) drawing.drawLegend(context, clip.legend, [x, height - legend, width], this.ink());
    if (clip.pick)
      drawing.drawLabel(context, this.preview.host.say("pick"), box[0] + 4, box[1] + 4);
    this.boxes.push({ clip, box });
  }

  drawStrip(context, stage, number) {
    const heads = LAMBDAS.map((value) => `λ_g ${value}`);
    const sides = STRENGTHS.map((value) => `LoRA ${value}`);
    const { strip } = this.preview;
    if (strip) drawing.drawTable(context, strip, number, heads, sides, stage, this.ink());
  }

  drawSide(context, clips, stage, number) {
    const { preview } = this;
    this.boxes = sideBySide(clips, stage, LABEL_HEIGHT);
    for (const { clip, box } of this.boxes) {
      drawing.drawPicture(context, clip, number, box);
      const labels = clip.pick ? [`${preview.label(clip)}: ${preview.host.say("pick")}`] : [];
      const label = drawing.fitting(context, [...labels, preview.label(clip)], box[2]);
      drawing.drawLabel(context, label, box[0], box[1] - LABEL_HEIGHT, "left", box[2]);
      const isRoomy = box[2] >= LEGEND_MIN_WIDTH && box[3] >= LEGEND_MIN_HEIGHT;
      if (clip.legend && isRoomy) drawing.drawLegendOver(context, clip.legend, box);
    }
  }

  drawWiped(context, [x, y, w, h], number) {
    const { preview } = this;
    const { wipe } = preview;
    const clips = wipe.pair.map((name) => preview.clip(name));
    const half = w / 2 - LABEL_GAP;
    const boxes = clips.map((clip) =>
      contain(clip.width, clip.height, [x, y + LABEL_HEIGHT, w, h - LABEL_HEIGHT]),
    );
    // The wipe runs over what the pictures cover, not over the empty sides of the stage.
    const left = Math.min(boxes[0][0], boxes[1][0]);
    const right = Math.max(...boxes.map((box) => box[0] + box[2]));
    wipe.box = [
      left,
      Math.min(boxes[0][1], boxes[1][1]),
      right - left,
      Math.max(boxes[0][3], boxes[1][3]),
    ];
    drawing.drawWipe(context, ...clips, number, boxes, wipe.box, wipe.at);
    drawing.drawLabel(context, preview.label(clips[0]), x, y, "left", half);
    drawing.drawLabel(context, preview.label(clips[1]), x + w, y, "right", half);
    preview.parts.placeWipe(left + wipe.box[2] * wipe.at, wipe.at);
  }

  // The curve over the timeline.
  drawTrack() {
    const { host, number, parts, time, told } = this.preview;
    const prepared = fit(parts.track, host.zoom());
    if (!prepared) return;
    const { context, width, height } = prepared;
    drawing.drawCurve(context, told.curve, width, height, this.ink(), number, time.count);
  }

  ink() {
    return getComputedStyle(this.preview.element).color;
  }

  // The pointer over the stage, pressed or not; px of the canvas' own units.
  pointOver(x, y) {
    const { geometry, view } = this.preview;
    if (view !== GEOMETRY || !this.boxes.length) return;
    const { box } = this.boxes[1];
    const [u, v] = shareOf(box, x, y);
    if (isWithin(box, x, y)) geometry.lookAt(u, v);
  }

  // Stage coordinates in, px of the canvas' own units.
  pointAt(x, y) {
    const { view, wipe } = this.preview;
    this.pointOver(x, y);
    if (view === WIPE && wipe.box) {
      wipe.moveTo(x);
      return;
    }
    const hit = this.boxes.find(({ clip, box }) => clip.pick && isWithin(box, x, y));
    if (hit) this.pick(hit.clip, ...shareOf(hit.box, x, y));
  }

  pick(clip, u, v) {
    const [width, height] = clip.source;
    const frame = this.preview.number * clip.step;
    this.mark = { x: Math.floor(u * width), y: Math.floor(v * height), frame };
    this.preview.host.onPick({
      [clip.pick.x]: this.mark.x,
      [clip.pick.y]: this.mark.y,
      [clip.pick.frame]: frame,
    });
    this.draw();
  }
}

const isWithin = ([left, top, w, h], x, y) => x >= left && x < left + w && y >= top && y < top + h;

const shareOf = ([left, top, w, h], x, y) => [(x - left) / w, (y - top) / h];

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
