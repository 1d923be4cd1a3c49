// The coloured cloud: the static points and those that move in the frame that is looked at. The
// server sends them in random order, so that any first part of them is an even thinning: while
// something moves, only as many are drawn as the machine manages smoothly; at rest all of them.
import {
  BufferAttribute,
  BufferGeometry,
  Group,
  Points,
  PointsMaterial,
} from "../../vendor/three.mjs";

// of drawing a frame while moving: some 20 frames a second with what else there is to do
export const GOAL_MS = 35;
const LEAST = 4000;
const SOME = 300; // points whose distances tell how dense all are
const UNKNOWN_M = 0.02; // from point to point, where there are none
const LEAST_PX = 2; // of a point far away

export class CloudPoints {
  constructor() {
    this.object = new Group();
    // sized in metres: near ones are larger
    this.material = new PointsMaterial({ vertexColors: true });
    this.material.onBeforeCompile = (shader) => {
      const [end, least] = [
        "#include <logdepthbuf_vertex>",
        `gl_PointSize = max(gl_PointSize, ${LEAST_PX}.0);`,
      ];
      shader.vertexShader = shader.vertexShader.replace(end, `${least}\n${end}`);
    };
    this.parts = { static: this.make(), moving: this.make() };
    this.budget = 60000; // points while moving; learnt from the frames' times
    this.fast = false;
  }

  make() {
    const points = new Points(new BufferGeometry(), this.material);
    points.frustumCulled = false;
    points.count = 0;
    this.object.add(points);
    return points;
  }

  set(part, { xyz, rgb, count }) {
    const points = this.parts[part];
    points.geometry.dispose();
    points.geometry = new BufferGeometry();
    points.geometry.setAttribute("position", new BufferAttribute(xyz, 3));
    points.geometry.setAttribute("color", new BufferAttribute(rgb, 3, true));
    points.count = count;
    if (part === "static") this.spacing = count > 1 ? spacingOf(xyz, count) : UNKNOWN_M;
    this.thin(this.fast);
  }

  clear() {
    for (const part of ["static", "moving"])
      this.set(part, { xyz: new Float32Array(0), rgb: new Uint8Array(0), count: 0 });
  }

  get count() {
    return this.parts.static.count + (this.parts.moving.visible ? this.parts.moving.count : 0);
  }

  showMoving(on) {
    this.parts.moving.visible = on;
  }

  thin(fast) {
    this.fast = fast;
    const share = fast ? Math.min(1, this.budget / Math.max(1, this.count)) : 1;
    for (const points of Object.values(this.parts))
      points.geometry.setDrawRange(0, Math.ceil(points.count * share));
    this.material.size = this.spacing / Math.sqrt(share);
    return share;
  }

  // How long a thinned frame took: more points next time, or fewer.
  learn(milliseconds) {
    const factor = Math.min(1.3, Math.max(0.5, GOAL_MS / Math.max(1, milliseconds)));
    this.budget = Math.min(400000, Math.max(LEAST, this.budget * factor));
  }

  // The front point within reach of a place on the screen: project(x, y, z) gives [px, py, depth]
  // or null.
  nearest(px, py, matrix, width, height, reach = 9) {
    let best = null;
    const m = matrix.elements;
    for (const points of Object.values(this.parts)) {
      if (!points.visible || !points.count) continue;
      const xyz = points.geometry.getAttribute("position").array;
      for (let i = 0; i < xyz.length; i += 3) {
        const [x, y, z] = [xyz[i], xyz[i + 1], xyz[i + 2]];
        const w = m[3] * x + m[7] * y + m[11] * z + m[15];
        if (w <= 0) continue;
        const sx = (((m[0] * x + m[4] * y + m[8] * z + m[12]) / w) * 0.5 + 0.5) * width;
        const sy = (0.5 - ((m[1] * x + m[5] * y + m[9] * z + m[13]) / w) * 0.5) * height;
        const off = Math.max(Math.abs(sx - px), Math.abs(sy - py));
        if (off > reach) continue;
        // A point a little farther from the click must be clearly in front to win.
        const score = w * (1 + 0.02 * off);
        if (!best || score < best.score) best = { score, point: [x, y, z] };
      }
    }
    return best?.point ?? null;
  }
}

// Metres between neighbours on the surfaces: among a few, whose neighbours are farther off, counted
// up to all.
function spacingOf(xyz, count) {
  const some = Array.from({ length: Math.min(SOME, count) }, (_, i) =>
    xyz.subarray(3 * i, 3 * i + 3),
  );
  const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  const nearest = some.map((a) =>
    Math.min(...some.filter((b) => b !== a).map((b) => distance(a, b))),
  );
  return (
    2 * (nearest.sort((a, b) => a - b)[some.length >> 1] ?? 0) * Math.sqrt(some.length / count)
  );
}
