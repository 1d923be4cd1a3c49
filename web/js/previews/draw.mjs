// Drawing on the stage: pictures with their names, the wipe, legends, the crosshair, the curve over
// the timeline.
import { contain, LEGEND_HEIGHT, tableBoxes } from "./layout.mjs";
import { place } from "./weights.mjs";

const FONT = "11px sans-serif";
const PADDING = 10; // px, of a label

export function drawPicture(context, clip, number, [x, y, w, h]) {
  const [image, sx, sy, sw, sh] = clip.frame(number);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, sx, sy, sw, sh, x, y, w, h);
  clip.marks?.draw(context, number, [x, y, w, h]);
}

// The first of the labels that is no wider than this, else the last.
export function fitting(context, labels, width) {
  context.font = FONT;
  return (
    labels.find((label) => context.measureText(label).width + PADDING <= width) ?? labels.at(-1)
  );
}

// White on dark, so that it reads on any picture and in any theme; cut where there is less room.
export function drawLabel(context, text, x, y, align = "left", room = Infinity) {
  context.font = FONT;
  const cuts = Array.from(text, (_, i) => `${text.slice(0, -1 - i)}…`);
  const label = fitting(context, [text, ...cuts], room);
  const width = context.measureText(label).width + PADDING;
  const left = align === "right" ? x - width : x;
  context.fillStyle = "rgba(0, 0, 0, 0.66)";
  context.beginPath();
  context.roundRect(left, y, width, 17, 4);
  context.fill();
  context.fillStyle = "#fff";
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillText(label, left + 5, y + 9);
}

// The right picture right of the place `at` (0...1 of the box), the left one left of it.
export function drawWipe(context, left, right, number, boxes, stage, at) {
  const [x, y, w, h] = stage;
  const edge = x + w * at;
  for (const [clip, box, from, to] of [
    [left, boxes[0], x, edge],
    [right, boxes[1], edge, x + w],
  ]) {
    context.save();
    context.beginPath();
    context.rect(from, y, to - from, h);
    context.clip();
    drawPicture(context, clip, number, box);
    context.restore();
  }
  context.fillStyle = "rgba(0, 0, 0, 0.6)";
  context.fillRect(edge - 2, y, 4, h);
  context.fillStyle = "#fff";
  context.fillRect(edge - 1, y, 2, h);
}

// Clips in rows and columns, each column under its head, each row beside its name.
export function drawTable(context, clips, number, heads, sides, stage, ink) {
  context.font = FONT;
  const left = Math.max(...sides.map((side) => context.measureText(side).width)) + PADDING;
  const [x, y, w, h] = stage; // whose corners are round
  const boxes = tableBoxes(heads.length, sides.length, left, [
    x,
    y,
    w - PADDING / 2,
    h - PADDING / 2,
  ]);
  clips.forEach((clip, i) =>
    drawPicture(context, clip, number, contain(clip.width, clip.height, boxes[i])),
  );
  context.fillStyle = ink;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  heads.forEach((head, i) =>
    context.fillText(head, boxes[i][0] + boxes[i][2] / 2, boxes[i][1] - 2),
  );
  context.textAlign = "left";
  context.textBaseline = "middle";
  sides.forEach((side, i) => {
    const [, top, , high] = boxes[i * heads.length];
    context.fillText(side, x + 2, top + high / 2);
  });
}

export function drawLegend(context, legend, [x, y, w], ink) {
  const left = x + 14;
  const width = w - 28;
  const gradient = context.createLinearGradient(left, 0, left + width, 0);
  legend.colours.forEach((colour, i) =>
    gradient.addColorStop(i / (legend.colours.length - 1), colour),
  );
  context.fillStyle = gradient;
  context.fillRect(left, y + 3, width, 7);
  context.font = FONT;
  context.fillStyle = ink;
  context.strokeStyle = ink;
  context.textBaseline = "top";
  context.textAlign = "center";
  let last = null;
  // Nearest first: where labels would touch, the farther one is left out.
  for (const tick of [...legend.ticks].sort((a, b) => b.at - a.at)) {
    const place = left + width * tick.at;
    const half = context.measureText(tick.label).width / 2;
    const centre = Math.min(Math.max(place, x + half), x + w - half);
    if (last !== null && centre + half + 4 > last) continue;
    last = centre - half;
    context.fillRect(place - 0.5, y + 3, 1, 10);
    context.fillText(tick.label, centre, y + 14);
  }
  return LEGEND_HEIGHT;
}

// On the lower edge of a picture, white on dark.
export function drawLegendOver(context, legend, [x, y, w, h]) {
  context.fillStyle = "rgba(0, 0, 0, 0.66)";
  context.fillRect(x, y + h - LEGEND_HEIGHT, w, LEGEND_HEIGHT);
  drawLegend(context, legend, [x, y + h - LEGEND_HEIGHT, w], "#fff");
}

// Over the exo picture, a colour a patch; patches without depth stay as they are.
export function drawWeights(context, weights, [rows, columns], colours, [x, y, w, h]) {
  context.globalAlpha = 0.6;
  weights.forEach((weight, i) => {
    if (Number.isNaN(weight)) return;
    context.fillStyle = colours[Math.round(place(weight) * (colours.length - 1))];
    const [left, right] = [i % columns, (i % columns) + 1].map((edge) =>
      Math.round(x + (w * edge) / columns),
    );
    const row = Math.floor(i / columns);
    const [top, bottom] = [row, row + 1].map((edge) => Math.round(y + (h * edge) / rows));
    context.fillRect(left, top, right - left, bottom - top);
  });
  context.globalAlpha = 1;
}

// White with a dark rim, so that it reads on any picture.
function strokeRimmed(context, width) {
  for (const [colour, rim] of Object.entries({ "rgba(0, 0, 0, 0.75)": 2, "#fff": 0 })) {
    context.strokeStyle = colour;
    context.lineWidth = width + rim;
    context.stroke();
  }
}

// The frame of one patch.
export function drawPatch(context, [rows, columns], [row, column], [x, y, w, h]) {
  context.beginPath();
  context.rect(x + (w * column) / columns, y + (h * row) / rows, w / columns, h / rows);
  strokeRimmed(context, 2);
}

export function drawMark(context, mark, clip, [x, y, w, h]) {
  const px = x + ((mark.x + 0.5) / clip.source[0]) * w;
  const py = y + ((mark.y + 0.5) / clip.source[1]) * h;
  context.beginPath();
  context.arc(px, py, 6, 0, 2 * Math.PI);
  for (const side of [-1, 1]) {
    context.moveTo(px + 4 * side, py);
    context.lineTo(px + 11 * side, py);
    context.moveTo(px, py + 4 * side);
    context.lineTo(px, py + 11 * side);
  }
  strokeRimmed(context, 1.5);
}

// A bar per frame fills the strip's height from 0 to the largest value (percent: to 100); none
// where nothing is known.
export function drawCurve(context, curve, width, height, ink, number, count) {
  const top = curve.unit === "%" ? 100 : Math.max(...curve.values, 1e-9);
  const step = width / Math.max(curve.values.length - 1, 1);
  context.clearRect(0, 0, width, height);
  context.beginPath();
  curve.values.forEach((value, i) => {
    const high = 1 + (value / top) * (height - 2);
    if (value !== null) context.rect((i - 0.5) * step, height - high, step, high);
  });
  context.fillStyle = ink;
  context.globalAlpha = 0.5;
  context.fill();
  context.globalAlpha = 1;
  context.fillRect((number / Math.max(count - 1, 1)) * width - 0.5, 0, 1, height);
}
