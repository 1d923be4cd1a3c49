// The path between keyframes: the same mathematics as interpolate_poses in
// egox_core/trajectory/path.py (scipy's cubic spline and slerp), so that the page
// shows what a run will render. A test holds the two together.

import { inverse, lookAt, times } from "./pose.mjs";

export const MODES = ["spline", "linear", "hold"];
const SAME = 1e-9; // a moment this near to a keyframe's is that keyframe's

export class Track {
  // keys: [{ moment, pose: { position, turn }, mode }], moments rising; mode: how the path goes on
  // from that key. looks: [{ moment, point }], what the wearer looks at: the path is turned to it
  // (path.py's turns_to_looks).
  constructor(keys, looks = [], up = undefined) {
    this.keys = keys;
    this.moments = keys.map((key) => key.moment);
    const curved = keys.length > 2 && keys.slice(0, -1).some((key) => key.mode === "spline");
    this.slopes = curved
      ? [0, 1, 2].map((axis) =>
          splineSlopes(
            this.moments,
            keys.map((key) => key.pose.position[axis]),
          ),
        )
      : null;
    this.bends = looks.flatMap(({ moment, point }) => {
      const own = this.own(moment);
      const seen = lookAt(own.position, point, up); // null straight above or below it
      return seen ? [{ moment, turn: times(seen.turn, inverse(own.turn)) }] : [];
    });
  }

  at(moment) {
    const { position, turn } = this.own(moment);
    const { bends } = this;
    if (!bends.length) return { position, turn };
    const next = bends.findIndex((bend) => bend.moment > moment);
    const [a, b] = [
      bends[Math.max(next < 0 ? bends.length - 1 : next - 1, 0)],
      bends[next < 0 ? bends.length - 1 : next],
    ];
    const share = a === b ? 0 : (moment - a.moment) / (b.moment - a.moment);
    return { position, turn: times(slerp(a.turn, b.turn, share), turn) };
  }

  // The pose between the keys alone; before the first key and after the last one they hold.
  own(moment) {
    const { keys, moments } = this;
    const last = keys.length - 1;
    const given = moments.findIndex((m) => Math.abs(m - moment) <= SAME);
    if (given >= 0) return keys[given].pose;
    if (moment <= moments[0]) return keys[0].pose;
    if (moment >= moments[last]) return keys[last].pose;
    let i = 0;
    while (moments[i + 1] <= moment) i++;
    const [from, to] = [keys[i], keys[i + 1]];
    if (from.mode === "hold") return from.pose;
    const step = moments[i + 1] - moments[i];
    const share = (moment - moments[i]) / step;
    const position = [0, 1, 2].map((axis) => {
      const [a, b] = [from.pose.position[axis], to.pose.position[axis]];
      if (from.mode === "linear" || !this.slopes) return a + (b - a) * share;
      const [sa, sb] = [this.slopes[axis][i] * step, this.slopes[axis][i + 1] * step];
      const s = share;
      return (
        (1 + 2 * s) * (1 - s) ** 2 * a +
        s * (1 - s) ** 2 * sa +
        s * s * (3 - 2 * s) * b +
        s * s * (s - 1) * sb
      );
    });
    return { position, turn: slerp(from.pose.turn, to.pose.turn, share) };
  }
}

// Derivatives at the knots of scipy's CubicSpline: not-a-knot from four points on, natural for
// three.
export function splineSlopes(x, y) {
  const n = x.length;
  const dx = x.slice(1).map((v, i) => v - x[i]);
  const rise = dx.map((d, i) => (y[i + 1] - y[i]) / d);
  const [below, middle, above, right] = [0, 0, 0, 0].map(() => new Array(n).fill(0));
  for (let i = 1; i < n - 1; i++) {
    below[i] = dx[i];
    middle[i] = 2 * (dx[i - 1] + dx[i]);
    above[i] = dx[i - 1];
    right[i] = 3 * (dx[i] * rise[i - 1] + dx[i - 1] * rise[i]);
  }
  if (n === 3) {
    [middle[0], above[0], right[0]] = [2 * dx[0], dx[0], 3 * (y[1] - y[0])];
    [middle[2], below[2], right[2]] = [2 * dx[1], dx[1], 3 * (y[2] - y[1])];
  } else {
    let d = x[2] - x[0];
    [middle[0], above[0]] = [dx[1], d];
    right[0] = ((dx[0] + 2 * d) * dx[1] * rise[0] + dx[0] ** 2 * rise[1]) / d;
    d = x[n - 1] - x[n - 3];
    [middle[n - 1], below[n - 1]] = [dx[n - 3], d];
    right[n - 1] =
      (dx[n - 2] ** 2 * rise[n - 3] + (2 * d + dx[n - 2]) * dx[n - 3] * rise[n - 2]) / d;
  }
  for (let i = 1; i < n; i++) {
    const factor = below[i] / middle[i - 1];
    middle[i] -= factor * above[i - 1];
    right[i] -= factor * right[i - 1];
  }
  const slopes = new Array(n);
  slopes[n - 1] = right[n - 1] / middle[n - 1];
  for (let i = n - 2; i >= 0; i--) slopes[i] = (right[i] - above[i] * slopes[i + 1]) / middle[i];
  return slopes;
}

export function slerp(a, b, share) {
  let cos = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
  const sign = cos < 0 ? -1 : 1; // the shorter way round
  cos *= sign;
  const sin = Math.hypot(...a.map((v, i) => sign * b[i] - cos * v));
  const angle = Math.atan2(sin, cos);
  // Nearly the same rotation: the chord is the arc.
  const [wa, wb] =
    sin < 1e-12
      ? [1 - share, share]
      : [Math.sin((1 - share) * angle) / sin, Math.sin(share * angle) / sin];
  const q = a.map((v, i) => wa * v + sign * wb * b[i]);
  const size = Math.hypot(...q);
  return q.map((v) => v / size);
}
