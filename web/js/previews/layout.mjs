// Where pictures go on the stage. Pure functions of sizes: nothing here draws.

export const LEGEND_HEIGHT = 26;
export const LABEL_HEIGHT = 18;
const GAP = 4;
const HEAD = 16; // px, of a table

// The largest rectangle of a picture's shape within a box, centred: [x, y, width, height].
export function contain(width, height, [x, y, w, h]) {
  const scale = Math.max(Math.min(w / width, h / height), 0);
  const size = [width * scale, height * scale];
  return [x + (w - size[0]) / 2, y + (h - size[1]) / 2, ...size];
}

// Boxes for clips side by side, in the number of rows that shows them largest; head: px above each
// for its label.
export function sideBySide(clips, [x, y, w, h], head = 0) {
  let best = null;
  for (let rows = 1; rows <= clips.length; rows += 1) {
    const lines = split(clips, rows);
    const heights = lines.map((line) => {
      const aspect = line.reduce((sum, clip) => sum + clip.width / clip.height, 0);
      return (w - GAP * (line.length - 1)) / aspect;
    });
    const room = h - GAP * (lines.length - 1) - head * lines.length;
    const needed = heights.reduce((sum, height) => sum + height, 0);
    const scale = Math.min(1, room / needed);
    const area = lines.reduce(
      (sum, line, i) =>
        sum +
        line.reduce((s, clip) => s + (clip.width / clip.height) * (heights[i] * scale) ** 2, 0),
      0,
    );
    if (!best || area > best.area)
      best = { area, lines, heights: heights.map((height) => height * scale) };
  }
  const boxes = [];
  const taken = best.heights.reduce(
    (sum, height) => sum + height + head,
    GAP * (best.lines.length - 1),
  );
  let top = y + (h - taken) / 2 + head;
  best.lines.forEach((line, i) => {
    const widths = line.map((clip) => (clip.width / clip.height) * best.heights[i]);
    let left =
      x + (w - widths.reduce((sum, width) => sum + width, 0) - GAP * (line.length - 1)) / 2;
    line.forEach((clip, j) => {
      boxes.push({ clip, box: [left, top, widths[j], best.heights[i]] });
      left += widths[j] + GAP;
    });
    top += best.heights[i] + GAP + head;
  });
  return boxes;
}

// Boxes of a table, row by row, below its heads and right of the names of its rows (px of width).
export function tableBoxes(columns, rows, names, [x, y, w, h]) {
  const width = (w - names - GAP * (columns - 1)) / columns;
  const height = (h - HEAD - GAP * (rows - 1)) / rows;
  return Array.from({ length: columns * rows }, (_, i) => [
    x + names + (i % columns) * (width + GAP),
    y + HEAD + Math.floor(i / columns) * (height + GAP),
    width,
    height,
  ]);
}

function split(clips, rows) {
  const perRow = Math.ceil(clips.length / rows);
  const lines = [];
  for (let i = 0; i < clips.length; i += perRow) lines.push(clips.slice(i, i + perRow));
  return lines;
}
