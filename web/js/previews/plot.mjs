// Curves over the frames, one panel each: what is applied bold, each frame's own fit thin.

const FONT = "11px sans-serif";
const LEFT = 58; // px, for the numbers
const GAP = 18;

export function drawPlots(context, plots, frame, [x, y, w, h], ink, accent) {
  const height = (h - GAP * plots.length - 4) / plots.length;
  plots.forEach((plot, i) => {
    const box = [x + LEFT, y + GAP + i * (height + GAP), w - LEFT - 10, height];
    drawPanel(context, plot, frame, box, ink, accent);
  });
}

// Ends of a panel's scale: a constant must look like one, so never nearer than a thousandth of the value.
export function scaleOf(plot) {
  const known = [...plot.applied, ...plot.fit].filter((value) => value !== null);
  if (!known.length) return [0, 1];
  let [low, high] = [Math.min(...known), Math.max(...known)];
  const least = Math.max(1e-3 * Math.max(Math.abs(low), Math.abs(high)), 1e-6);
  if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
  const margin = 0.08 * (high - low);
  return [low - margin, high + margin];
}

function drawPanel(context, plot, frame, [x, y, w, h], ink, accent) {
  const [low, high] = scaleOf(plot);
  const count = plot.applied.length;
  const at = (i, value) => [x + (w * i) / Math.max(count - 1, 1), y + h * (1 - (value - low) / (high - low))];
  context.font = FONT;
  context.fillStyle = context.strokeStyle = ink;
  context.lineWidth = 1;
  context.globalAlpha = 0.4;
  context.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
  context.fillRect(at(frame, low)[0] - 0.5, y, 1, h);
  context.globalAlpha = 1;
  context.textAlign = "right";
  for (const [value, baseline] of [
    [high, "top"],
    [low, "bottom"],
  ]) {
    context.textBaseline = baseline;
    context.fillText(String(Number(value.toPrecision(4))), x - 4, baseline === "top" ? y : y + h);
  }
  context.textAlign = "left";
  context.textBaseline = "bottom";
  const now = plot.applied[frame] ?? null;
  context.fillText(plot.label + (now === null ? "" : `: ${Number(now.toPrecision(4))}`), x, y - 2);
  for (const [values, width, alpha] of [
    [plot.fit, 1, 0.7],
    [plot.applied, 2, 1],
  ]) {
    context.strokeStyle = width === 1 ? ink : accent;
    context.lineWidth = width;
    context.globalAlpha = alpha;
    context.beginPath();
    values.forEach((value, i) => {
      if (value === null) return;
      const alone = (values[i - 1] ?? null) === null;
      if (alone) context.moveTo(...at(i, value));
      else context.lineTo(...at(i, value));
      if (alone && (values[i + 1] ?? null) === null) context.arc(...at(i, value), 1.5, 0, 2 * Math.PI);
    });
    context.stroke();
  }
  context.globalAlpha = 1;
}
