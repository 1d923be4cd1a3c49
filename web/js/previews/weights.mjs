// The geometry's weight of exo patches for an ego patch: the twin of egox_core/gga/bias.py, so that
// another λ_g needs neither a run nor the server. tests/web/test_weights.py holds the two equal.

const LOG_FLOOR = 1e-6; // as there

export class Geometry {
  // told: as nodes/show/geometry.py tells it; buffer: its file, laid out by
  // egox_core/page/geometry.py.
  constructor(told, buffer) {
    Object.assign(this, told);
    const [t, h, exo, ego] = told.grid;
    const values = new Float32Array(buffer);
    const ends = [3 * t * h * ego, 3 * t * h * (ego + exo)];
    this.rays = values.subarray(0, ends[0]);
    this.ways = values.subarray(ends[0], ends[1]);
    this.trust = values.subarray(ends[1]);
  }

  // The latent frame that stands for a frame of the video.
  latent(frame) {
    return Math.min(Math.ceil(frame / 4), this.grid[0] - 1);
  }

  // Weights of all exo patches of one latent frame for the ego patch there, row by row; NaN where
  // there is no depth. strength: { mode, lambda, soft }.
  weights(frame, row, column, strength) {
    const [, h, exo, ego] = this.grid;
    const ray = 3 * ((frame * h + row) * ego + column);
    const [x, y, z] = this.rays.subarray(ray, ray + 3);
    const found = new Float64Array(h * exo);
    for (let i = 0; i < found.length; i += 1) {
      const at = frame * h * exo + i;
      const cos = x * this.ways[3 * at] + y * this.ways[3 * at + 1] + z * this.ways[3 * at + 2];
      found[i] = this.trust[at] > 0 ? Math.exp(biasOf(cos, strength, this.trust[at])) : NaN;
    }
    return found;
  }
}

export function biasOf(cosine, { mode, lambda, soft }, trust) {
  if (mode === "off" || lambda === 0) return 0;
  let cos = Math.min(Math.max(cosine, -1), 1);
  if (mode === "released") cos = lambda > 1 && cos <= 0 ? cos : cos * lambda;
  let bias = Math.log(cos + 1 + LOG_FLOOR);
  if (mode === "paper") bias += Math.log(lambda);
  if (mode === "power") bias *= lambda;
  return soft ? bias * trust : bias;
}

// Place of a weight on the legend's scale, 0 to 1; no preference, weight 1, is the middle.
export const place = (weight) => weight / (1 + weight);
